"""Self-consistency: worlds of known laws, ratios and their errors, and the script."""

import os
import re

import numpy as np
import pandas
import pytest
import torch
from scipy.stats import norm

from mmg_diffusers import MMG, Estimate
from mmg_diffusers.arrays.trainer import TrainSettings
from mmg_diffusers.commands.studies.consistency import (
    Digits,
    Plan,
    Reading,
    Run,
    ShapesRows,
    Task,
    first_rows,
    over_seeds,
    ratio_of,
    run,
)
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.value import Value
from tests.arrays.test_variables import png
from tests.commands.calling import answered

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)


# ---- worlds ----


def test_digits_are_shifted_and_parted():
    images = np.zeros((40, 8, 8), dtype=np.uint8)
    images[np.arange(40), 3, 3] = 40 + 5 * np.arange(40)  # a dot whose shade is the picture's number
    world = Digits(images, shift=2, kept_back=0.5)
    x, same = world.draw(200, torch.Generator().manual_seed(0))
    assert torch.equal(x, same)
    shades = x.flatten(1).max(1).values
    places = {divmod(int(k), 8) for k in x.flatten(1).argmax(1)}
    assert places <= {(i, j) for i in range(1, 6) for j in range(1, 6)}
    assert len(places) > 20
    kept = [world.held_out(10, part)[0].flatten(1).max(1).values for part in (0, 1)]
    for one in kept:
        assert not torch.isin(one, shades).any()
    assert not torch.isin(kept[0], kept[1]).any()
    with pytest.raises(ValueError, match="there are 10"):
        world.held_out(11, 0)
    with pytest.raises(ValueError, match="at least 20"):
        Digits(images[:10])


def test_captions_are_a_white_code_of_known_information():
    world = ShapesRows()
    assert world.truth == pytest.approx(3.171, abs=1e-3)
    code = world.codes
    torch.testing.assert_close(code.mT @ code / 48, torch.eye(7), atol=1e-5, rtol=0)
    assert len(code.unique(dim=0)) == 48
    a, picture = world.held_out(4, 0)
    assert a.shape == (4, 7, 1, 1)
    assert picture.shape == (4, 3, 32, 32)
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(world.draw(4, generator)[1], picture)
    exact = world.exact(3000)
    assert abs(float(exact.mean()) - world.truth) < 4 * float(exact.std()) / 3000**0.5


def test_first_rows_hide_the_rest():
    picture = torch.randn(3, 2, 8, 8)
    seen = first_rows(picture, torch.tensor([0, 3, 8]))
    assert seen.shape == (3, 3, 8, 8)
    for k, rows in enumerate((0, 3, 8)):
        assert torch.equal(seen[k, :2, :rows], picture[k, :, :rows])
        assert not seen[k, :2, rows:].any()
        assert seen[k, 2].sum() == 8 * rows


def test_a_task_shows_fewer_rows_in_its_second_view():
    task = Task(Digits(IMAGES), 1)
    found = task.source()(64, torch.Generator().manual_seed(0))
    b, c = (found[name][:, 1, :, 0].sum(1) for name in "bc")
    assert (c < b).all()
    assert {1, 8} <= set(b.int().tolist())
    assert 0 in c
    pair = Task(Digits(IMAGES), 2).source()(4, torch.Generator().manual_seed(0))
    assert {name: tuple(x.shape) for name, x in pair.items()} == {"a": (4, 1, 8, 16), "b": (4, 2, 8, 16)}


def test_an_untrained_network_measures_independent_pixels():
    """Pictures of independent normal pixels: what r rows tell is r W / 2 ln((1 + SNR_high) / (1 + SNR_low))."""
    rng = np.random.default_rng(0)
    noise = norm.cdf(rng.standard_normal((400, 8, 8)) / 2)  # within (0, 1), nearly normal
    world = Digits((255 * noise).round().astype(np.uint8), shift=0)
    plan = Plan(
        TrainSettings(steps=1, batch=1), widths=(8, 8), layers=1, logsnr_range=(-6.0, 2.0), held_out=40, nodes=24
    )
    torch.manual_seed(0)
    single, pair = (Task(world, n).network(plan.logsnr_range, plan.widths, plan.layers) for n in (1, 2))
    picture = world.held_out(40, 0)[0]
    one = MMG("gap", Trapezoid(24))(single.view("a"), picture, {"b": first_rows(picture, 4)}).mean()
    truth = 4 * 8 / 2 * np.log((1 + np.exp(2)) / (1 + np.exp(-6)))
    assert abs(one.value - truth) < 4 * one.stderr + 0.01 * truth
    two = torch.cat([picture[::2], picture[1::2]], 3)
    both = MMG("gap", Trapezoid(24))(pair.view("a"), two, {"b": first_rows(two, 4)}).mean()
    assert abs(both.value - 2 * truth) < 4 * both.stderr + 0.02 * truth
    assert one.stderr < 0.1 * truth


