"""What holds for any shape, dtype, size and option of the core, looked for with hypothesis."""

import csv
import io
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mmg_diffusers import MMG, Denoiser, Estimate
from mmg_diffusers.analysis.maps import auroc, to_pixels
from mmg_diffusers.arrays.estimate import as_array
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.denoisers.conventions import PREDICTIONS, DiscreteVP, Karras, RectifiedFlow
from mmg_diffusers.denoisers.levels import add_noise, per_event, signal_and_noise
from mmg_diffusers.measure.moments import FORMS, MOMENTS, Curve, OutsideNorm
from mmg_diffusers.measure.quadrature import (
    AtLevels,
    GaussLegendre,
    Logistic,
    StratifiedLogistic,
    StratifiedProfile,
    StratifiedUniform,
    Trapezoid,
)
from mmg_diffusers.pairs.images import load_image
from mmg_diffusers.pairs.prompts import find_word, is_blank, replace_word
from mmg_diffusers.pairs.tables import read_pairs
from mmg_diffusers.pipelines.schedulers import alphas_cumprod_from_config
from mmg_diffusers.runs.shards import Row, RunFolder, collect, run
from tests.bad_inputs.room import raised_by_the_package


def some(count):
    """So many examples, the same ones at every run."""
    return settings(
        derandomize=True,
        deadline=None,
        max_examples=count,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def answer(call, *arguments):
    """What a call returns; or nothing, where the package itself refuses it, in its own words."""
    try:
        return call(*arguments)
    except Exception as error:
        if isinstance(error, (ValueError, TypeError)) and raised_by_the_package(error):
            return None
        raise


# ---- rules ----

LEVEL = st.floats(-15, 15)
SD = DiscreteVP.from_alphas(
    alphas_cumprod_from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}), "epsilon"
)


@st.composite
def ranges(draw):
    low = draw(LEVEL)
    return low, low + draw(st.floats(0.1, 20))


@st.composite
def rules(draw, low, high):
    nodes = draw(st.integers(2, 70))
    inner = draw(st.lists(st.floats(0.05, 0.95), max_size=6, unique_by=lambda share: round(share, 2)))
    edges = (low, *(low + (high - low) * share for share in sorted(inner)), high)
    mass = draw(st.lists(st.floats(0.01, 100), min_size=len(edges) - 1, max_size=len(edges) - 1))
    loc, scale = draw(st.floats(low, high)), draw(st.floats(0.05, 20))
    return draw(
        st.sampled_from(
            [
                Trapezoid(nodes),
                GaussLegendre(nodes),
                StratifiedUniform(nodes),
                StratifiedLogistic(nodes, loc=loc, scale=scale),
                StratifiedProfile(nodes, edges, tuple(mass)),
                AtLevels(edges),
            ]
        )
    )


