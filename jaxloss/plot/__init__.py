"""Plots of losses. Requires matplotlib: `pip install 'jaxloss[plot]'`, then `import jaxloss.plot`."""

from jaxloss.plot._figures import STYLE as STYLE
from jaxloss.plot._moving import descent as descent
from jaxloss.plot._moving import moving_boxes as moving_boxes
from jaxloss.plot._moving import moving_points as moving_points
from jaxloss.plot._moving import moving_scores as moving_scores
from jaxloss.plot._profiles import Panel as Panel
from jaxloss.plot._profiles import gallery as gallery
from jaxloss.plot._profiles import profile as profile