# ---- ratios ----


def test_the_error_of_a_ratio_is_that_of_repetitions():
    rng = np.random.default_rng(0)
    bottom = 5 + rng.standard_normal((2000, 50))
    top = 2 * bottom + 0.5 * rng.standard_normal((2000, 50))
    found = [ratio_of(torch.from_numpy(t), torch.from_numpy(b)) for t, b in zip(top, bottom, strict=True)]
    values, errors = np.array([v.value for v in found]), np.array([v.stderr for v in found])
    assert values.mean() == pytest.approx(2, abs=4 * values.std() / 2000**0.5)
    assert errors.mean() == pytest.approx(values.std(), rel=0.1)


def test_seeds_add_to_the_error():
    def reading(seed, value):
        return Reading("baseline", 4, "gap", seed, Value(value, 0.03), Value(1.0, 0.1), Value(0.0, 0.0))

    table = over_seeds([reading(0, 0.8), reading(1, 1.0)], "gap").loc[("baseline", 4)]
    assert table["value"] == pytest.approx(0.9)
    assert table["error"] == pytest.approx((0.03**2 + 0.02 / 2) ** 0.5)
    assert over_seeds([reading(0, 0.8)], "gap").loc[("baseline", 4), "error"] == pytest.approx(0.03)


# ---- the command ----


@pytest.mark.parametrize("world", ["digits", "shapes"])
def test_self_consistency(tmp_path, capsys, world):
    out = tmp_path / "out"
    rows = [{"image": {"bytes": png(image), "path": None}} for image in IMAGES]
    pandas.DataFrame(rows).to_parquet(tmp_path / "images.parquet")
    small = [
        "--quick",
        "--steps",
        3,
        "--batch",
        2,
        "--held-out",
        4,
        "--watched",
        {"digits": 1, "shapes": 8}[world],  # of digits there are few; a caption alone may say that the start was best
        "--levels",
        2,
        "--world",
        world,
        "--output",
        out,
    ]
    small += ["--data", tmp_path / "images.parquet", "--shift", 1]
    answered("benchmark", "consistency", *small)
    said = capsys.readouterr().out
    assert (out / "table.md").read_text() in said
    assert ("exact I(A; B): 3.171 nats" in said) == (world == "shapes")
    assert len(re.findall(r"^\| \d+ \|", said, re.MULTILINE)) == 4
    table = pandas.read_csv(out / "table.csv")
    assert set(table["ratio"]) == {"baseline", "data processing", "additivity"}
    assert (table.loc[(table["ratio"] == "baseline") & (table["rows"] == table["rows"].max()), "value"] == 1).all()
    assert (out / "figure.png").stat().st_size > 1000
    # What is there is read back, and another plan is not mixed in.
    kept = [*(out / "estimates").iterdir(), out / "single.0.safetensors"]
    before = [os.stat(path).st_mtime_ns for path in kept]
    answered("benchmark", "consistency", *small)
    assert [os.stat(path).st_mtime_ns for path in kept] == before
    capsys.readouterr()
    with pytest.raises(ValueError, match="other settings"):
        run(ShapesRows(), Plan.quick(), [0], out)


def test_a_folder_belongs_to_its_pictures():
    world, same, other = (Digits(images) for images in (IMAGES, IMAGES.copy(), IMAGES[::-1].copy()))
    assert world.describe() == same.describe() != other.describe()


def test_measurements_of_an_interrupted_run_are_kept(tmp_path, monkeypatch):
    world = Digits(IMAGES, shift=0, kept_back=0.5)
    plan = Plan(TrainSettings(steps=1, batch=1), (8, 8), 1, held_out=4, nodes=2, shares=(0.5, 1.0))
    torch.manual_seed(0)
    single, pair = (Task(world, n).network(plan.logsnr_range, plan.widths, plan.layers) for n in (1, 2))
    one = Run(world, plan, 0, tmp_path, accelerator=None)
    save, saved = Estimate.save, []

    def stopping(self, path):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        return save(self, path)

    monkeypatch.setattr(Estimate, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        one.measure(single, pair)
    monkeypatch.undo()
    before = [os.stat(path).st_mtime_ns for path in saved]
    assert len(one.measure(single, pair)) == 6
    assert [os.stat(path).st_mtime_ns for path in saved] == before
