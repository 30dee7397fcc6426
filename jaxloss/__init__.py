"""jaxloss: the losses of PyTorch, Optax and Keras as pure JAX functions, exact at the extremes, smooth at the kinks."""

from jaxloss import kinks as kinks
from jaxloss.checks import data_checks as data_checks
from jaxloss.classification import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from jaxloss.classification import cross_entropy as cross_entropy
from jaxloss.classification import nll_loss as nll_loss
from jaxloss.lift import loss as loss
from jaxloss.options import AxisOptions as AxisOptions
from jaxloss.options import ReductionOptions as ReductionOptions
from jaxloss.reductions import Total as Total
from jaxloss.regression import huber_loss as huber_loss
from jaxloss.regression import l1_loss as l1_loss
from jaxloss.regression import mse_loss as mse_loss
from jaxloss.regression import smooth_l1_loss as smooth_l1_loss

__version__ = "0.1.0"