@some(80)
@given(st.data(), ranges(), st.integers(1, 4))
def test_any_rule_integrates_one_exactly(data, span, rows):
    rule = data.draw(rules(*span))
    low, high = rule.bounds(*span)
    uniform = torch.rand(rows, rule.nodes, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    levels, weight = rule.place(low, high, lambda level: level.double(), uniform)
    torch.testing.assert_close(
        weight.sum(1), torch.full((rows,), high - low, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )
    assert bool((weight > 0).all())
    assert low - 1e-9 <= float(levels.min()) <= float(levels.max()) <= high + 1e-9


@some(40)
@given(st.data(), st.integers(0, 900), st.integers(3, 99))
def test_any_rule_integrates_one_on_a_networks_own_levels(data, first, length):
    """Between two levels that the network knows; nodes are levels that it knows."""
    low, high = float(SD.levels[first + length]), float(SD.levels[first])
    rule = data.draw(rules(low, high))
    low, high = rule.bounds(low, high)
    uniform = torch.full((1, rule.nodes), 0.5, dtype=torch.float64)
    placed = answer(rule.place, low, high, SD.snap, uniform)
    if placed is None:  # a rule that is so narrow that it sees one level alone
        return
    levels, weight = placed
    assert bool(torch.isin(levels, SD.levels).all())
    assert float(weight.sum()) == pytest.approx(high - low, rel=1e-9)


@some(25)
@given(st.floats(-6, 6), st.floats(0.3, 4), st.floats(1, 6))
def test_a_logistic_rule_integrates_one_in_expectation(loc, scale, clip):
    nodes = 20_000
    rule = Logistic(nodes, loc=loc, scale=scale, clip=clip)
    low, high = rule.bounds(-10.0, 12.0)
    even = ((torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes)[None]
    _, weight = rule.place(low, high, lambda level: level.double(), even)
    assert float(weight.sum()) == pytest.approx(high - low, rel=1e-3)


# ---- the loop and its record, over an exact denoiser of any shape ----


class Elementwise(Denoiser):
    """x = y + noise in every element: the marginal is N(0, 2), the conditional N(y, 1)."""

    logsnr_range = (-8.0, 8.0)

    def forward(self, z, logsnr, cond=None):
        a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
        mean, variance = (0.0, 2.0) if cond is None else (cond["y"].to(z.dtype), 1.0)
        return s / (a**2 * variance + s**2) * (z - a * mean)


EVENTS = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
FORM = st.sampled_from([*FORMS, OutsideNorm(0.7)])


@st.composite
def measurements(draw):
    """Pairs of any shape and dtype, and any options."""
    count, event, dtype = draw(st.integers(1, 5)), draw(EVENTS), draw(DTYPES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    y, noise = torch.randn(2, count, *event, generator=generator)
    rule = draw(st.sampled_from([Trapezoid, GaussLegendre, StratifiedUniform]))(draw(st.integers(2, 9)))
    estimator = MMG(draw(FORM), rule, draw(st.integers(1, 3)), draw(st.booleans()))
    ids = draw(st.lists(st.integers(0, 2**40), min_size=count, max_size=count, unique=True))
    options = {"seed": draw(st.integers(0, 2**50)), "keep": draw(st.sampled_from(["pair", "pixel"]))}
    return estimator, (y + noise).to(dtype), {"y": y.to(dtype)}, torch.tensor(ids), options


@some(25)
@given(measurements(), st.integers(1, 40))
def test_batch_size_does_not_change_the_numbers(measurement, rows):
    estimator, x, cond, ids, options = measurement
    one, other = (estimator(Elementwise(), x, cond, pair_ids=ids, batch_size=size, **options) for size in (rows, None))
    assert one.evaluations == other.evaluations
    for name in MOMENTS:
        ours = getattr(one.curve, name)
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, getattr(other.curve, name), rtol=1e-5, atol=1e-6)
    assert torch.equal(one.curve.logsnr, other.curve.logsnr)
    assert one.curve.maps.keys() == other.curve.maps.keys()


@some(25)
@given(measurements(), st.data())
def test_a_merge_of_any_split_is_the_whole(measurement, data):
    estimator, x, cond, ids, options = measurement
    order = data.draw(st.permutations(range(len(x))))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(x) - 1)))))
    parts = [part for part in np.split(np.array(order), cuts) if len(part)]
    whole = estimator(Elementwise(), x[order], {"y": cond["y"][order]}, pair_ids=ids[order], **options)
    shards = [
        estimator(Elementwise(), x[part], {"y": cond["y"][part]}, pair_ids=ids[part], **options) for part in parts
    ]
    merged = Estimate.merge(shards)
    assert torch.equal(merged.curve.pair_ids, whole.curve.pair_ids)
    torch.testing.assert_close(merged.nats, whole.nats, rtol=1e-4, atol=1e-5)
    assert merged.evaluations == whole.evaluations
    for name, values in whole.curve.maps.items():
        torch.testing.assert_close(merged.curve.maps[name], values, rtol=1e-4, atol=1e-5)
    if len(shards) > 1:
        with pytest.raises(ValueError, match="more than one shard"):
            Estimate.merge([*shards, shards[0]])


