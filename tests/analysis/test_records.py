"""Every result is kept, read back as what it was, and joined with those of other pairs alone."""

from dataclasses import replace

import pytest
import torch

import mmg_diffusers
from mmg_diffusers import MMG, Estimate
from mmg_diffusers.analysis import Calibration, Classification, Filtered, load
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath, measure_candidates
from mmg_diffusers.measure.divergence import Entropy, EntropyEstimator, Interaction
from mmg_diffusers.measure.measured import Measured
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.quadrature import AtLevels, StratifiedUniform
from mmg_diffusers.pairs.mixture import Mixture

RANGE = (-6.0, 6.0)
LEVELS = (-6.0, -2.0, 0.0, 2.0, 6.0)
OTHER = (-6.0, -2.0, 0.5, 2.0, 6.0)


class Makes:
    """Each kind of result of some of the pairs, along given levels, with the versions that are said."""

    def __init__(self, mixture):
        self.denoiser, self.x, self.cond = mixture

    def _rows(self, ids):
        return self.x[ids], {"label": self.cond["label"][ids]}

    def estimate(self, ids, levels=LEVELS):
        x, cond = self._rows(ids)
        return MMG("auto", AtLevels(levels), draws=2)(self.denoiser, x, cond, pair_ids=ids, logsnr_range=RANGE)

    def entropy(self, ids, levels=LEVELS):
        x, cond = self._rows(ids)
        run = EntropyEstimator(quadrature=AtLevels(levels))
        return run(self.denoiser, x, cond, pair_ids=ids, logsnr_range=RANGE)

    def interaction(self, ids, levels=LEVELS):
        alone = self.estimate(ids, levels)
        return Interaction(alone, alone.using("gap"))

    def comparison(self, ids, levels=LEVELS, truth=True):
        path = NoisePath(AtLevels(levels), logsnr_range=RANGE)
        x, cond = self._rows(ids)
        known = cond["label"] if truth else None
        return measure_candidates(self.denoiser, Pairs.of(x, ids), {"label": torch.arange(3)}, path, truth=known)

    def classification(self, ids, levels=LEVELS):
        calibration = Calibration((0.0,), (1.0, 0.5))
        prior = torch.tensor([0.5, 0.3, 0.2]).double()
        return Classification(self.comparison(ids, levels), ("a", "b", "c"), prior, calibration, notes=("a note",))

    def filter(self, ids, levels=LEVELS):
        _, cond = self._rows(ids)
        slots = torch.arange(3).expand(len(ids), -1)
        held = Mixture(("a", "b", "c"), slots, torch.full((len(ids), 3), 1 / 3).double(), cond["label"])
        return Filtered(self.comparison(ids, levels), held)


KINDS = {
    "estimate": Estimate,
    "entropy": Entropy,
    "interaction": Interaction,
    "comparison": CandidateCurve,
    "classification": Classification,
    "filter": Filtered,
}


@pytest.fixture
def makes(mixture):
    return Makes(mixture)


