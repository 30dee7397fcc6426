"""The tables of equivalent calls in the documentation, and the arguments with which the tests run these calls."""

import functools
import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def calls(page):
    """The call of the other library and that of jaxloss, of each row of the tables of a page."""
    text = (DOCS / page).read_text()
    rows = re.findall(r"^\| `(\w+\(.*?)` \| `(.*?)` \|", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `\w+\(", text, re.MULTILINE))
    return rows


def named(page):
    """The functions of the other library that a page has a row for, and those that it says are not available yet."""
    called = {name for call, _ in calls(page) for name in re.findall(r"(\w+)\(", call)}
    lacking = re.findall(r"^\|.*\| not available yet \|$", (DOCS / page).read_text(), re.MULTILINE)
    return called | set(re.findall(r"`(\w+)`", "".join(lacking)))


def waves(*shape):
    """Numbers between -3 and 3 of many sizes and both signs."""
    return 3 * np.sin(np.arange(np.prod(shape), dtype=np.float64) ** 1.5).reshape(shape)


X, Y = waves(2, 6, 4)
PROBABILITIES, DISTRIBUTION = np.asarray(jax.nn.softmax(X)), np.asarray(jax.nn.softmax(Y))
INDICES = Y.argmax(-1).astype(np.int32)
IMAGES = waves(2, 3, 5, 4)  # images, heights, widths, classes
ARGUMENTS = {
    "numbers": {"x": X, "y": Y},
    "positive numbers": {"x": abs(X), "y": abs(Y)},
    "labels": {"x": X, "p": np.asarray(jax.nn.sigmoid(X)), "y": (Y > 0).astype(np.float64)},
    "soft labels": {"x": X, "p": np.asarray(jax.nn.sigmoid(X)), "y": np.asarray(jax.nn.sigmoid(Y))},
    "signs": {"x": X, "y": np.sign(Y)},
    "indices": {"x": X, "p": PROBABILITIES, "y": INDICES},
    "one class": {"x": X, "p": PROBABILITIES, "y": np.eye(4)[INDICES]},
    "distributions": {"x": X, "p": PROBABILITIES, "y": DISTRIBUTION},
    "logarithms": {"x": np.log(PROBABILITIES), "y": DISTRIBUTION},
    "logarithms of both": {"x": np.log(PROBABILITIES), "y": np.log(DISTRIBUTION)},
    "vectors": {"a": X, "p": Y, "n": np.roll(X, 1, axis=0)},
    "set": {"x": X, "e": X / np.linalg.norm(X, axis=-1, keepdims=True), "y": np.array([0, 1, 0, 2, 1, 0])},
    "images": {
        "x": IMAGES,
        "p": np.asarray(jax.nn.softmax(IMAGES)),
        "y": np.eye(4)[np.roll(IMAGES, 1, axis=0).argmax(-1)],
    },
}
"""Arguments by what they are: scores or predictions x, probabilities p and targets y."""
LISTS = {
    "x": X,
    "y": np.maximum(np.round(abs(Y)), np.arange(4) == 1),  # grades from 0 to 3, with ties
    "m": (X > -2) | (np.arange(4) == 1),
    "i": abs(waves(4)),
}
N_FRAMES, N_LABELS = np.array([6, 5]), np.array([3, 2])
ARGUMENTS["sequences"] = {
    "x": waves(2, 6, 4),
    "xp": (np.arange(6) >= N_FRAMES[:, None]).astype(np.float64),
    "y": np.where(np.arange(3) < N_LABELS[:, None], 1 + np.arange(6).reshape(2, 3) // 2, 0),
    "yp": (np.arange(3) >= N_LABELS[:, None]).astype(np.float64),
}
OF_OPTAX = {
    "sigmoid_binary_cross_entropy": "soft labels",
    "softmax_cross_entropy_with_integer_labels": "indices",
    "softmax_cross_entropy": "distributions",
    "safe_softmax_cross_entropy": "distributions",
    "poly_loss_cross_entropy": "distributions",
    "sigmoid_focal_loss": "soft labels",
    "sparsemax_loss": "labels",
    "multiclass_sparsemax_loss": "indices",
    "make_fenchel_young_loss": "distributions",
    "kl_divergence": "logarithms",
    "kl_divergence_with_log_targets": "logarithms of both",
    "generalized_kl_divergence": "logarithms",
    "hinge_loss": "signs",
    "perceptron_loss": "signs",
    "multiclass_perceptron_loss": "indices",
    "multiclass_hinge_loss": "indices",
    "triplet_margin_loss": "vectors",
    "ranking_softmax_loss": "distributions",
    "ctc_loss": "sequences",
    "ntxent": "set",
    "binary_dice_loss": "labels",
    "dice_loss": "images",
    "multiclass_generalized_dice_loss": "images",
}
OF_KERAS = {
    "mean_squared_logarithmic_error": "positive numbers",
    "poisson": "positive numbers",
    "binary_crossentropy": "soft labels",
    "binary_focal_crossentropy": "soft labels",
    "categorical_crossentropy": "distributions",
    "categorical_focal_crossentropy": "distributions",
    "categorical_generalized_cross_entropy": "indices",
    "sparse_categorical_crossentropy": "indices",
    "kl_divergence": "distributions",
    "hinge": "signs",
    "squared_hinge": "signs",
    "categorical_hinge": "one class",
    "dice": "images",
    "tversky": "images",
    "circle": "set",
    "ctc": "sequences",
    "CategoricalCrossentropy": "distributions",
    "SparseCategoricalCrossentropy": "indices",
}
"""What the arguments of a function are; those of others are numbers."""


def arguments(call, kinds):
    """The arguments of a call of another library."""
    given = ARGUMENTS[kinds.get(re.match(r"\w+", call)[0], "numbers")]
    given = given | {"w": np.array([0.5, 2.0, 1.0, 0.0, 0.25, 4.0]), "m": X > -1}
    return {name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in given.items()}


def value_of_ours(call, given):
    """What a call of jaxloss gives, with `reduction="none"` unless it says otherwise."""
    losses = {
        name: functools.partial(function, reduction="none")
        if "reduction" in inspect.signature(function).parameters
        else function
        for name, function in vars(jaxloss).items()
        if inspect.isfunction(function)
    }
    functions = {"logit": jax.scipy.special.logit, "logsumexp": jax.scipy.special.logsumexp, "jax": jax, "jnp": jnp}
    return eval(call, {**losses, **functions, "vectors": jaxloss.vectors, **given})


def value_and_gradient(function, given, of):
    """What a function of named arguments gives, and the gradient of its sum with respect to one, in float64."""

    def total(x):
        value = function(**{**given, of: x})
        return jnp.sum(value), value

    with jax.enable_x64(True):
        (_, value), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(given[of]))
        return np.asarray(value), np.asarray(gradient)
