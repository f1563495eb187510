"""What figures show: what is drawn, with its labels, units and legends; not their pixels."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from matplotlib.colors import to_rgb

from mmg_diffusers.analysis import over_reference
from mmg_diffusers.commands.figures import (
    check_plotting,
    plot_curves,
    plot_errors,
    plot_influence,
    plot_levels,
    plot_map_grid,
    plot_maps,
    plot_mmse,
    plot_switching,
    plot_words,
    pyplot,
    save_figure,
    style,
)
from mmg_diffusers.commands.figures.base import COLOURS, CYCLE
from mmg_diffusers.denoisers import GaussianReference
from mmg_diffusers.measure import MMG, Density, StratifiedUniform, Trapezoid
from mmg_diffusers.measure.value import Value
from mmg_diffusers.pipelines import convention_from_config


@pytest.fixture
def estimate(gaussian):
    denoiser, x, cond = gaussian
    return MMG("auto", Trapezoid(9))(denoiser, x[:30], {"y": cond["y"][:30]}, logsnr_range=(-6.0, 6.0))


@pytest.fixture(autouse=True)
def none_is_kept():
    check_plotting()
    before = pyplot().get_fignums()
    yield
    assert pyplot().get_fignums() == before, "pyplot keeps a figure, which a notebook then shows twice"


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_gap_is_drawn_with_its_area_and_what_it_is_the_difference_of(estimate):
    figure = plot_mmse(estimate, title="gap")
    axes, behind = figure.axes
    drawn = next(line for line in axes.lines if line.get_label().startswith("half"))
    gap = estimate.curve.by_level(estimate.curve.gap).mean(0) / 2
    np.testing.assert_allclose(drawn.get_ydata(), gap)
    assert len(axes.collections) == 2  # the band, and the area
    said = legend(axes)
    assert len(said) == 4
    assert f"area: {estimate.using('gap').mean().value:.2f} ± " in said[1]
    assert {line.get_linestyle() for line in behind.lines} == {"--", ":"}
    assert all(line.get_label() in said for line in behind.lines), "what is dashed is in the legend"
    # The area that is drawn is the number that is said.
    heights, widths = np.asarray(drawn.get_ydata()), np.diff(drawn.get_xdata())
    area = float((widths * (heights[1:] + heights[:-1]) / 2).sum())
    assert area == pytest.approx(estimate.using("gap").mean().value, rel=1e-6)
    assert axes.get_ylabel() == "nats per unit of log-SNR"
    assert behind.get_yscale() == "log"
    assert "|²" in behind.get_ylabel()


def test_of_a_log_likelihood_the_errors_are_the_gaussians_and_the_networks(gaussian):
    denoiser, x, _ = gaussian
    found = Density(GaussianReference(3.0), StratifiedUniform(24))(denoiser, x[:30], logsnr_range=(-6.0, 6.0))
    axes, behind = plot_mmse(found).axes
    said = legend(axes)
    assert "error of the Gaussian (right)" in said
    assert f"area: {over_reference(found).mean():.2f} ± " in said[1]
    worse, better = (np.asarray(line.get_ydata()) for line in behind.lines)
    assert worse.sum() > better.sum()


def test_noise_levels_run_from_noise_to_image_whatever_they_are_counted_in(estimate):
    curve = estimate.influence(convention_from_config("DDPMScheduler", DDPMScheduler().config))
    for axis, name in (("logsnr", "log-SNR"), ("tau", "diffusion time"), ("timestep", "timestep")):
        (axes,) = plot_influence({"prompt": curve}, axis=axis).axes
        assert name in axes.get_xlabel()
        assert "from noise to image" in axes.get_xlabel()
        assert "nats" in axes.get_ylabel()
        left, right = axes.get_xlim()
        noisy, clean = (float(curve.on(axis)[k]) for k in (0, -1))
        assert (noisy - left) / (right - left) < (clean - left) / (right - left), axis
    for figure in (plot_curves(estimate), plot_mmse(estimate)):
        assert figure.axes[0].get_xlabel().startswith("log-SNR, from noise to image")


def test_forms_keep_their_colours_and_dashes_are_told(estimate):
    curves = {form: estimate.using(form).influence() for form in ("orthogonal", "gap")}
    (axes,) = plot_influence(curves, ceiling=0.9).axes
    by_name = {line.get_label().partition(":")[0]: line for line in axes.lines}
    assert by_name["gap"].get_color() == COLOURS["gap"]
    assert by_name["orthogonal"].get_color() == COLOURS["orthogonal"]
    assert [line.get_label() for line in axes.lines if line.get_linestyle() == "--"] == ["exact: 0.90 nats"]
    assert "exact: 0.90 nats" in legend(axes)


def test_pictures_keep_their_brightness_and_maps_have_a_unit_and_a_sum():
    pictures = np.random.default_rng(0).random((2, 8, 8, 3))
    maps = torch.rand(2, 4, 4, dtype=torch.float64)
    figure = plot_map_grid(pictures, {"word": maps, "signed": maps - 0.5})
    grid = figure.axes[:6]
    for k in range(2):
        np.testing.assert_array_equal(grid[2 + k].images[0].get_array(), pictures[k])
        over = grid[2 + k].images[1]
        np.testing.assert_array_equal(over.get_array(), maps[k])
        # The more there is, the less of the picture is hidden behind it.
        opaque = np.asarray(over.get_alpha())
        assert (
            np.argsort(opaque, axis=None) == np.argsort(np.minimum(maps[k].numpy(), over.norm.vmax), axis=None)
        ).all()
        assert grid[2 + k].get_xlabel() == f"{float(maps[k].sum()):.2f} nats"
    bars = figure.axes[6:]
    assert [bar.get_ylabel() for bar in bars] == ["nats per pixel"] * 2
    figure = plot_maps(list(pictures), maps, titles=["a", "b"])
    assert figure.axes[-1].get_ylabel() == "nats per latent pixel"
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), pictures[0])


def test_a_switch_says_what_its_dashes_are(estimate):
    curve = estimate.influence(convention_from_config("DDPMScheduler", DDPMScheduler().config))
    at = np.linspace(0.1, 0.9, 3)
    images = np.random.default_rng(0).random((3, 2, 4, 4, 3))
    figure = plot_switching(at, np.array([0.9, 0.5, 0.1]), np.full(3, 0.05), curve, images, halves=(0.5, 0.6))
    top, bottom = figure.axes
    dashed = [line for line in top.lines if line.get_linestyle() == "--"]
    assert [line.get_label() for line in dashed] == ["half of it: 0.50", "half of it: 0.60"]
    assert set(line.get_label() for line in dashed) <= set(legend(top))
    assert top.xaxis_inverted()
    # The pictures stand in the order of the axis above them.
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["0.90", "0.50", "0.10"]
    np.testing.assert_array_equal(bottom.images[0].get_array()[:4, :4], images[2, 0])


def test_one_image_at_several_levels_stands_above_its_curve(estimate):
    pictures = {level: np.full((4, 4, 3), 0.1 * place) for place, level in enumerate((-4.0, 0.0, 4.0))}
    top, bottom = plot_levels(pictures, estimate).axes
    for picture, level in zip(top.images, sorted(pictures), strict=True):
        left, right, *_ = picture.get_extent()
        assert (left + right) / 2 == pytest.approx(level)
        np.testing.assert_array_equal(picture.get_array(), pictures[level])
    assert top.get_xlim() == bottom.get_xlim()


# Machado, Oliveira and Fernandes 2009: what is left of linear RGB without one kind of cone.
DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
PROTANOPIA = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])


@pytest.mark.parametrize("seen", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_colours_are_told_apart_by_everybody(seen):
    def least(colours):
        linear = np.array([np.array(to_rgb(colour)) ** 2.2 for colour in colours]) @ seen.T
        return min(np.linalg.norm(a - b) for k, a in enumerate(linear) for b in linear[:k])

    assert least(COLOURS.values()) > 0.1
    assert least(CYCLE) > 0.1
    if seen is DEUTERANOPIA:
        assert (
            least(("#2ca02c", "#d62728")) < 0.25
        )  # the green and red that stood here: most of their difference is lost


def test_a_paper_has_its_style(estimate, tmp_path):
    before = dict(pyplot().rcParams)
    with style(3.4, font_family="sans-serif"):
        figure = plot_mmse(estimate)
        assert figure.get_size_inches()[0] == pytest.approx(3.4)
        small = figure.axes[0].xaxis.label
        assert (small.get_size(), small.get_family()) == (7, ["sans-serif"])
        path = save_figure(figure, tmp_path / "a.pdf")
    assert path.read_bytes().startswith(b"%PDF")
    assert b"/Type3" not in path.read_bytes(), "letters of type 3 cannot be searched"
    assert dict(pyplot().rcParams) == before
    figure = plot_mmse(estimate)
    assert figure.get_size_inches()[0] == pytest.approx(6)
    assert figure.axes[0].xaxis.label.get_size() == 10
    # Vectors hold what they say, whatever the style.
    with style():
        drawn = save_figure(plot_curves(estimate), tmp_path / "a.svg").read_text("utf-8")
    assert "nats per unit of log-SNR" in drawn
    with pytest.raises(ValueError, match="width is 0"):
        style(0)
    with pytest.raises(ValueError, match="font_sise"):
        style(font_sise=3)


def test_words_that_have_nothing_to_do_with_each_other_show_nothing():
    words = {"red": Value(1.4, 0.1), "circle": Value(1.1, 0.1), "left": Value(0.7, 0.1)}
    alone = {"interaction": Value(0.0, 0.0), "redundancy": Value(0.8, 0.1), "synergy": Value(0.8, 0.1)}
    alike = {"interaction": Value(0.5, 0.1), "redundancy": Value(0.9, 0.1), "synergy": Value(0.4, 0.1)}
    top, bottom = plot_words(words, {"red, circle": alone, "red, left": alike}).axes
    assert [bar.get_width() for bar in bottom.patches] == [0.0, 0.5]
    assert [label.get_text() for label in bottom.get_yticklabels()] == ["red, circle", "red, left"]
    assert "interaction of two words, nats" in bottom.get_xlabel()
    assert [bar.get_width() for bar in top.patches] == [1.4, 1.1, 0.7]


def test_grey_bands_are_told():
    (axes,) = plot_errors(["a: 0.41 nats"], [0.01], [0.02]).axes
    assert "grey: within 0.05 and 0.1" in axes.get_xlabel()
    assert [patch.get_width() for patch in axes.patches] == [0.2, 0.1]