def numbers(found):
    """What a record says, as one tensor for each pair."""
    if isinstance(found, Measured):
        return torch.stack([found.nats, found.stderr.nan_to_num()], 1)
    return found.log_posterior if isinstance(found, Classification) else found.score.flatten(1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_comes_back_as_what_it_was(makes, kind, tmp_path):
    found = getattr(makes, kind)(torch.arange(6))
    path = found.save(tmp_path / "record.safetensors")
    for again in (
        load(path),
        mmg_diffusers.load(path),
        KINDS[kind].load(path),
        KINDS[kind].from_bytes(found.to_bytes()),
    ):
        assert type(again) is KINDS[kind]
        torch.testing.assert_close(numbers(again), numbers(found), rtol=0, atol=0)
        if isinstance(found, Measured):
            assert str(again.mean()) == str(found.mean())
            assert again.warnings() == found.warnings()
    other = next(other for other in KINDS.values() if other is not KINDS[kind])
    with pytest.raises(ValueError, match="is no complete"):
        other.load(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="is no complete"):
        load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_halves_are_the_whole_and_what_differs_is_refused(makes, kind):
    make, cls = getattr(makes, kind), KINDS[kind]
    whole, halves = make(torch.arange(6)), [make(ids) for ids in torch.arange(6).split(3)]
    merged = cls.merge(halves)
    torch.testing.assert_close(numbers(merged), numbers(whole), rtol=1e-9, atol=1e-12)
    if isinstance(whole, Measured):
        assert merged.mean() == pytest.approx(whole.mean(), nan_ok=True)
    with pytest.raises(ValueError, match=r"more than one shard|different ones"):
        cls.merge([halves[0], halves[0]])
    with pytest.raises(ValueError, match=r"different (levels|settings).*0\.5"):
        cls.merge([halves[0], make(torch.arange(3, 6), OTHER)])
    with pytest.raises(ValueError, match="there is no"):
        cls.merge([])
    with pytest.raises(TypeError, match="expected a"):
        cls.merge([halves[0], 3])


@pytest.mark.parametrize("kind", ["estimate", "classification", "filter"])
def test_shards_of_two_versions_are_refused(makes, kind):
    one, other = (getattr(makes, kind)(ids) for ids in torch.arange(6).split(3))
    # That of Python is no matter.
    other = replace(other, versions={**other.versions, "python": "3.99"})
    KINDS[kind].merge([one, other])
    other = replace(other, versions={**other.versions, "torch": "1.0"})
    with pytest.raises(ValueError, match=r"two versions of torch, .* and 1\.0"):
        KINDS[kind].merge([one, other])


def test_curves_along_different_levels_are_refused(makes):
    one, other = makes.estimate(torch.arange(3)).curve, makes.estimate(torch.arange(3, 6), OTHER).curve
    with pytest.raises(
        ValueError, match=r"different levels: 5 from -6\.000, -2\.000, 0\.000, .* and 5 from -6\.000, -2\.000, 0\.500"
    ):
        Curve.merge([one, other])
    # A single pair with a single draw, too, beside others.
    with pytest.raises(ValueError, match="different levels"):
        Curve.merge([one, replace(makes.estimate(torch.tensor([7]), OTHER)).curve])
    # Rules that draw their levels have others in every pair.
    run = MMG("gap", StratifiedUniform(5))
    drawn = [
        run(
            makes.denoiser,
            makes.x[k : k + 1],
            {"label": makes.cond["label"][k : k + 1]},
            pair_ids=torch.tensor([k]),
            logsnr_range=RANGE,
        )
        for k in range(3)
    ]
    assert len(Estimate.merge(drawn)) == 3


def test_comparisons_with_and_without_a_mixture_are_refused(makes):
    one, other = makes.comparison(torch.arange(3)), makes.comparison(torch.arange(3, 6), truth=False)
    with pytest.raises(ValueError, match="beside them and some do not"):
        CandidateCurve.merge([one, other])


def test_what_a_result_does_not_tell_is_refused(makes):
    entropy = makes.entropy(torch.arange(4))
    for read in (entropy.influence, entropy.pixel_map):
        with pytest.raises(TypeError, match="this entropy is not known"):
            read()
    assert list(entropy.to_pandas().columns) == ["pair", "nats", "stderr"]
    estimate = makes.estimate(torch.arange(4))
    assert float(estimate.influence().mean()[0][0]) == pytest.approx(estimate.mean().value)
    assert list(makes.classification(torch.arange(4)).to_pandas()["best"]) == makes.classification(torch.arange(4)).best


def test_units_of_where_half_arrived(makes):
    from mmg_diffusers.denoisers.conventions import Karras

    over = makes.estimate(torch.arange(200)).influence(Karras("edm"))
    assert over.half("tau").unit == "tau"
    assert str(over.half("logsnr")).endswith(" logsnr")
    assert over.half("timestep").unit == "timestep"
    assert over.at(0.0).unit == "nats"


def test_other_files_are_no_records(tmp_path):
    with pytest.raises(FileNotFoundError, match="no record at"):
        load(tmp_path / "absent")
    (tmp_path / "text").write_text("no record")
    with pytest.raises(ValueError, match="is no complete record"):
        load(tmp_path / "text")
    from mmg_diffusers.files.records import pack

    (tmp_path / "later").write_bytes(pack({"x": torch.zeros(1)}, {"format": "mmg_diffusers.Estimate/99"}))
    with pytest.raises(
        ValueError, match=r"format 'mmg_diffusers.Estimate/99'; expected one of mmg_diffusers.Estimate/3"
    ):
        load(tmp_path / "later")
