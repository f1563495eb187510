"""The scripts that train and measure the shipped model."""

import math
import os
from types import SimpleNamespace

import pytest
import torch

from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.commands import demo
from mmg_diffusers.measure.candidates import CandidateCurve
from tests.commands.calling import ROOT, call, run


@pytest.mark.slow
def test_train_shapes_resumes_to_the_same_model(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    def train(folder):
        train_shapes.main(
            folder,
            vae_steps=2,
            vae_batch=4,
            unet_steps=2,
            unet_batch=4,
            refine_steps=2,
            refine_batch=4,
            odds_steps=2,
            odds_batch=2,
            neighbours=32,
            save_every=1,
        )
        return (folder / "model" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()

    undisturbed = train(tmp_path / "one")
    said = call("inspect", tmp_path / "one" / "model")
    assert said.exit_code == 0, said.output

    save, saved = train_shapes.save_checkpoint, []

    def save_and_stop(path, *args):
        save(path, *args)
        saved.append(path)
        if len(saved) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_shapes, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two")
    assert not (tmp_path / "two" / "model").exists()
    assert train(tmp_path / "two") == undisturbed
    assert len(saved) == 4 + 4


def test_averaged_targets_of_train_shapes_mean_what_plain_ones_do(monkeypatch):
    """Against an exact law: two labelled, overlapping Gaussian blobs. The mean is kept and the noise is not."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    generator = torch.Generator().manual_seed(3)

    def draw(count):
        x = torch.randn(count, 2, generator=generator) + 2 * torch.randint(2, (count, 1), generator=generator)
        # What a caption says of x, softly: the posterior of two captions.
        posterior = torch.stack([-x[:, 0], x[:, 0] - 1], 1).softmax(1)
        return x[:, :, None, None], posterior, torch.multinomial(posterior, 1, generator=generator)[:, 0]

    # Few neighbours, renewed for every noisy point, so that a bias of theirs would show.
    averaged, plain, weight = [], [], []
    alpha = torch.tensor([0.3])
    for _ in range(2000):
        bank, bank_posterior, _ = draw(30)
        x, posterior, caption = draw(1)
        z = alpha.sqrt() * x + (1 - alpha).sqrt() * torch.randn(x.shape, generator=generator)
        neighbours = train_shapes.Neighbours(bank, bank_posterior)
        given, null = neighbours(z, alpha, x, caption, posterior)
        averaged.append(torch.stack([given, null]).flatten(1))
        plain.append(x.flatten())
        weight.append(torch.cat([torch.ones(1), z.flatten().tanh(), (caption * 2.0 - 1) * z.flatten().sin()]))
    averaged, plain, weight = torch.stack(averaged), torch.stack(plain), torch.stack(weight)
    known = (slice(None), slice(0, 3))
    for form, functions in enumerate((weight, weight[known])):
        # Orthogonal to every function of what the network sees: z, and the caption where it is given.
        error = (averaged[:, form] - plain)[:, :, None] * functions[:, None]
        assert (error.mean(0) / (error.std(0) / len(error) ** 0.5)).abs().max() < 4
        exact_noise = (plain - plain.mean(0)).var(0)
        assert (averaged[:, form].var(0) < 0.7 * exact_noise).all()


def test_caption_odds_of_train_shapes_are_least_for_the_exact_network(monkeypatch):
    """Against a closed form: four pictures, each with its own captions of twelve, and others now and then."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    torch.manual_seed(5)
    pictures = 2 * torch.eye(4)
    captions = torch.arange(48)
    # p(caption | picture); all captions are equally likely over all pictures.
    posterior = torch.tensor([0.6, 0.2, 0.15, 0.05])[(captions // 12 - torch.arange(4)[:, None]) % 4] / 12

    class Denoising(torch.nn.Module):
        """The exact network of these pictures; `told` is what it takes each caption for."""

        def __init__(self, told):
            super().__init__()
            self.told = told
            self.tokens = captions
            self.alphas = train_shapes.make_scheduler().alphas_cumprod

        def forward(self, *batch):
            return torch.zeros(()), {}

        def text(self, tokens):
            return SimpleNamespace(last_hidden_state=tokens)

        def unet(self, z, level, caption):
            alpha = self.alphas[level][:, None]
            seen = z.flatten(1)
            square = (seen[:, None] - alpha[..., None].sqrt() * pictures).square().sum(2)
            share = (posterior.T[self.told[caption]].log() - square / (2 * (1 - alpha))).softmax(1)
            v = (alpha.sqrt() * seen - share @ pictures) / (1 - alpha).sqrt()
            return SimpleNamespace(sample=v.view_as(z))

    which = torch.randint(4, (400,))
    x = pictures[which].view(400, 4, 1, 1)
    spoken = torch.multinomial(posterior[which], 1)[:, 0]

    # Below 4 the network's own levels lie close enough for small steps; every image is followed.
    monkeypatch.setattr(train_shapes.CaptionOdds, "CLEANEST", 4.0)
    monkeypatch.setattr(train_shapes.CaptionOdds, "FOLLOWED", len(x))

    def excess(told, levels=27):
        monkeypatch.setattr(train_shapes.CaptionOdds, "LEVELS", levels)
        loss, numbers = train_shapes.CaptionOdds(Denoising(told))(x, spoken, posterior[which])
        assert loss == numbers["odds"]
        return float(loss)

    rivals = train_shapes.CaptionOdds(Denoising(captions))._rivals(spoken, posterior[which])
    assert (rivals != spoken[:, None]).all()
    assert (rivals[:, 0] != rivals[:, 1]).all()
    exact = excess(captions)
    assert 0 <= exact < 0.03
    # What is left is the step's.
    assert 0 <= excess(captions, levels=105) < exact / 2
    # Of wide steps it is less by what their variance has of the image; 0.051 with that of the noise alone.
    torch.manual_seed(6)
    assert excess(captions, levels=14) < 0.046
    assert excess(captions.roll(12)) > exact + 0.5
    # Taking one caption of the first kind for one of the second now and then is enough to be seen.
    assert excess(torch.where(captions % 12 == 0, captions.roll(12), captions)) > exact + 0.05


def test_caption_odds_of_train_shapes_denoise_every_image_and_follow_a_few(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_shapes

    denoised, followed = [], []

    class Denoising(torch.nn.Module):
        def forward(self, x, captions, posterior):
            denoised.append(x)
            return torch.tensor(2.0), {}

    def scores(x, rows):
        followed.append(x)
        return torch.zeros(rows.shape)

    odds = train_shapes.CaptionOdds(Denoising())
    monkeypatch.setattr(odds, "_scores", scores)
    x, captions = torch.randn(16, 4, 8, 8), torch.arange(16)
    loss, numbers = odds(x, captions, torch.rand(16, 48))
    assert torch.equal(denoised[0], x)
    assert torch.equal(followed[0], x[: odds.FOLLOWED])
    assert loss == odds.WEIGHT * 2 + numbers["odds"]
    assert odds.WEIGHT > 1  # or images come out pale


def test_the_mean_of_the_paths_posteriors_of_measure_shapes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from measure_shapes import mixed

    # One path is nearly sure of the truth, the other nearly sure that it is not: by their evidence they cancel.
    told = torch.tensor([[[[6.0, 0.0]], [[-6.0, 0.0]]]], dtype=torch.float64)
    curve = CandidateCurve(told, torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([0]), 4)
    prior = torch.tensor([0.25, 0.75], dtype=torch.float64)
    nats = mixed(Classification(curve, ("a", "b"), prior), ["a"])
    odds = torch.tensor([math.exp(6.0), math.exp(-6.0)], dtype=torch.float64) / 3
    torch.testing.assert_close(nats, ((odds / (1 + odds)).mean() / 0.25).log()[None])


def test_measure_shapes(tmp_path, capsys):
    arguments = [
        "--pairs",
        "2",
        "--fitted",
        "2",
        "--draws",
        "2",
        "--steps",
        "4",
        "--null-levels",
        "4",
        "--generated",
        "2",
        "--sampling-steps",
        "2",
    ]
    script = ROOT / "scripts" / "measure_shapes.py"
    run(script, "--output", tmp_path, *arguments, "--stage", "candidates-soft")
    said = capsys.readouterr().out
    assert "| | soft |" in said
    assert "the first 2 of the paths" in said
    assert "null prompt" not in said
    run(script, "--output", tmp_path, *arguments)
    said = capsys.readouterr().out
    assert "| | soft | hard |" in said
    assert "null prompt, gap" in said
    assert (tmp_path / "table.md").read_text() in said
    assert (tmp_path / "figure.png").stat().st_size > 1000
    # Stages that are there are read back.
    before = os.stat(tmp_path / "null-soft.json").st_mtime_ns
    run(script, "--output", tmp_path, *arguments)
    assert os.stat(tmp_path / "null-soft.json").st_mtime_ns == before


def test_the_demo_takes_the_largest_seed(pipe, monkeypatch):
    monkeypatch.setattr(demo, "PATHS", 1)
    monkeypatch.setattr(demo, "CALIBRATED", 2)
    shown = demo.demonstrate(pipe, pairs=2, levels=2, steps=2, seed=2**63 - 1)
    assert len(shown.estimate) == 2
