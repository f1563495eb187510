"""References: closed forms against quadrature and exact denoisers, fits against the law that the points came from."""

import math

import pytest
import torch

from mmg_diffusers.denoisers import GaussianDenoiser, GaussianReference
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.files.identity import row_marks

KINDS = [("isotropic", None), ("diagonal", None), ("full", None), ("low rank", 2)]


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def law():
    """A mean and a covariance of 5 coordinates, and 400 points."""
    mix = normals(5, 5, seed=1)
    covariance = mix @ mix.T / 5 + 0.1 * torch.eye(5)
    mean = torch.tensor([3.0, -1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    return mean, covariance, mean + normals(400, 5, seed=2) @ torch.linalg.cholesky(covariance).T


def covariance_of(reference, size):
    held = reference.spectrum
    rest = held.rest.expand(size)
    if not len(held.values):
        return torch.diag(rest)
    inside = held.vectors @ torch.diag(held.values - held.rest) @ held.vectors.T
    return torch.diag(rest) + inside


def test_points_that_do_not_vary_are_refused():
    for kind, rank in KINDS:
        with pytest.raises(ValueError, match="all 9 points are the same"):
            GaussianReference.fit(torch.full((9, 4), 0.3), kind, rank)
    with pytest.raises(ValueError, match="all 15 points are the same"):
        GaussianReference.choose(torch.full((20, 4), 0.3))
    with pytest.raises(ValueError, match="within 2 directions, the rank"):
        GaussianReference.fit(normals(30, 2) @ normals(2, 5, seed=1), rank=2)


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_it_denoises_as_the_exact_one_of_its_covariance(law, kind, rank):
    mean, _, x = law
    reference = GaussianReference.fit(x, kind, rank)
    full = covariance_of(reference, 5)
    pair = torch.block_diag(full, torch.ones(1, 1, dtype=torch.float64))
    exact = GaussianDenoiser(pair, 5, torch.cat([reference.mean, torch.zeros(1, dtype=torch.float64)]))
    logsnr = torch.linspace(-9, 9, 30, dtype=torch.float64)
    z = 3 * normals(30, 5, seed=3) + mean
    torch.testing.assert_close(reference(z, logsnr), exact(z, logsnr), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(reference(z.float(), logsnr), exact(z, logsnr).float(), rtol=1e-5, atol=1e-5)
    surprise = -torch.distributions.MultivariateNormal(reference.mean, full).log_prob(x[:20])
    torch.testing.assert_close(reference.surprise(x[:20]), surprise)


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_integrals_are_those_of_its_error(law, kind, rank):
    _, _, x = law
    reference = GaussianReference.fit(x[:300], kind, rank)
    few = x[300:304]
    low = torch.linspace(-40, 1.5, 40001, dtype=torch.float64)
    high = torch.linspace(1.5, 45, 40001, dtype=torch.float64)
    below = torch.trapezoid(reference.error(few, low), low) / 2
    above = torch.trapezoid(reference.error(few, high) - 5, high) / 2
    torch.testing.assert_close(reference.error_below(few, 1.5), below, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(reference.flat_above(few, 1.5), above, rtol=1e-6, atol=1e-6)
    # Over the whole axis half the integral of error less its mean is the surprise less the entropy.
    variance, count = reference.spectrum.variances(5)
    both = torch.cat([low, high[1:]])
    known = torch.sigmoid(both[:, None] + variance.log()) @ count
    excess = torch.trapezoid(reference.error(few, both) - known, both) / 2
    entropy = float((count * (2 * math.pi * math.e * variance).log()).sum()) / 2
    torch.testing.assert_close(excess, reference.surprise(few) - entropy, rtol=1e-5, atol=1e-5)
    # And it is what noise gives.
    level = torch.full((40000,), 0.7, dtype=torch.float64)
    eps = normals(40000, 5, seed=5)
    seen = (eps - reference(add_noise(few[:1].expand(40000, -1), level, eps), level)).square().sum(1)
    assert abs(float(seen.mean() - reference.error(few[:1], level[:1]))) < 4 * float(seen.std()) / 200


def test_of_takes_what_a_covariance_is_written_as(law):
    mean, covariance, x = law
    full = GaussianReference.of(mean, covariance)
    exact = -torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)
    torch.testing.assert_close(full.surprise(x), exact)
    same = [GaussianReference.of(mean, given) for given in (4.0, torch.full((5,), 4.0), 4.0 * torch.eye(5))]
    assert [one.kind for one in same] == ["isotropic", "diagonal", "full"]
    for one in same[1:]:
        torch.testing.assert_close(one.surprise(x), same[0].surprise(x))
    images = GaussianReference.of(torch.ones(2, 3, 4), 0.25)
    torch.testing.assert_close(
        images.surprise(torch.zeros(1, 2, 3, 4)), GaussianReference(0.5).surprise(-torch.ones(1, 2, 3, 4))
    )


def test_a_number_is_the_reference_of_before():
    x = normals(6, 2, 3)
    expected = (x.square() / 1.69 + math.log(2 * math.pi * 1.69)).flatten(1).sum(1) / 2
    torch.testing.assert_close(GaussianReference(1.3).surprise(x), expected)


def test_a_full_fit_is_the_covariance_of_many_points(law):
    mean, covariance, _ = law
    x = mean + normals(20000, 5, seed=7) @ torch.linalg.cholesky(covariance).T
    fitted = GaussianReference.fit(x)
    assert fitted.kind == "full"
    assert fitted.fitted.shrinkage < 0.01
    assert fitted.notes == ()
    torch.testing.assert_close(covariance_of(fitted, 5), covariance, rtol=0.05, atol=0.03)
    torch.testing.assert_close(fitted.mean, mean, rtol=0, atol=0.05)


def test_few_points_in_many_dimensions_are_shrunk_and_it_is_said():
    """White points are shrunk nearly wholly, others as far as held-out ones ask for."""
    x = normals(50, 60)
    fitted = GaussianReference.fit(x, "full")
    assert fitted.fitted.shrinkage > 0.9
    assert "50 points in 60 dimensions" in fitted.notes[0]
    assert "shrunk" in fitted.notes[0]
    torch.testing.assert_close(covariance_of(fitted, 60), torch.eye(60).double(), rtol=0.2, atol=0.1)
    # Points that differ along a line are explained better by a covariance of it than by one variance.
    line = 5 * normals(50, 1, seed=3) * normals(1, 60, seed=4) + x
    fitted, others = GaussianReference.fit(line, "full"), 5 * normals(50, 1, seed=5) * normals(1, 60, seed=4)
    others = others + normals(50, 60, seed=6)
    assert fitted.fitted.shrinkage < 0.5
    assert fitted.surprise(others).mean() < GaussianReference.fit(line, "isotropic").surprise(others).mean()


@pytest.mark.parametrize("count", [3, 5, 7])
def test_a_handful_of_points_is_shrunk_by_what_each_says_of_the_others(count):
    """In ten dimensions most of the variances are unknown, which no share near 0 leaves them."""
    fitted = GaussianReference.fit(normals(count, 10, seed=count))
    assert fitted.fitted.shrinkage > 0.3
    # White points of variance 1 cost 14.2 nats under their own law.
    assert float(fitted.surprise(normals(2000, 10, seed=9)).mean()) < 22


@pytest.mark.parametrize("kind", ["full", None])
def test_points_that_are_there_many_times_hold_out_nothing_of_themselves(kind):
    few = normals(12, 10, seed=1)
    many = few.repeat(5, 1)
    fitted = GaussianReference.fit(many, kind) if kind else GaussianReference.choose(many)
    once = GaussianReference.fit(few, kind) if kind else GaussianReference.choose(few)
    assert (fitted.kind, fitted.fitted.shrinkage) == (once.kind, once.fitted.shrinkage)
    assert float(fitted.surprise(normals(2000, 10, seed=9)).mean()) < 22
    pair = GaussianReference.fit(few[:2].repeat(20, 1))
    assert pair.fitted.shrinkage == 1


def test_low_rank_finds_the_variance_along_the_directions_it_found():
    """Three spikes in 300 dimensions from 200 points: the sample's variances are far too large."""
    spikes = torch.tensor([20.0, 8.0, 4.0], dtype=torch.float64)
    truth = torch.diag(torch.cat([1 + spikes, torch.ones(297, dtype=torch.float64)]))
    x = normals(200, 300, seed=3) @ truth.sqrt()
    for rank in (3, 40):
        held = GaussianReference.fit(x, rank=rank).spectrum
        along = ((held.vectors.T @ truth) * held.vectors.T).sum(1)
        torch.testing.assert_close(held.values[:3], along[:3], rtol=0.15, atol=0.1)
        # Directions that are noise are no directions.
        assert float((held.values[3:] - held.rest).abs().max() if rank > 3 else 0) < 0.3
        assert float(held.rest) == pytest.approx(1, abs=0.03)
    sample = torch.linalg.eigvalsh(torch.cov(x.T))[-40]
    assert float(sample) > 2.5  # which the fortieth would be, had it been kept


def test_the_kind_is_chosen_on_points_that_it_was_not_fitted_to(law):
    _, _, x = law
    chosen = GaussianReference.choose(x)
    assert chosen.kind == "full"
    assert chosen.fitted.chosen["full"] < chosen.fitted.chosen["isotropic"]
    assert len(chosen.fitted.rows) == 400
    assert GaussianReference.choose(normals(30, 40)).kind in ("isotropic", "full", "low rank")
    spread = normals(300, 20, seed=2) * torch.linspace(0.1, 4, 20)
    assert GaussianReference.choose(spread).kind == "diagonal"
    spiked = normals(60, 200, seed=4) + 4 * normals(60, 1, seed=5) * normals(1, 200, seed=6)
    assert GaussianReference.choose(spiked).kind == "low rank"


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_it_is_kept_in_a_file(law, kind, rank, tmp_path):
    _, _, x = law
    fitted = GaussianReference.fit(x.view(400, 1, 5), kind, rank)
    again = GaussianReference.load(fitted.save(tmp_path / "r.safetensors"))
    assert again.record() == fitted.record()
    assert again.event == (1, 5)
    assert again.notes == fitted.notes
    torch.testing.assert_close(again.surprise(x.view(400, 1, 5)), fitted.surprise(x.view(400, 1, 5)), rtol=0, atol=0)
    assert again.among_fitted(x.view(400, 1, 5)[:7]) == 7
    assert GaussianReference.load(GaussianReference(2.5).save(tmp_path / "s.safetensors")).sigma == 2.5
    (tmp_path / "s.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(ValueError, match="no complete reference"):
        GaussianReference.load(tmp_path / "s.safetensors")


def test_a_row_is_known_again(law):
    _, _, x = law
    assert torch.equal(row_marks(x), row_marks(x.float()))
    assert len(row_marks(x).unique()) == 400
    fitted = GaussianReference.fit(x[:100])
    assert fitted.among_fitted(x[90:110]) == 10


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda x: GaussianReference.fit(x[:3], rank=2),
            ValueError,
            "got 3 points .* of rank 2; expected at least 4",
        ),
        (lambda x: GaussianReference.fit(x[:2]), ValueError, "2 points for a full covariance; expected at least 3"),
        (lambda x: GaussianReference.fit(x, rank=5), ValueError, "rank is 5 in 5 dimensions"),
        (lambda x: GaussianReference.fit(x, "diagonal", 2), ValueError, "rank is 2 for a reference of kind 'diagonal'"),
        (lambda x: GaussianReference.fit(x, "low rank"), ValueError, "rank is None"),
        (lambda x: GaussianReference.fit(x, "spherical"), ValueError, "kind is 'spherical'"),
        (lambda x: GaussianReference.fit(x * math.nan), ValueError, "NaN or infinite values in rows"),
        (lambda x: GaussianReference.fit(x.long()), ValueError, "floating-point rows"),
        (lambda x: GaussianReference.fit(x.numpy()), TypeError, "x is a ndarray"),
        (lambda x: GaussianReference.fit(x * torch.tensor([0, 1, 1, 1, 1]), "diagonal"), ValueError, "never changes"),
        (lambda x: GaussianReference.of(x[0], -1.0), ValueError, "not positive definite: a variance is -1"),
        (lambda x: GaussianReference.of(x[0], torch.ones(3)), ValueError, "covariance has shape"),
        (lambda x: GaussianReference.of(x[0], torch.ones(5, 5).triu()), ValueError, "not symmetric"),
        (lambda x: GaussianReference.of([0.0], 1.0), TypeError, "mean is a list"),
        (lambda x: GaussianReference.fit(x).surprise(x[:, :3]), ValueError, r"describes \(5,\), x is \(3,\)"),
        (lambda x: GaussianReference.choose(x, held_out=2), ValueError, "held_out is 2"),
        (lambda x: GaussianReference.choose(x, ("low rank",), (9,)), ValueError, "no rank of"),
    ],
)
def test_what_makes_no_reference_is_refused(law, make, error, message):
    with pytest.raises(error, match=message):
        make(law[2])


def test_a_coordinate_that_never_changes_leaves_the_kinds_that_can_be_fitted():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 2] = 1.0
    chosen = GaussianReference.choose(x, ranks=(2,))
    assert chosen.fitted is not None
    assert chosen.fitted.chosen is not None
    assert set(chosen.fitted.chosen) == {"isotropic", "full", "low rank 2"}
    with pytest.raises(ValueError, match="a variance is 0"):
        GaussianReference.choose(x, kinds=("diagonal",))
