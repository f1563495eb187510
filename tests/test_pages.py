"""The code of docs/likelihood.md runs as it stands, and says what is true."""

import math
import re
from pathlib import Path

import pytest
import torch

import mmg_diffusers
from mmg_diffusers import MMG
from mmg_diffusers.denoisers import ExactDenoiser
from mmg_diffusers.measure import Density
from mmg_diffusers.worlds.densities import LevelMixture
from mmg_diffusers.worlds.shapes import Shapes

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/likelihood.md").read_text("utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(code, name, **given):
    """The names that code defines, given some."""
    names = {"__name__": name, **given}
    exec(compile(code, name, "exec"), names)
    return names


def test_every_block_of_the_page_is_run():
    assert len(CODE) == 5
    assert not re.search(r"^    (from|import) ", PAGE, re.MULTILINE), "code that is not in a block is not run"


def test_a_density_and_its_ratio(gaussian, capsys):
    denoiser, x, cond = gaussian
    denoiser.logsnr_range = (-12.0, 14.0)
    named = run(CODE[0], "likelihood.md", denoiser=denoiser, other_x=x[:500], x=x[500:600], y=cond["y"][500:600])
    alone = named["alone"]
    truth = -x[500:600].square().sum(1) / 2 - math.log(2 * math.pi)  # both coordinates have variance 1
    error = alone.nats - truth
    assert float((error.abs() < 4 * alone.stderr + 0.02).double().mean()) > 0.98
    assert "log p = " in capsys.readouterr().out
    # The comment of the last line: the ratio is the gap of MMG, at the same noise.
    ratio = named["run"](denoiser, x[500:600], {"y": cond["y"][500:600]}).versus(alone)
    with_gap = MMG("gap", named["run"].quadrature)(denoiser, x[500:600], {"y": cond["y"][500:600]})
    torch.testing.assert_close(ratio.nats, with_gap.nats, atol=1e-5, rtol=1e-5)


def test_data_on_a_grid():
    law = LevelMixture.of_normals(2, components=3, levels=256, seed=2)
    low, high, levels = law.levels
    assert (low, high, levels) == (-1.0, 1.0, 256)
    import numpy as np

    drawn = law.draw(400, np.random.default_rng(0))
    x = torch.from_numpy(drawn)
    denoiser = ExactDenoiser(law)
    denoiser.logsnr_range = (-10.0, 14.0)
    found = run(CODE[1], "likelihood.md", denoiser=denoiser, other_x=x[:200], x=x[200:260])["of_grid"]
    error = found.nats - torch.from_numpy(law.log_prob(drawn[200:260]))
    assert abs(float(error.mean())) < 4 * found.mean().stderr
    assert type(found).__name__ == "LogProbability"


def test_a_head():
    network = run(CODE[2], "likelihood.md")["network"]
    z = 3 * torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    logsnr = torch.linspace(-3, 3, 5, dtype=torch.float64)
    a, s = logsnr.sigmoid().sqrt()[:, None], (-logsnr).sigmoid().sqrt()[:, None]
    clean = (z - s * network.view("x")(z, logsnr)) / a
    assert float(clean.detach().abs().max()) < 1 + 1e-4


def test_a_law_that_is_known():
    named = run(CODE[3], "likelihood.md")
    z = named["error"] / named["measured"].stderr
    assert 0.7 < float(z.square().mean().sqrt()) < 1.3
    assert float(named["error"].square().mean().sqrt()) < 3


def test_tuning_a_pipeline(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = mmg_diffusers.MMGPipeline.from_pretrained(mmg_diffusers.shapes_model())
    made.set_progress_bar_config(disable=True)
    images, prompts = pictures
    short = CODE[4].replace("steps=600, batch=16", "steps=1, batch=2, check_every=1")
    assert short != CODE[4]
    named = run(short, "likelihood.md", pipe=made, images=images, prompts=prompts, other_images=images[:1])
    assert named["tuned"].record["plan"]["branches"] == "both"
    assert (tmp_path / "runs" / "tuned" / "pytorch_lora_weights.safetensors").exists()
    assert "adapters" in str(made.log_likelihood(images[:1], levels=2).settings["switches"])


@pytest.fixture(scope="module")
def pictures():
    sample = Shapes("soft").sample(10, seed=3)
    return list(sample.images), list(sample.prompts)


def test_what_users_of_likelihood_import():
    from mmg_diffusers.analysis import Audit
    from mmg_diffusers.denoisers import GaussianReference
    from mmg_diffusers.pairs import Likelihood

    for named in (Audit, Density, GaussianReference, Likelihood):
        assert getattr(mmg_diffusers, named.__name__) is named
        assert named.__name__ in dir(mmg_diffusers)
