"""Plots of losses."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import jaxloss
from tests.drawing import full_only

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


def test_descent_is_gradient_descent(plot):
    path = plot.descent(lambda x: jaxloss.mse_loss(x, jnp.zeros(2)), [1.0, -2.0], steps=5, rate=0.1)
    np.testing.assert_allclose(path, np.multiply.outer(0.9 ** np.arange(6), [1.0, -2.0]), rtol=1e-6)


def test_descent_projects_each_step(plot):
    start = np.array([[0.6, 0.8], [0.0, -1.0]], np.float32)
    path = plot.descent(lambda x: jnp.sum(x[:, 0]), start, steps=300, project=jaxloss.vectors.normalize)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(path[-1], [[-1, 0], [-1, 0]], atol=1e-3)


@pytest.mark.parametrize("options", [{"steps": 0}, {"rate": 0.0}, {"rate": float("nan")}])
def test_descent_takes_steps_and_a_rate(plot, options):
    with pytest.raises(
        ValueError, match=r"descent: got steps=\d+ and rate=\S+ but takes at least 1 step and a rate above 0"
    ):
        plot.descent(lambda x: jaxloss.mse_loss(x, 0.0), 1.0, **options)


def test_descent_takes_a_function_to_one_number(plot):
    with pytest.raises(ValueError, match=r"descent: function returns shape \(3,\) but takes an array to one number"):
        plot.descent(lambda x: x, jnp.zeros(3))


def test_moving_points_go_from_an_open_marker_to_a_filled_one(plot):
    path = np.arange(12.0).reshape(2, 3, 2)
    axes = plot.moving_points(path, groups=[7, 7, 2], goal=[1.0, 2.0])
    assert [tuple(each.get_offsets()[0]) for each in axes.collections] == [
        tuple(p) for i in range(3) for p in path[:, i]
    ]
    inside = [mpl.colors.to_hex(each.get_facecolor()[0]) for each in axes.collections]
    assert inside[::2] == ["#ffffff"] * 3
    assert inside[1] == inside[3] != inside[5]
    assert [tuple(line.get_xydata()[-1]) for line in axes.lines] == [*map(tuple, path[1]), (1, 2)]
    markers = [len(each.get_paths()[0].vertices) for each in axes.collections]
    assert markers[0] == markers[1] == markers[2] != markers[4]


def test_moving_scores_share_a_dash_where_they_share_the_relevance(plot):
    path = np.array([[0.0, 1.0, 2.0], [3.0, 1.5, 0.0]])
    axes = plot.moving_scores(path, [0.0, 2.5, 0.0])
    np.testing.assert_array_equal([line.get_ydata() for line in axes.lines], path.T)
    dashes = [line.get_linestyle() for line in axes.lines]
    assert dashes[0] == dashes[2] != dashes[1] == "-"
    assert [(text.get_text(), text.get_position()[1]) for text in axes.texts] == [("0", 3.0), ("2.5", 1.5), ("0", 0.0)]


def test_moving_boxes_are_darker_with_time(plot):
    path = np.linspace([0.0, 0, 2, 1], [1.0, 1, 2, 3], 11)
    goal, *boxes = plot.moving_boxes(path, [1, 1, 2, 2], shown=3).patches
    corners = [[*each.get_xy(), each.get_x() + each.get_width(), each.get_y() + each.get_height()] for each in boxes]
    np.testing.assert_allclose(corners, path[[0, 5, 10]])
    assert goal.get_bbox().extents.tolist() == [1, 1, 2, 2]
    lightness = [each.get_edgecolor()[0] for each in boxes]
    assert lightness == sorted(lightness, reverse=True)
    assert [each.get_linestyle() for each in boxes] == ["--", "-", "-"]
    with pytest.raises(ValueError, match="moving_boxes: shown is 1 but must be at least 2"):
        plot.moving_boxes(path, [1, 1, 2, 2], shown=1)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda plot: plot.moving_points(np.zeros((3, 2))), "moving_points: path has shape (3, 2) but takes (T, N, 2)"),
        (
            lambda plot: plot.moving_points(np.zeros((3, 4, 2)), groups=[0]),
            "moving_points: groups has shape (1,) but takes (4,)",
        ),
        (
            lambda plot: plot.moving_points(np.zeros((3, 4, 2)), goal=0.0),
            "moving_points: goal has shape () but takes (2,)",
        ),
        (lambda plot: plot.moving_scores(np.zeros(3), [0]), "moving_scores: path has shape (3,) but takes (T, K)"),
        (
            lambda plot: plot.moving_scores(np.zeros((3, 2)), [0]),
            "moving_scores: target has shape (1,) but takes (2,)",
        ),
        (lambda plot: plot.moving_boxes(np.zeros((3, 2)), [0]), "moving_boxes: path has shape (3, 2) but takes (T, 4)"),
        (lambda plot: plot.moving_boxes(np.zeros((3, 4)), [0]), "moving_boxes: target has shape (1,) but takes (4,)"),
    ],
)
def test_what_moves_has_a_known_shape(plot, draw, message):
    with pytest.raises(ValueError, match=r"^moving") as error:
        draw(plot)
    assert str(error.value) == message


KINDS = ["huber_loss", *(pytest.param(n, marks=full_only) for n in ("info_nce_loss", "listmle_loss", "box_iou_loss"))]


@pytest.mark.parametrize("name", KINDS)
def test_the_gallery_draws_each_kind_of_picture(plot, name, tmp_path):
    gallery = runpy.run_path(str(pathlib.Path(__file__).parent.parent / "docs/gallery.py"))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        gallery["save"](tmp_path, [name])
    assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")
