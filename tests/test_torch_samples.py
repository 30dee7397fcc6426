"""Live parity: PyTorch's own sample inputs for its losses, and Optax, where they are installed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

# Our names for PyTorch's options; `weight` is one a class or one a sample.
OPTIONS = {"beta": "beta", "delta": "delta", "pos_weight": "pos_weight", "label_smoothing": "label_smoothing",
           "ignore_index": "ignore_index", "reduction": "reduction"}  # fmt: skip
WITH_CLASSES = ("nll_loss", "cross_entropy")
LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", *WITH_CLASSES)


def sample_inputs(torch, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db

        (info,) = (info for info in op_db if info.name == f"nn.functional.{name}")
        return list(info.sample_inputs("cpu", torch.float64, requires_grad=True))


def legacy_reduction(size_average, reduce):
    """What PyTorch's deprecated pair of flags means."""
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def translate(name, first, second, options):
    """PyTorch's options as ours."""
    options = {key: value.detach().numpy() if hasattr(value, "detach") else value for key, value in options.items()}
    legacy = {key: options.pop(key) for key in ("size_average", "reduce") if key in options}
    ours = {OPTIONS[key]: value for key, value in options.items() if key in OPTIONS and value is not None}
    if any(value is not None for value in legacy.values()):
        ours["reduction"] = legacy_reduction(legacy.get("size_average"), legacy.get("reduce"))
    if name in WITH_CLASSES:
        ours["axis"] = min(1, first.ndim - 1)
        if np.issubdtype(second.dtype, np.floating):
            ours.pop("ignore_index", None)
    if options.get("weight") is not None:
        ours["class_weights" if name in WITH_CLASSES else "weights"] = options["weight"]
    return ours


def ranks_fit(arrays):
    """Whether elementwise arguments meet our rule: equal rank, or one value for all."""
    return len({np.ndim(array) for array in arrays if np.ndim(array)}) <= 1


@pytest.mark.parametrize("name", LOSSES)
def test_pytorchs_own_samples(name):
    torch = pytest.importorskip("torch")
    admitted = refused = 0
    for sample in sample_inputs(torch, name):
        first, second = sample.input, sample.args[0]
        arrays = [tensor.detach().numpy() for tensor in (first, second)]
        options = translate(name, *arrays, sample.kwargs)
        with jax.enable_x64(True):
            per_sample = [options[key] for key in ("weights", "pos_weight") if key in options]
            if name not in WITH_CLASSES and not ranks_fit([*arrays, *per_sample]):
                refused += 1
                with pytest.raises(ValueError, match="has shape"):
                    getattr(jaxloss, name)(*arrays, **options)
                continue
            admitted += 1
            compare(torch, name, sample, arrays, options)
    print(f"{name}: {admitted} samples compared, {refused} of unequal ranks refused")
    assert admitted


def compare(torch, name, sample, arrays, options):
    tensors = [tensor.detach().clone() for tensor in (sample.input, sample.args[0])]
    floating = [i for i, array in enumerate(arrays) if np.issubdtype(array.dtype, np.floating)]
    for i in floating:
        tensors[i].requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's on its own deprecated arguments
        expected = getattr(torch.nn.functional, name)(*tensors, *sample.args[1:], **sample.kwargs)
    expected.sum().backward()

    def total(differentiated):
        everything = list(arrays)
        for i, array in zip(floating, differentiated, strict=True):
            everything[i] = array
        losses = getattr(jaxloss, name)(*everything, **options)
        return losses.sum(), losses

    (_, losses), gradients = jax.value_and_grad(total, has_aux=True)([arrays[i] for i in floating])
    # The mean over nothing is NaN there and 0 here.
    wanted = np.nan_to_num(expected.detach().numpy(), nan=0.0)
    np.testing.assert_allclose(losses, wanted, rtol=1e-12, atol=1e-12)
    for i, gradient in zip(floating, gradients, strict=True):
        np.testing.assert_allclose(gradient, np.nan_to_num(tensors[i].grad.numpy()), rtol=1e-10, atol=1e-12)


def test_optax():
    losses = pytest.importorskip("optax").losses
    generator = np.random.default_rng(0)
    x, y = (jnp.asarray(generator.normal(size=(6, 5)), jnp.float32) for _ in range(2))
    labels = jnp.arange(6) % 5
    with jax.numpy_dtype_promotion("standard"):
        pairs = (
            (lambda x: jaxloss.mse_loss(x, y), lambda x: losses.squared_error(x, y).mean()),
            (lambda x: jaxloss.huber_loss(x, y, delta=0.5), lambda x: losses.huber_loss(x, y, delta=0.5).mean()),
            (
                lambda x: jaxloss.binary_cross_entropy_with_logits(x, jax.nn.sigmoid(y)),
                lambda x: losses.sigmoid_binary_cross_entropy(x, jax.nn.sigmoid(y)).mean(),
            ),
            (
                lambda x: jaxloss.cross_entropy(x, labels),
                lambda x: losses.softmax_cross_entropy_with_integer_labels(x, labels).mean(),
            ),
            (
                lambda x: jaxloss.cross_entropy(x, jax.nn.softmax(y)),
                lambda x: losses.softmax_cross_entropy(x, jax.nn.softmax(y)).mean(),
            ),
        )
        for ours, theirs in pairs:
            for got, expected in zip(jax.value_and_grad(ours)(x), jax.value_and_grad(theirs)(x), strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