@some(25)
@given(measurements())
def test_identical_conditions_give_exactly_nothing(measurement):
    estimator, x, cond, ids, options = measurement
    found = estimator(Elementwise(), x, cond, cond, pair_ids=ids, **options)
    for form in (*FORMS, OutsideNorm(2.0)):
        read = found.using(form)
        assert torch.equal(read.nats, torch.zeros(len(x), dtype=torch.float64))
        assert read.mean().value == 0.0
    assert all(not bool(values.any()) for values in found.curve.maps.values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def records(draw):
    """A record of any shape."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(2, 4)))
    pairs, draws, _ = shape
    made = draw(hnp.arrays(np.int64, pairs, elements=st.integers(1, draws)))
    made[0] = draws
    missing = np.broadcast_to((np.arange(draws) >= made[:, None])[..., None], shape)

    def numbers(most):
        drawn = draw(hnp.arrays(np.float64, shape, elements=st.floats(-most, most)))
        return torch.from_numpy(np.where(missing, np.nan, drawn))

    pixels = draw(hnp.array_shapes(min_dims=1, max_dims=2, max_side=3))
    maps = {
        name: torch.from_numpy(draw(hnp.arrays(np.float64, (pairs, *pixels), elements=st.floats(-9, 9))))
        for name in draw(st.sampled_from([(), ("gap", "gap_stderr")]))
    }
    ids = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=pairs, max_size=pairs, unique=True))
    curve = Curve(
        logsnr=numbers(20.0),
        weight=numbers(20.0),
        **{name: numbers(1e6) for name in MOMENTS},
        pair_ids=torch.tensor(ids, dtype=torch.int64),
        logsnr_range=draw(ranges()),
        evaluations=draw(st.integers(0, 2**53)),
        independent=draw(st.booleans()),
        maps=maps,
    )
    integrand = draw(st.sampled_from(FORMS) | st.floats(1e-3, 1e3).map(OutsideNorm))
    noted = draw(st.lists(st.text(max_size=20), max_size=2))
    return Estimate(curve, integrand, draw(st.dictionaries(st.text(max_size=5), JSON, max_size=4)), notes=tuple(noted))


@some(20)
@given(records())
def test_records_come_back_from_their_bytes(record):
    again = Estimate.from_bytes(record.to_bytes())
    assert (again.integrand, again.settings, again.versions, again.notes) == (
        record.integrand,
        record.settings,
        record.versions,
        record.notes,
    )
    assert again.logsnr_range == record.logsnr_range
    assert (again.evaluations, again.curve.independent) == (record.evaluations, record.curve.independent)
    for name in ("logsnr", "weight", "pair_ids", *MOMENTS):
        torch.testing.assert_close(
            getattr(again.curve, name), getattr(record.curve, name), rtol=0, atol=0, equal_nan=True
        )
    assert again.curve.maps.keys() == record.curve.maps.keys()
    assert all(torch.equal(again.curve.maps[name], values) for name, values in record.curve.maps.items())
    assert torch.equal(again.nats, record.nats)


@some(15)
@given(records(), st.floats(0, 1, exclude_max=True), st.data())
def test_a_record_that_was_cut_or_overwritten_is_no_record(record, share, data):
    body = record.to_bytes()
    with pytest.raises(ValueError, match="no complete estimate"):
        Estimate.from_bytes(body[: int(share * len(body))])
    header = 8 + int.from_bytes(body[:8], "little")
    place, byte = data.draw(st.integers(0, header - 1)), data.draw(st.integers(0, 255))
    answer(Estimate.from_bytes, body[:place] + bytes([byte]) + body[place + 1 :])


# ---- images ----

SIDES = st.integers(0, 3)
SHAPES = st.lists(SIDES, max_size=4).map(tuple) | st.tuples(SIDES, SIDES, st.sampled_from([1, 3, 4]))
KINDS = hnp.scalar_dtypes() | hnp.floating_dtypes() | st.just(np.dtype("u1")) | st.just(np.dtype("O"))


def is_an_image(loaded):
    return (
        loaded.dtype == torch.float32
        and loaded.ndim == 3
        and loaded.shape[0] == 3
        and bool(loaded.isfinite().all())
        and 0 <= float(loaded.min()) <= float(loaded.max()) <= 1
    )


def loads_or_is_refused(image):
    loaded = answer(load_image, image)
    assert loaded is None or is_an_image(loaded)


@some(120)
@given(st.data(), KINDS, SHAPES)
def test_any_array_is_an_image_or_refused(data, dtype, shape):
    elements = st.floats(0, 1, width=16) if dtype.kind == "f" and data.draw(st.booleans()) else None
    image = data.draw(hnp.arrays(dtype, shape, elements=None if dtype.kind == "O" else elements, fill=st.nothing()))
    loads_or_is_refused(image)
    if (
        dtype.kind in "biufc"
        and dtype.isnative
        and dtype.itemsize <= 16
        and dtype not in (np.longdouble, np.clongdouble)
    ):
        loads_or_is_refused(torch.from_numpy(image).movedim(-1, 0) if image.ndim else torch.from_numpy(image))


@some(60)
@given(
    st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "I;16"]), SIDES, SIDES
)
def test_any_picture_is_an_image_or_refused(mode, width, height):
    loads_or_is_refused(Image.new(mode, (width, height)))


def encoded(kind):
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    body = io.BytesIO()
    Image.fromarray(noise).save(body, kind)
    return body.getvalue()


FILES = [encoded(kind) for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp")]


@some(120)
@given(st.data(), st.sampled_from(FILES), st.integers(0, 3))
def test_any_damage_to_a_file_gives_an_image_or_a_refusal(data, body, changes):
    for _ in range(changes):
        place = data.draw(st.integers(0, len(body) - 1))
        body = body[:place] + data.draw(st.binary(max_size=3)) + body[place + data.draw(st.integers(0, 3)) :]
        assume(body)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(body[: data.draw(st.integers(1, len(body)))])
        loads_or_is_refused(path)


# ---- tables and runs ----

TEXT = st.text(max_size=12).filter(lambda text: not is_blank(text) and "\0" not in text)
NAME = st.text("ab .-_é", min_size=1, max_size=9).filter(lambda name: name.strip() and name not in (".", ".."))


@some(40)
@given(st.lists(st.tuples(NAME, TEXT), min_size=1, max_size=5), st.sampled_from(["csv", "jsonl"]))
@example([("a.png", 'a "quoted", line\r\nand another')], "csv")
@example([("a.png", "NA"), ("b.png", "12"), ("c.png", "2020-01-01")], "jsonl")
def test_text_comes_back_from_a_table(pairs, kind):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"pairs.{kind}"
        with path.open("w", newline="", encoding="utf-8") as file:
            if kind == "csv":
                csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("image", "prompt"), *pairs])
            else:
                file.writelines(json.dumps({"image": name, "prompt": text}) + "\n" for name, text in pairs)
        table = read_pairs(path)
        assert [image.name for image in table.images] == [name for name, _ in pairs]
        assert table.prompts == [text for _, text in pairs]


PIECES = st.sampled_from(["..", ".", "a", "link", "out", "/", "//", "~", "a\0", "é", "x" * 300])


@some(60)
@given(st.lists(PIECES, min_size=1, max_size=6).map("/".join))
@example("/etc/passwd")
@example("link/a")
@example("out/../out/a")
def test_no_path_of_a_table_leaves_its_folder(name):
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "inside"
        folder.mkdir()
        (folder / "out").symlink_to(outer)
        (folder / "link").symlink_to("/")
        (folder / "pairs.jsonl").write_text(json.dumps({"image": name, "prompt": "a"}))
        table = answer(read_pairs, folder / "pairs.jsonl")
        assert table is None or table.images[0].resolve().is_relative_to(folder.resolve())


def noted(rows):
    """An estimate of rows, without a network; a row whose prompt says so is bad."""
    bad = [row.place for row in rows if row.prompt == "bad"]
    if bad:
        raise ValueError(f"pair {bad[0]} is bad")
    places = torch.tensor([row.place for row in rows])
    values = places.double()[:, None, None].expand(-1, 1, 2).contiguous()
    levels = torch.tensor([[[-1.0, 1.0]]], dtype=torch.float64).repeat(len(rows), 1, 1)
    weight = torch.ones_like(levels)
    return Estimate(
        Curve(levels, weight, *(values,) * 5, pair_ids=places, logsnr_range=(-1.0, 1.0), evaluations=4), "gap"
    )


@some(15)
@given(st.integers(1, 20), st.data(), st.integers(1, 9), st.integers(1, 3))
def test_a_run_records_exactly_the_bad_rows(count, data, chunk, world):
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    rows = [Row(place, "", "bad" if place in bad else "good", None) for place in range(count)]
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(place, {})
        with ThreadPoolExecutor(world) as processes:  # each waits for the shards of the others
            counts = [
                processes.submit(run, noted, rows, folder, rank=rank, world=world, chunk=chunk, progress=False)
                for rank in data.draw(st.permutations(range(world)))
            ]
        first = collect(folder, counts[0].result())
        shards = sorted(folder.shards.folder.iterdir())
        lost = data.draw(st.sets(st.sampled_from(shards)))
        for shard in lost:
            shard.unlink()
        measured = []
        chunks = run(lambda part: measured.extend(part) or noted(part), rows, folder, chunk=chunk, progress=False)
        outcome = collect(folder, chunks)
        assert sorted(folder.shards.folder.iterdir()) == shards
    assert {row.place // chunk for row in measured} == {int(shard.name.split("-")[0]) for shard in lost}
    for found in (first, outcome):
        assert [failure.place for failure in found.failures] == sorted(bad)
        good = [row.place for row in rows if row.place not in bad]
        assert (found.estimate is None) == (not good)
        if found.estimate is not None:
            assert found.estimate.curve.pair_ids.tolist() == good
            assert found.estimate.nats.tolist() == good
        assert found.to_pandas()["pair"].tolist() == list(range(count))


# ---- maps of variables, of noise, of pixels ----


FINITE = st.floats(allow_nan=False, allow_infinity=False)
LAWS = {
    "normal": lambda rng: rng.standard_normal(150),
    "tails": lambda rng: rng.standard_normal(150) ** 9,
    "uniform": lambda rng: rng.uniform(size=150),
    "atoms": lambda rng: rng.integers(0, 3, 150) * 1.0,
    "nothing": lambda rng: np.zeros(150),
}


@some(100)
@given(
    st.sampled_from(sorted(LAWS)),
    st.integers(-12, 12),
    FINITE,
    st.lists(FINITE, max_size=20),
    st.lists(FINITE, min_size=2),
)
@example("nothing", 0, 0.0, [1.0, 3e-165], [0.0, 1.0])
@example("normal", -10, 0.0, [], [0.0, 2.5e298])
@example("nothing", 0, 0.0, [1.4e154], [0.0, 1.0])
def test_a_column_is_mapped_in_order_whatever_its_values(law, power, shift, odd, fresh):
    values = LAWS[law](np.random.default_rng(0)) * 10.0**power + shift
    values[: len(odd)] = odd
    fitted, others = answer(as_array, values, "x"), answer(as_array, fresh, "x")
    if fitted is None or others is None:
        return
    found = answer(Preprocessing.fit, {"x": fitted, "y": np.arange(150) % 2})
    for column in () if found is None else found.variables["x"].columns:
        for ordered in (np.sort(fitted[:, 0]), np.sort(others[:, 0])):
            mapped = column(ordered)
            assert np.isfinite(mapped).all()
            assert (np.diff(mapped) >= -1e-9 * (1 + np.abs(mapped[1:]))).all()


CONVENTIONS = st.one_of(
    st.builds(
        lambda schedule, prediction: DiscreteVP.from_alphas(
            alphas_cumprod_from_config({"beta_schedule": schedule}), prediction
        ),
        st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"]),
        st.sampled_from([name for name in PREDICTIONS if "edm" not in name]),
    ),
    st.builds(
        lambda prediction, data: Karras(prediction, sigma_data=data),
        st.sampled_from(sorted(PREDICTIONS)),
        st.none() | st.floats(0.1, 10),
    ),
    st.builds(
        lambda prediction, shift, scale: RectifiedFlow.shifted(prediction, shift=shift, time_scale=scale),
        st.sampled_from([name for name in PREDICTIONS if "edm" not in name]),
        st.floats(0.2, 8),
        st.sampled_from([1.0, 1000.0]),
    ),
)


@some(40)
@given(CONVENTIONS, st.lists(st.floats(-9, 9), min_size=1, max_size=6), EVENTS, st.integers(0, 99))
def test_noise_comes_back_through_any_convention(convention, asked, event, seed):
    low, high = convention.logsnr_range
    logsnr = convention.snap(torch.tensor(asked, dtype=torch.float64))
    assert torch.equal(convention.snap(logsnr), logsnr)
    assert low <= float(logsnr.min()) <= float(logsnr.max()) <= high
    x, eps = torch.randn(2, len(asked), *event, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = add_noise(x, logsnr, eps)
    a, s = signal_and_noise(logsnr)
    p, q = convention.target(a, s)
    output = per_event(p, z) * x + per_event(q, z) * eps
    skip, out, _, _ = convention.coefficients(logsnr)
    # What the conversion divides by magnifies the rounding of what it is given.
    slack = 1e-12 * float((1 + skip.abs() + out.abs()).max()) * float(1 + z.abs().max() + output.abs().max())
    torch.testing.assert_close(per_event(skip, z) * z + per_event(out, z) * output, eps, rtol=0, atol=slack)


@some(30)
@given(st.tuples(*[st.integers(1, 9)] * 4), st.integers(0, 99))
def test_maps_keep_their_totals_at_any_size(sizes, seed):
    cells, size = sizes[:2], sizes[2:]
    maps = torch.randn(2, *cells, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(to_pixels(maps, size).sum((1, 2)), maps.sum((1, 2)))


@some(30)
@given(hnp.arrays(np.float64, (1, 3, 4), elements=st.integers(-3, 3)), hnp.arrays(bool, (1, 3, 4)))
def test_the_area_under_a_curve_turns_over_with_its_map(values, mask):
    assume(0 < mask.sum() < mask.size)
    maps, inside = torch.from_numpy(values), torch.from_numpy(mask)
    area = auroc(maps, inside)
    assert 0 <= float(area) <= 1
    torch.testing.assert_close(auroc(-maps, inside), 1 - area)
    torch.testing.assert_close(auroc(2 * maps + 1, inside), area)


WORDS = st.lists(st.sampled_from(["a", "red", "circle", "on", "ré", "x-y"]), min_size=1, max_size=6)


@some(30)
@given(WORDS, st.data())
def test_a_word_is_found_where_it_stands_and_leaves_no_gap(words, data):
    prompt, place = " ".join(words), data.draw(st.integers(0, len(words) - 1))
    word = words[place]
    earlier = words[:place].count(word)
    start, end = find_word(prompt, word, earlier)
    assert prompt[start:end] == word
    assert (
        replace_word(prompt, word, occurrence=earlier).split(" ") == [*words[:place], *words[place + 1 :]]
        or not words[1:]
    )
    assert replace_word(prompt, word, "blue", earlier).split(" ") == [*words[:place], "blue", *words[place + 1 :]]
