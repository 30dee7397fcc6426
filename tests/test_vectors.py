"""Norms, distances and cosines, also where other libraries fail: equal, zero, tiny and huge vectors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import vectors

POWERS = (1.0, 1.5, 2.0, 3.0, float("inf"))
each_power = pytest.mark.parametrize("p", POWERS)
on_each_platform = pytest.mark.usefixtures("each_platform")
X = np.array([0.3, -1.2, 0.0, 2.5, -0.7], np.float32)
Y = np.array([1.1, 0.4, -0.6, 2.0, 0.9], np.float32)
# The squares of the first and the last are beyond the range of float32.
SCALES = (1e-30, 1.0, 1e30)


def each_power_and_platform(test):
    """Each power on a CPU, and on other platforms 2, whose squares they add up in another way."""
    cases = [*[(p, "cpu") for p in POWERS], (2.0, "default")]
    return on_each_platform(pytest.mark.parametrize(("p", "each_platform"), cases, indirect=["each_platform"])(test))


def slope_of(x, p):
    """The gradient of a norm in float64."""
    if p == np.inf:
        return np.where(np.abs(x) == np.abs(x).max(), np.sign(x), 0)
    return np.sign(x) * (np.abs(x) / np.linalg.norm(x, p)) ** (p - 1)


@each_power_and_platform
@pytest.mark.parametrize("scale", SCALES)
def test_norms_are_accurate_at_every_scale(p, scale):
    x = np.float32(scale) * X
    exact = x.astype(np.float64)
    value, gradient = jax.value_and_grad(vectors.norm)(x, p, kink_width=0.0)
    np.testing.assert_allclose(value, np.linalg.norm(exact, p), rtol=1e-6)
    np.testing.assert_allclose(gradient, slope_of(exact, p), rtol=1e-5, atol=1e-6)


@each_power
def test_the_zero_vector_has_gradient_0_and_a_finite_hessian(p):
    for x in (np.zeros(3, np.float32), np.full(3, 1e-45, np.float32)):
        value, gradient = jax.value_and_grad(vectors.norm)(x, p)
        assert value <= 1e-37
        # A GPU computes with subnormal numbers, and a CPU takes them for 0.
        assert np.abs(gradient).max() <= (1e-37 if np.any(x) else 0)
        assert np.isfinite(jax.hessian(vectors.norm)(x, p)).all()


@on_each_platform
def test_derivatives_where_the_unit_of_the_squares_changes():
    xs, other = np.float32([[1.49, 0.745, -0.3], [-0.3, 1, 0.25]]), np.float32([0.5, -2, 1])
    norm = functools.partial(vectors.norm, kink_width=0.0)
    functions = norm, vectors.normalize, functools.partial(vectors.cosine_similarity, other)

    def derivatives(functions, x, scale):
        norm, *others = functions
        x = scale * x
        slopes, curvatures = ([f(function)(x) for function in others] for f in (jax.jacrev, jax.hessian))
        scaled = norm(x) / scale, [scale * slope for slope in slopes], [scale * scale * each for each in curvatures]
        return scaled, jax.grad(norm)(x), [function(x) for function in others]

    length, unit = jnp.linalg.norm, other / np.linalg.norm(other.astype(float))
    plain = length, lambda x: x / length(x), lambda x: unit @ x / length(x)
    with jax.enable_x64(True):
        expected = jax.vmap(lambda x: derivatives(plain, x, 1.0))(xs.astype(float))
    of_scale = jax.jit(jax.vmap(functools.partial(derivatives, functions), (0, None)))
    for exponent in (-60, -43, -41, -40, -39, 0, 49, 50, 51, 55):
        for one, another in zip(*map(jax.tree.leaves, (of_scale(xs, 2.0**exponent), expected)), strict=True):
            np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-6)


@each_power_and_platform
@pytest.mark.parametrize(
    "x", [X, 1e30 * X, np.float32([2e38, 1e38]), np.float32([2, -2, 2]), np.float32([3, 0, 0])], ids=str
)
def test_hessians_are_finite_and_symmetric(p, x):
    hessian = np.asarray(jax.hessian(vectors.norm)(x, p))
    assert np.isfinite(hessian).all()
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-3, atol=1e-6 * np.abs(hessian).max() + 1e-37)


@each_power
@pytest.mark.parametrize("width", [0.1, 1.0])
def test_the_gradient_of_a_norm_integrates_to_its_change_through_zero(p, width):
    with jax.enable_x64(True):
        direction = np.array([0.6, -0.8, 0.3])
        t = np.linspace(-10, 15, 25001)
        slopes = jax.vmap(jax.grad(lambda t: vectors.norm(t * direction, p, width)))(t)
        rise = np.linalg.norm(15 * direction, p) - np.linalg.norm(10 * direction, p)
        np.testing.assert_allclose(np.trapezoid(slopes, t), rise, atol=1e-6)
        assert np.all(np.diff(slopes) >= -1e-12)
        assert np.abs(np.diff(slopes)).max() < 0.02 / width


def test_distances_add_eps_to_each_difference_and_are_0_between_equal_vectors():
    value = vectors.distance(X, Y, eps=0.1)
    np.testing.assert_allclose(value, np.linalg.norm(X.astype(float) - Y + 0.1), rtol=1e-6)
    for p in POWERS:
        value, gradients = jax.value_and_grad(vectors.distance, (0, 1))(X, X, p=p)
        assert value == 0
        assert not np.any(gradients)
    far = jax.value_and_grad(vectors.distance)(np.float32([3e38, 1]), np.float32([-3e38, 0]))
    assert np.isinf(far[0])
    np.testing.assert_allclose(far[1], [1, 0], atol=1e-6)


@on_each_platform
@pytest.mark.parametrize("scales", [(a, b) for a in SCALES for b in SCALES], ids=str)
def test_a_cosine_depends_only_on_directions(scales):
    x, y = np.float32(scales[0]) * X, np.float32(scales[1]) * Y
    exact = [v.astype(np.float64) for v in (x, y)]
    lengths = [np.linalg.norm(v) for v in exact]
    cosine = exact[0] @ exact[1] / np.prod(lengths)
    value, gradient = jax.value_and_grad(vectors.cosine_similarity)(x, y)
    np.testing.assert_allclose(value, cosine, rtol=1e-6)
    expected = (exact[1] / lengths[1] - cosine * exact[0] / lengths[0]) / lengths[0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@on_each_platform
def test_cosines_of_equal_opposite_and_zero_vectors():
    zero = np.zeros(5, np.float32)
    for x, y, cosine in ((X, X, 1), (X, -X, -1), (X, zero, 0), (zero, zero, 0)):
        value, gradients = jax.value_and_grad(vectors.cosine_similarity, (0, 1))(x, y)
        np.testing.assert_allclose(value, cosine, rtol=1e-6)
        assert np.abs(value) <= 1
        np.testing.assert_allclose(gradients, np.zeros((2, 5)), atol=1e-6)
        assert np.isfinite(jax.hessian(vectors.cosine_similarity, (0, 1))(x, y)).all()


def test_a_cosine_distance_is_accurate_for_small_angles():
    x, zero = np.float32([1, 0]), np.zeros(2, np.float32)
    for angle in (1e-2, 1e-5, 1e-15):
        y = np.float32([np.cos(angle), np.sin(angle)])
        value, gradient = jax.value_and_grad(vectors.cosine_distance)(x, y)
        np.testing.assert_allclose(value, float(y[1]) ** 2 / 2, rtol=1e-4)  # rounding changes the length of y
        np.testing.assert_allclose(gradient, [0, -y[1]], rtol=1e-5, atol=1e-12)
    for y, distance in ((x, 0), (-x, 2), (np.float32([0, 1]), 1), (zero, 1)):
        value, gradients = jax.value_and_grad(vectors.cosine_distance, (0, 1))(x, y)
        assert value == distance
        assert np.isfinite(gradients).all()
        assert np.isfinite(jax.hessian(vectors.cosine_distance)(x, y)).all()


ZERO, HUGE = np.zeros(5, np.float32), np.float32(1e37) * X
TRIPLETS = {
    "equal": (X, X, X),
    "equal to the negative": (X, Y, X),
    "zero": (ZERO, ZERO, ZERO),
    "one zero": (ZERO, X, Y),
    "huge": (HUGE, -HUGE, np.roll(HUGE, 1)),
    "huge and equal": (HUGE, HUGE, -HUGE),
}


@functools.cache
def triplet_derivatives(swap, p):
    """Maps a triplet to the loss, its gradients and its Hessian, in one program."""

    def loss(*triplet):
        return jaxloss.triplet_margin_loss(*triplet, p=p, swap=swap, eps=0.0)

    by = (0, 1, 2)
    return jax.jit(lambda *triplet: (*jax.value_and_grad(loss, by)(*triplet), jax.hessian(loss, by)(*triplet)))


@pytest.mark.parametrize("case", TRIPLETS)
@pytest.mark.parametrize("swap", [False, True])
@each_power
def test_triplets_of_equal_zero_and_huge_vectors(case, swap, p):
    anchor, positive, negative = (v.astype(np.float64) for v in TRIPLETS[case])
    farther = np.linalg.norm(anchor - negative, p)
    if swap:
        farther = min(farther, np.linalg.norm(positive - negative, p))
    expected = max(np.linalg.norm(anchor - positive, p) - farther + 1, 0)

    value, gradients, hessian = triplet_derivatives(swap, p)(*TRIPLETS[case])
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6 * np.abs(anchor).max())
    assert np.isfinite(gradients).all()
    assert np.isfinite(hessian).all()


PAIRS = {"equal": (X, X), "opposite": (X, -X), "zero": (ZERO, ZERO), "one zero": (ZERO, X), "huge": (HUGE, HUGE[::-1])}


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("target", [1, -1])
def test_cosine_embedding_of_equal_zero_and_huge_vectors(case, target):
    def loss(*pair):
        return jaxloss.cosine_embedding_loss(*pair, target)

    x, y = (v.astype(np.float64) for v in PAIRS[case])
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    cosine = x @ y / lengths if lengths else 0.0
    np.testing.assert_allclose(loss(*PAIRS[case]), 1 - cosine if target == 1 else max(cosine, 0), atol=1e-6)
    assert np.isfinite(jax.grad(loss, (0, 1))(*PAIRS[case])).all()
    assert np.isfinite(jax.hessian(loss, (0, 1))(*PAIRS[case])).all()


def test_an_entry_of_0_is_not_a_kink_for_p_between_2_and_3():
    x = np.float32([0.1, -2.0, 0.3])
    gradient = jax.grad(vectors.norm)(x, 2.5, kink_width=0.5)
    np.testing.assert_allclose(gradient, slope_of(x.astype(np.float64), 2.5), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("p", [1.0, 2.0, float("inf")])
def test_distances_of_tiny_vectors_are_accurate(dtype, p):
    # Differences between these must be normal numbers. Subnormal ones count as 0, and entries would tie.
    tiny = 1e-3 if dtype == np.float16 else 1e-33 if p == np.inf else 1e-36
    x = np.random.default_rng(0).uniform(tiny, 2 * tiny, 1000).astype(dtype)
    value, gradient = jax.value_and_grad(vectors.distance)(x, np.zeros_like(x), p=p, kink_width=0.0)
    exact = x.astype(np.float64)
    rtol = 1e-6 if dtype == np.float32 else 5e-3
    np.testing.assert_allclose(value, np.linalg.norm(exact, p), rtol=rtol)
    np.testing.assert_allclose(gradient, slope_of(exact, p), rtol=rtol)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
def test_no_distance_overflows_in_its_unit(p):
    for d in (1, 2, 3, 64, 1000):
        unit = vectors.unit(d, p)
        assert np.log2(unit) % 1 == 0
        assert 2 * d ** (1 / p) <= unit <= 4 * d ** (1 / p)
    largest = np.full(64, np.finfo(np.float32).max) / np.float32(vectors.unit(64, p))
    assert np.isfinite(vectors.distance(largest, -largest, p=p))


def test_equal_entries_share_the_gradient_of_a_norm_of_high_power():
    for p in (100.0, 1000.0, 1e8):
        gradient = jax.grad(vectors.norm)(np.ones(2, np.float32), p)
        np.testing.assert_allclose(gradient, np.full(2, 2 ** (1 / p) / 2), rtol=1e-6)


def test_each_vector_may_have_its_own_width():
    x, widths = np.full((2, 3), 0.1, np.float32), np.array([0.0, 2.0], np.float32)
    for p in POWERS:
        together = jax.grad(lambda x, p=p: vectors.norm(x, p, widths).sum())(x)
        apart = [jax.grad(vectors.norm)(row, p, float(width)) for row, width in zip(x, widths, strict=True)]
        np.testing.assert_allclose(together, apart, rtol=1e-6)
        distances = jax.grad(lambda x, p=p: vectors.distance(x, 0 * x, p=p, kink_width=widths).sum())(x)
        np.testing.assert_allclose(distances, apart, rtol=1e-6)


def test_errors():
    for function in (vectors.distance, vectors.cosine_similarity, vectors.cosine_distance):
        with pytest.raises(ValueError, match=r"vectors\.\w+: takes two arrays of one shape, got \(4, 3\) and \(4, 1\)"):
            function(jnp.ones((4, 3)), jnp.ones((4, 1)))
    with pytest.raises(TypeError, match=r"vectors\.norm: p is of type str but takes a real number"):
        vectors.norm(X, "2")
    for function in (lambda x: vectors.norm(x), lambda x: vectors.cosine_similarity(x, x)):
        with pytest.raises(TypeError, match=r"vectors\.\w+: \w+ has dtype int32 but takes floating numbers"):
            function(jnp.ones(3, jnp.int32))
        with pytest.raises(ValueError, match=r"vectors\.\w+: \w+ has shape \(\) but takes vectors"):
            function(jnp.float32(1))
    with pytest.raises(ValueError, match=r"vectors\.norm: p is 0.5 but must lie in \[1, inf\]"):
        vectors.norm(X, 0.5)
    with pytest.raises(ValueError, match=r"vectors\.norm: kink_width is -1 but must lie in \[0, inf\)"):
        vectors.norm(X, kink_width=-1)


@on_each_platform
@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6, 1e-8, 0.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_of_a_cosine_is_perpendicular_however_small_the_angle(angle, sign):
    y = sign * (X + np.float32(angle) * Y)
    by_x, by_y = jax.grad(vectors.cosine_similarity, (0, 1))(X, y)
    for gradient, vector in ((by_x, X), (by_y, y)):
        along = np.dot(np.float64(gradient), np.float64(vector))
        assert abs(along) <= 4e-7 * np.linalg.norm(gradient) * np.linalg.norm(vector)


def test_the_distance_of_opposite_vectors_is_at_most_2():
    x = np.random.default_rng(0).normal(size=(2000, 5)).astype(np.float32)
    distances = np.asarray(vectors.cosine_distance(x, -3 * x))
    assert distances.max() == 2
    assert distances.min() > 2 - 1e-6


@each_power_and_platform
def test_norms_of_vectors_close_to_overflow(p):
    x = np.float32([1.5e38, -1e38, 3e37])
    value, gradient = jax.value_and_grad(vectors.norm)(x, p, kink_width=0.0)
    np.testing.assert_allclose(value, np.linalg.norm(x.astype(np.float64), p), rtol=1e-6)
    np.testing.assert_allclose(gradient, slope_of(x.astype(np.float64), p), rtol=1e-5, atol=1e-6)


@on_each_platform
def test_the_cosine_of_parallel_vectors_is_exact():
    for factor in (3, -7, 0.1):
        for x in (X, np.float32([1, 1e20, 3])):
            y = np.float32(factor) * x
            distance = vectors.cosine_distance(x, y)
            assert distance <= 2e-14 if factor > 0 else distance >= 2 - 3e-7
    assert vectors.cosine_distance(X, 2 * X) == 0
    assert vectors.cosine_similarity(np.float32([3e20, 1]), np.float32([-7, 1e-30])) == -1


@on_each_platform
@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1.0, 1e30])
def test_normalized_vectors_have_length_1_at_any_scale(scale):
    x = (np.asarray(X, np.float64) * scale).astype(np.float32)
    wide = x.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    np.testing.assert_allclose(vectors.normalize(x), wide / length, rtol=3e-7)
    cotangent = np.linspace(-1, 1, x.size, dtype=np.float32).reshape(x.shape)
    _, pull = jax.vjp(vectors.normalize, jnp.asarray(x))
    direction = wide / length
    expected = (cotangent - (cotangent * direction).sum(-1, keepdims=True) * direction) / length
    np.testing.assert_allclose(pull(cotangent)[0] * scale, expected * scale, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(jax.jacobian(vectors.normalize)(jnp.zeros(3)), 0)
