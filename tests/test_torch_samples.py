"""Live parity with PyTorch, on the sample inputs of its own tests, and with Optax, if they are installed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.record_reference import PACK
from tests.registry import REGISTRY

ROWS = {row.name: row for row in REGISTRY if row.in_torch and row.name not in PACK}  # the rest are modules in PyTorch
# Losses with one `weight` per class; in all others it is per sample.
CLASS_WEIGHTED = (
    "nll_loss",
    "cross_entropy",
    "linear_cross_entropy",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
)
TWO_CASES = ("hinge_embedding_loss", "cosine_embedding_loss")
N_FLOAT32 = 40  # enough, because the programs are those of float64 in another dtype
LAYERS = ("linear_cross_entropy",)  # PyTorch's kernel is (C, D), ours (D, C)
CLASS_AXIS_SECOND = ("nll_loss", "cross_entropy")


def sample_inputs(torch, name, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db

        torch.manual_seed(0)
        infos = [info for info in op_db if info.name == f"nn.functional.{name}"]
        return [sample for info in infos for sample in info.sample_inputs("cpu", dtype, requires_grad=True)]


def legacy_reduction(size_average, reduce):
    """The meaning of PyTorch's pair of deprecated flags."""
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def translate(name, arrays, options):
    """PyTorch's options in our spelling, without those that are None."""
    ours = {key: value.detach().numpy() if hasattr(value, "detach") else value for key, value in options.items()}
    ours = {key: value for key, value in ours.items() if value is not None}
    if "size_average" in ours or "reduce" in ours:
        ours["reduction"] = legacy_reduction(ours.pop("size_average", None), ours.pop("reduce", None))
    if "weight" in ours:
        ours["class_weights" if name in CLASS_WEIGHTED else "weights"] = ours.pop("weight")
    if name in CLASS_AXIS_SECOND:
        ours["axis"] = min(1, arrays[0].ndim - 1)
        if np.issubdtype(arrays[1].dtype, np.floating):
            ours.pop("ignore_index", None)
    if "linear_bias" in ours:
        ours["bias"] = ours.pop("linear_bias")
    ours.pop("options", None)  # for chunking in PyTorch
    ours.pop("distance_function", None)  # always the default in the samples
    return ours


def admitted(name, arrays, options):
    """Whether jaxloss accepts the shapes: batch axes of equal rank or none, and all of them in a prediction."""
    row = ROWS[name]
    cores = row.cores
    if name in ("cross_entropy", "linear_cross_entropy"):
        cores = (*cores[:-1], int(np.issubdtype(arrays[-1].dtype, np.floating)))
    batch_ranks = [a.ndim - core for a, core in zip(arrays, cores, strict=True)]
    batch_ranks += [np.ndim(options[key]) for key in ("weights", "pos_weight") if key in options]
    is_whole = not row.declaration.is_prediction or batch_ranks[0] == max(batch_ranks)
    fits = min(batch_ranks) >= 0 and len(set(batch_ranks) - {0}) <= 1
    return is_whole and fits and np.ndim(options.get("class_weights", [1])) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ROWS)
def test_sample_inputs_of_pytorch(torch, name, dtype):
    compared = refused = 0
    samples = sample_inputs(torch, name, getattr(torch, dtype))
    for sample in samples[:: 1 if dtype == "float64" else -(-len(samples) // N_FLOAT32)]:
        arrays = [tensor.detach().numpy() for tensor in (sample.input, *sample.args)]
        if name in LAYERS and arrays[1].ndim == 2:
            arrays[1] = arrays[1].T
        options = translate(name, arrays, sample.kwargs)
        with jax.enable_x64(dtype == "float64"):
            if name in TWO_CASES and not np.isin(arrays[-1], (-1, 1)).all():
                # One sample of PyTorch has random targets, for which it adds both cases.
                with jax.debug_nans(False):
                    assert np.isnan(getattr(jaxloss, name)(*arrays, **options))
                refused += 1
            elif admitted(name, arrays, options):
                compare(torch, name, sample, arrays, options)
                compared += 1
            else:
                with pytest.raises(ValueError, match="has shape"):
                    getattr(jaxloss, name)(*arrays, **options)
                refused += 1
    print(f"{name}, {dtype}: {compared} samples compared, {refused} outside the contract")
    assert compared


def compare(torch, name, sample, arrays, options):
    tensors = [tensor.detach().clone() for tensor in (sample.input, *sample.args)]
    floating = [i for i, array in enumerate(arrays) if np.issubdtype(array.dtype, np.floating)]
    # PyTorch has no derivative with respect to some targets: it raises an error or leaves the gradient out.
    floating = [i for i in floating if (sample.input, *sample.args)[i].requires_grad]
    for i in floating:
        tensors[i].requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's warnings about its own deprecated arguments
        expected = getattr(torch.nn.functional, name)(*tensors, **sample.kwargs)
    expected.sum().backward()
    floating = [i for i in floating if tensors[i].grad is not None]

    def total(differentiated):
        everything = list(arrays)
        for i, array in zip(floating, differentiated, strict=True):
            everything[i] = array
        losses = getattr(jaxloss, name)(*everything, **options)
        return losses.sum(), losses

    (_, losses), gradients = jax.value_and_grad(total, has_aux=True)([arrays[i] for i in floating])
    exact = arrays[0].dtype == np.float64
    wanted = expected.detach().numpy()
    is_empty_mean = expected.ndim == 0 and np.isnan(wanted)  # a mean over no samples: NaN in PyTorch and 0 here
    if is_empty_mean:
        wanted = np.zeros_like(wanted)
    np.testing.assert_allclose(losses, wanted, rtol=1e-12 if exact else 2e-6, atol=1e-12 if exact else 2e-6)
    for i, gradient in zip(floating, gradients, strict=True):
        slope = np.zeros_like(arrays[i]) if is_empty_mean else tensors[i].grad.numpy()
        slope = slope.T if name in LAYERS and i == 1 else slope
        np.testing.assert_allclose(gradient, slope, rtol=1e-10 if exact else 1e-5, atol=1e-12 if exact else 1e-5)


def test_matches_optax():
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
