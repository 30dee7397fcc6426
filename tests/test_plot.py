"""Plots of losses."""

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import jaxloss

mpl.use("Agg")


@pytest.fixture
def plot():
    from matplotlib import pyplot as plt

    import jaxloss.plot

    yield jaxloss.plot
    plt.close("all")


def test_profile_draws_value_gradient_and_curvature(plot):
    axes = plot.profile(lambda x: jaxloss.mse_loss(x, 1.0), -2, 2, xlabel="prediction")
    value, gradient, curvature = (line.get_ydata() for line in axes.lines[:3])
    x = axes.lines[0].get_xdata()
    np.testing.assert_allclose(value, (x - 1) ** 2, rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 * (x - 1), rtol=1e-6)
    np.testing.assert_allclose(curvature, np.full_like(x, 2), rtol=1e-6)
    assert axes.get_xlabel() == "prediction"
    assert axes.get_title() == ""
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["value", "gradient", "curvature"]
    assert axes.get_xlim() == (-2, 2)
    assert axes.get_ylim()[0] < -6 < 9 < axes.get_ylim()[1]


def test_profile_draws_into_given_axes_and_cuts_off_a_spike(plot):
    from matplotlib import pyplot as plt

    _, panels = plt.subplots(2)
    axes = plot.profile(lambda x: jaxloss.l1_loss(x, 0.0), -1, 1, title="l1_loss", axes=panels[1])
    assert axes is panels[1]
    assert not panels[0].lines
    assert axes.get_legend() is None
    assert axes.get_title() == "l1_loss"
    assert np.max(axes.lines[2].get_ydata()) > 1e3 > axes.get_ylim()[1]


@pytest.mark.parametrize("margin", [-1.0, 0.0, 1.0])
def test_profile_has_a_point_on_a_kink_at_a_round_number(plot, margin):
    axes = plot.profile(lambda x: jaxloss.margin_ranking_loss(x, 0.0, 1.0, margin=margin), -2, 2)
    x, curvature = axes.lines[2].get_data()
    assert x[np.argmax(curvature)] == margin
    assert np.max(curvature) > 1e3
    assert axes.get_legend_handles_labels()[1] == ["value", "gradient", "curvature"]


def test_lines_differ_in_dash_and_in_lightness(plot):
    cycle = list(plot.STYLE["axes.prop_cycle"])
    assert len({entry["linestyle"] for entry in cycle}) == len(cycle)
    grey = [np.dot(mpl.colors.to_rgb(entry["color"]), (0.299, 0.587, 0.114)) for entry in cycle]
    assert np.min(np.diff(sorted(grey))) > 0.05


@pytest.mark.parametrize("span", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_profile_requires_finite_ends_in_order(plot, span):
    with pytest.raises(ValueError, match=r"profile: low is .* and high is .* but must be finite"):
        plot.profile(lambda x: jaxloss.mse_loss(x, 0.0), *span)


@pytest.mark.nans
def test_profile_leaves_out_the_infinite_values_of_a_pole(plot):
    axes = plot.profile(lambda x: -jnp.log(x), 0, 1, title="")
    assert np.isfinite(axes.get_ylim()).all()
    with pytest.raises(ValueError, match="profile: function is finite nowhere between 0 and 1"):
        plot.profile(lambda x: x * jnp.nan, 0, 1)


def test_profile_requires_a_function_that_returns_one_number(plot):
    with pytest.raises(ValueError, match=r"profile: function returns shape \(2,\)"):
        plot.profile(lambda x: jaxloss.mse_loss(x * np.ones(2, np.float32), np.zeros(2), reduction="none"), 0, 1)
    with pytest.raises(ValueError, match=r"profile: function returns shape of a pytree"):
        plot.profile(lambda x: [x], 0, 1)


def test_a_gallery_has_a_panel_for_each_loss_and_one_legend(plot):
    panels = [(f"delta={d}", "error", lambda x, d=d: jaxloss.huber_loss(x, 0.0, delta=d), -3, 3) for d in (0.5, 1, 2)]
    figure = plot.gallery(*panels, columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["delta=0.5", "delta=1", "delta=2"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["value", "gradient", "curvature"]
    assert [axes.get_legend() for axes in figure.axes] == [None] * 3


@pytest.mark.parametrize(("panels", "columns"), [((), 3), ((("", "", jnp.abs, -1, 1),), 0)])
def test_a_gallery_takes_panels_and_columns(plot, panels, columns):
    with pytest.raises(ValueError, match=r"gallery: got \d panels in \d columns but takes at least 1 of each"):
        plot.gallery(*panels, columns=columns)
