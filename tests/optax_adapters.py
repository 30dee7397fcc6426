"""The losses of `optax.losses` by Optax's names and arguments, computed by jaxloss. See `tests.run_optax_tests`."""

import functools

import jax
import jax.numpy as jnp

import jaxloss

OF_PREDICTION = {"squared_error": jaxloss.mse_loss, "huber_loss": jaxloss.huber_loss, "log_cosh": jaxloss.log_cosh}
SAME_ARGUMENTS = {
    "safe_softmax_cross_entropy": jaxloss.cross_entropy,
    "sigmoid_binary_cross_entropy": jaxloss.binary_cross_entropy_with_logits,
    "sigmoid_focal_loss": jaxloss.sigmoid_focal_loss,
    "hinge_loss": jaxloss.hinge_loss,
    "perceptron_loss": jaxloss.perceptron_loss,
    "multiclass_hinge_loss": jaxloss.multiclass_hinge_loss,
    "multiclass_perceptron_loss": jaxloss.multiclass_perceptron_loss,
    "sparsemax_loss": jaxloss.sparsemax_loss,
    "multiclass_sparsemax_loss": jaxloss.multiclass_sparsemax_loss,
}


def of_prediction(loss, prediction, targets=None, **options):
    """A loss of a prediction, whose target is 0 unless it is given."""
    targets = jnp.zeros_like(prediction) if targets is None else targets
    return loss(prediction, targets, reduction="none", **options)


def l2_loss(predictions, targets=None):
    return 0.5 * of_prediction(jaxloss.mse_loss, predictions, targets)


def cosine(similarity, predictions, targets, *, axis=-1, where=None):
    """A function of two vectors; an entry that does not count is 0 in both."""
    vectors = (predictions, targets) if where is None else (jnp.where(where, x, 0) for x in (predictions, targets))
    return similarity(*(jnp.moveaxis(vector, axis, -1) for vector in vectors))


def softmax_cross_entropy(logits, labels, axis=-1, where=None):
    return jaxloss.cross_entropy(logits, labels, axis=axis, reduction="none", **masks(logits, axis, where))


def masks(logits, axis, where):
    """Optax's `where`: which samples count, or which classes are possible. A sample with no possible class is 0."""
    if where is None or where.ndim < logits.ndim:
        return {"where": where}
    return {"valid": where, "where": jnp.any(where, axis)}


def poly_loss_cross_entropy(logits, labels, *, epsilon=2.0, axis=-1, where=None):
    if where is not None:
        logits, labels = jnp.where(where, logits, -jnp.inf), jnp.where(where, labels, 0)
    return jaxloss.poly_loss_cross_entropy(logits, labels, epsilon=epsilon, axis=axis, reduction="none")


def divergence(loss, log_predictions, targets, axis=-1, where=None, **options):
    """A loss of each class, added up."""
    return loss(log_predictions, targets, where=where, reduction="none", **options).sum(axis)


def make_fenchel_young_loss(max_fun):
    return functools.partial(jaxloss.fenchel_young_loss, max_fun=max_fun, reduction="none")


def dice_loss(
    predictions,
    targets,
    *,
    class_weights=None,
    smooth=1.0,
    alpha=0.5,
    beta=0.5,
    apply_softmax=True,
    reduction="mean",
    ignore_background=False,
    axis=None,
):
    """Losses `(batch, classes)`, reduced over the classes."""
    predictions, targets = with_classes(predictions, targets)
    activation = jax.nn.sigmoid if predictions.shape[-1] == 1 else jax.nn.softmax
    probabilities = activation(predictions) if apply_softmax else predictions
    axis = tuple(range(1, predictions.ndim - 1)) if axis is None else axis
    losses = jaxloss.tversky_loss(
        probabilities, targets, alpha=alpha, beta=beta, smooth=smooth, axis=axis, reduction="none"
    )
    losses = losses if class_weights is None else losses * class_weights
    losses = losses[..., 1:] if ignore_background and losses.shape[-1] > 1 else losses
    return {"mean": jnp.mean, "sum": jnp.sum, "none": lambda losses, axis: losses}[reduction](losses, axis=-1)


def with_classes(*arrays):
    """The arrays with the rank of the highest one: those of less lack the axis of the classes."""
    rank = max(array.ndim for array in arrays)
    return [array if array.ndim == rank else array[..., None] for array in arrays]


def binary_dice_loss(predictions, targets, *, smooth=1.0, apply_sigmoid=True):
    if predictions.shape[-1] != 1:
        predictions, targets = predictions[..., None], targets[..., None]
    return dice_loss(predictions, targets, smooth=smooth, apply_softmax=apply_sigmoid)


def multiclass_generalized_dice_loss(predictions, targets, *, smooth=1.0, apply_softmax=True, ignore_background=False):
    weights = 1 / (targets.sum(range(targets.ndim - 1)) ** 2 + 1e-7)
    options = {"smooth": smooth, "apply_softmax": apply_softmax, "ignore_background": ignore_background}
    return dice_loss(predictions, targets, class_weights=weights / weights.mean(), **options).mean()


def triplet_margin_loss(anchors, positives, negatives, axis=-1, norm_degree=2, margin=1.0, eps=1e-6):
    options = {"axis": axis, "p": float(norm_degree), "margin": margin, "eps": eps}
    return jaxloss.triplet_margin_loss(anchors, positives, negatives, reduction="none", **options)


def ranking_softmax_loss(logits, labels, *, where=None, weights=None, reduce_fn=jnp.mean):
    """Lists that have no item at all are left out of the mean; those without a relevant item are not."""
    losses = jaxloss.ranking_softmax_loss(logits, labels, valid=where, item_weights=weights, reduction="none")
    if reduce_fn is None:
        return losses
    return reduce_fn(losses, where=None if where is None else jnp.any(where, axis=-1))


def ctc_loss(logits, logit_paddings, labels, label_paddings, *, blank_id=0, log_epsilon=-1e5):
    """Paddings are 0 where there is a frame or a label."""
    lengths = {
        "input_lengths": jnp.sum(logit_paddings == 0, axis=-1),
        "target_lengths": jnp.sum(label_paddings == 0, axis=-1),
    }
    return jaxloss.ctc_loss(jax.nn.log_softmax(logits), labels, **lengths, blank=blank_id, reduction="none")


ADAPTERS = {
    **{name: functools.partial(of_prediction, loss) for name, loss in OF_PREDICTION.items()},
    **{name: functools.partial(loss, reduction="none") for name, loss in SAME_ARGUMENTS.items()},
    "l2_loss": l2_loss,
    "cosine_similarity": functools.partial(cosine, jaxloss.vectors.cosine_similarity),
    "cosine_distance": functools.partial(cosine, jaxloss.vectors.cosine_distance),
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_with_integer_labels": softmax_cross_entropy,
    "poly_loss_cross_entropy": poly_loss_cross_entropy,
    "kl_divergence": functools.partial(divergence, jaxloss.kl_div),
    "kl_divergence_with_log_targets": functools.partial(divergence, jaxloss.kl_div, log_target=True),
    "generalized_kl_divergence": functools.partial(divergence, jaxloss.generalized_kl_div),
    "make_fenchel_young_loss": make_fenchel_young_loss,
    "dice_loss": dice_loss,
    "binary_dice_loss": binary_dice_loss,
    "multiclass_generalized_dice_loss": multiclass_generalized_dice_loss,
    "triplet_margin_loss": triplet_margin_loss,
    "ranking_softmax_loss": ranking_softmax_loss,
    "ntxent": jaxloss.ntxent_loss,
    "ctc_loss": ctc_loss,
}
