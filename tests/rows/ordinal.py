"""Losses of classes that have an order."""

import jaxloss
from tests.references import ordinal
from tests.row import Row

ROWS = (Row(jaxloss.coral_loss, draw=ordinal.draw_ordinal, reference=ordinal.coral, in_torch=False),)
