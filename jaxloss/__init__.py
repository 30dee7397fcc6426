"""jaxloss: a loss library for JAX. The losses are pure functions, exact at extreme inputs and smooth at their kinks."""

from jaxloss import imbalance as imbalance
from jaxloss import kinks as kinks
from jaxloss import vectors as vectors
from jaxloss._accumulation import accumulated as accumulated
from jaxloss._data_checks import data_checks as data_checks
from jaxloss._data_checks import require as require
from jaxloss._decorator.lift import loss as loss
from jaxloss._large_output.adaptive import AdaptiveSoftmax as AdaptiveSoftmax
from jaxloss._large_output.cutoffs import adaptive_softmax_cutoffs as adaptive_softmax_cutoffs
from jaxloss.losses.classification import binary_cross_entropy as binary_cross_entropy
from jaxloss.losses.classification import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from jaxloss.losses.classification import cross_entropy as cross_entropy
from jaxloss.losses.classification import nll_loss as nll_loss
from jaxloss.losses.embedding import cosine_embedding_loss as cosine_embedding_loss
from jaxloss.losses.embedding import triplet_margin_loss as triplet_margin_loss
from jaxloss.losses.embedding import triplet_margin_with_distance_loss as triplet_margin_with_distance_loss
from jaxloss.losses.large_output import adaptive_log_softmax_with_loss as adaptive_log_softmax_with_loss
from jaxloss.losses.large_output import linear_cross_entropy as linear_cross_entropy
from jaxloss.losses.likelihood import gaussian_nll_loss as gaussian_nll_loss
from jaxloss.losses.likelihood import kl_div as kl_div
from jaxloss.losses.likelihood import poisson_nll_loss as poisson_nll_loss
from jaxloss.losses.margin import highest_wrong_score as highest_wrong_score
from jaxloss.losses.margin import hinge_embedding_loss as hinge_embedding_loss
from jaxloss.losses.margin import margin_ranking_loss as margin_ranking_loss
from jaxloss.losses.margin import multi_margin_loss as multi_margin_loss
from jaxloss.losses.margin import soft_margin_loss as soft_margin_loss
from jaxloss.losses.margin import target_score as target_score
from jaxloss.losses.multilabel import multilabel_margin_loss as multilabel_margin_loss
from jaxloss.losses.multilabel import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from jaxloss.losses.quantiles import expectile_loss as expectile_loss
from jaxloss.losses.quantiles import quantile_loss as quantile_loss
from jaxloss.losses.regression import huber_loss as huber_loss
from jaxloss.losses.regression import l1_loss as l1_loss
from jaxloss.losses.regression import mse_loss as mse_loss
from jaxloss.losses.regression import smooth_l1_loss as smooth_l1_loss
from jaxloss.losses.relative import absolute_percentage_error as absolute_percentage_error
from jaxloss.losses.relative import squared_logarithmic_error as squared_logarithmic_error
from jaxloss.losses.robust import log_cosh as log_cosh
from jaxloss.options import AxisOptions as AxisOptions
from jaxloss.options import ReductionOptions as ReductionOptions
from jaxloss.options import SampleOptions as SampleOptions
from jaxloss.options import SetOptions as SetOptions
from jaxloss.reductions import Total as Total

__version__ = "0.1.0"
