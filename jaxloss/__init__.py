"""jaxloss: a loss library for JAX. The losses are pure functions, exact at extreme inputs and smooth at their kinks."""

from jaxloss import imbalance as imbalance
from jaxloss import kinks as kinks
from jaxloss import miners as miners
from jaxloss import vectors as vectors
from jaxloss._accumulation import accumulated as accumulated
from jaxloss._data_checks import data_checks as data_checks
from jaxloss._data_checks import require as require
from jaxloss._decorator.lift import loss as loss
from jaxloss._large_output.adaptive import AdaptiveSoftmax as AdaptiveSoftmax
from jaxloss._large_output.cutoffs import adaptive_softmax_cutoffs as adaptive_softmax_cutoffs
from jaxloss.losses.angular import arcface_loss as arcface_loss
from jaxloss.losses.angular import cosface_loss as cosface_loss
from jaxloss.losses.boxes import box_iou_loss as box_iou_loss
from jaxloss.losses.boxes import complete_box_iou_loss as complete_box_iou_loss
from jaxloss.losses.boxes import distance_box_iou_loss as distance_box_iou_loss
from jaxloss.losses.boxes import generalized_box_iou_loss as generalized_box_iou_loss
from jaxloss.losses.class_probability import generalized_cross_entropy as generalized_cross_entropy
from jaxloss.losses.class_probability import poly_loss_cross_entropy as poly_loss_cross_entropy
from jaxloss.losses.class_probability import softmax_focal_loss as softmax_focal_loss
from jaxloss.losses.classification import binary_cross_entropy as binary_cross_entropy
from jaxloss.losses.classification import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from jaxloss.losses.classification import cross_entropy as cross_entropy
from jaxloss.losses.classification import nll_loss as nll_loss
from jaxloss.losses.contrastive import info_nce_loss as info_nce_loss
from jaxloss.losses.contrastive import siglip_loss as siglip_loss
from jaxloss.losses.counts import negative_binomial_nll_loss as negative_binomial_nll_loss
from jaxloss.losses.distillation import distillation_loss as distillation_loss
from jaxloss.losses.distillation import jensen_shannon_loss as jensen_shannon_loss
from jaxloss.losses.divergences import generalized_kl_div as generalized_kl_div
from jaxloss.losses.embedding import cosine_embedding_loss as cosine_embedding_loss
from jaxloss.losses.embedding import triplet_margin_loss as triplet_margin_loss
from jaxloss.losses.embedding import triplet_margin_with_distance_loss as triplet_margin_with_distance_loss
from jaxloss.losses.focal import asymmetric_loss as asymmetric_loss
from jaxloss.losses.focal import sigmoid_focal_loss as sigmoid_focal_loss
from jaxloss.losses.hinge import hinge_loss as hinge_loss
from jaxloss.losses.hinge import multiclass_hinge_loss as multiclass_hinge_loss
from jaxloss.losses.hinge import multiclass_perceptron_loss as multiclass_perceptron_loss
from jaxloss.losses.hinge import perceptron_loss as perceptron_loss
from jaxloss.losses.hinge import squared_hinge_loss as squared_hinge_loss
from jaxloss.losses.labelled_contrastive import ntxent_loss as ntxent_loss
from jaxloss.losses.labelled_contrastive import supcon_loss as supcon_loss
from jaxloss.losses.large_output import adaptive_log_softmax_with_loss as adaptive_log_softmax_with_loss
from jaxloss.losses.large_output import linear_cross_entropy as linear_cross_entropy
from jaxloss.losses.likelihood import gaussian_nll_loss as gaussian_nll_loss
from jaxloss.losses.likelihood import kl_div as kl_div
from jaxloss.losses.likelihood import poisson_nll_loss as poisson_nll_loss
from jaxloss.losses.linear_distillation import linear_distillation_loss as linear_distillation_loss
from jaxloss.losses.linear_distillation import (
    linear_distillation_loss_from_logits as linear_distillation_loss_from_logits,
)
from jaxloss.losses.linear_distillation import (
    linear_distillation_loss_from_top_k as linear_distillation_loss_from_top_k,
)
from jaxloss.losses.log_probability import linear_log_probability as linear_log_probability
from jaxloss.losses.margin import highest_wrong_score as highest_wrong_score
from jaxloss.losses.margin import hinge_embedding_loss as hinge_embedding_loss
from jaxloss.losses.margin import margin_ranking_loss as margin_ranking_loss
from jaxloss.losses.margin import multi_margin_loss as multi_margin_loss
from jaxloss.losses.margin import soft_margin_loss as soft_margin_loss
from jaxloss.losses.margin import target_score as target_score
from jaxloss.losses.mining import batch_hard_triplet_loss as batch_hard_triplet_loss
from jaxloss.losses.mining import semi_hard_triplet_loss as semi_hard_triplet_loss
from jaxloss.losses.multilabel import multilabel_margin_loss as multilabel_margin_loss
from jaxloss.losses.multilabel import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from jaxloss.losses.ordinal import coral_loss as coral_loss
from jaxloss.losses.proxy import proxy_anchor_loss as proxy_anchor_loss
from jaxloss.losses.quantiles import expectile_loss as expectile_loss
from jaxloss.losses.quantiles import quantile_loss as quantile_loss
from jaxloss.losses.ranking import listmle_loss as listmle_loss
from jaxloss.losses.ranking import ndcg_pair_weights as ndcg_pair_weights
from jaxloss.losses.ranking import pairwise_hinge_loss as pairwise_hinge_loss
from jaxloss.losses.ranking import pairwise_logistic_loss as pairwise_logistic_loss
from jaxloss.losses.ranking import ranking_softmax_loss as ranking_softmax_loss
from jaxloss.losses.rates import gamma_nll_loss as gamma_nll_loss
from jaxloss.losses.rates import tweedie_nll_loss as tweedie_nll_loss
from jaxloss.losses.regression import huber_loss as huber_loss
from jaxloss.losses.regression import l1_loss as l1_loss
from jaxloss.losses.regression import mse_loss as mse_loss
from jaxloss.losses.regression import smooth_l1_loss as smooth_l1_loss
from jaxloss.losses.relative import absolute_percentage_error as absolute_percentage_error
from jaxloss.losses.relative import squared_logarithmic_error as squared_logarithmic_error
from jaxloss.losses.robust import general_robust_loss as general_robust_loss
from jaxloss.losses.robust import log_cosh as log_cosh
from jaxloss.losses.scores import energy_score as energy_score
from jaxloss.losses.scores import ensemble_crps as ensemble_crps
from jaxloss.losses.scores import gaussian_crps as gaussian_crps
from jaxloss.losses.segmentation import dice_loss as dice_loss
from jaxloss.losses.segmentation import jaccard_loss as jaccard_loss
from jaxloss.losses.segmentation import lovasz_hinge_loss as lovasz_hinge_loss
from jaxloss.losses.segmentation import lovasz_softmax_loss as lovasz_softmax_loss
from jaxloss.losses.segmentation import tversky_loss as tversky_loss
from jaxloss.losses.self_supervised import barlow_twins_loss as barlow_twins_loss
from jaxloss.losses.self_supervised import vicreg_loss as vicreg_loss
from jaxloss.losses.similarity import circle_loss as circle_loss
from jaxloss.losses.similarity import multi_similarity_loss as multi_similarity_loss
from jaxloss.losses.simplex import fenchel_young_loss as fenchel_young_loss
from jaxloss.losses.simplex import multiclass_sparsemax_loss as multiclass_sparsemax_loss
from jaxloss.losses.simplex import sparsemax_loss as sparsemax_loss
from jaxloss.options import AxisOptions as AxisOptions
from jaxloss.options import MaskOptions as MaskOptions
from jaxloss.options import ReductionOptions as ReductionOptions
from jaxloss.options import SampleOptions as SampleOptions
from jaxloss.options import SetOptions as SetOptions
from jaxloss.reductions import Total as Total

__version__ = "0.1.0"
