"""The script of the plain models: what it trains on, that it resumes, and that its folders are diffusers'."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer import BadParameter

ROOT = Path(__file__).parent.parent


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_plain

    return train_plain


def small(script, name, folder, **options):
    settings = {"steps": 4, "batch": 4, "held": 0.5, "save_every": 1, "images": 16, **options}
    script.main(script.Kind(name), folder, **settings)
    return folder


@pytest.mark.parametrize(("name", "most"), [("shapes-plain", 11.7), ("shapes-flow", 10.0)])
def test_resumes_to_the_same_model_and_writes_a_folder(script, monkeypatch, tmp_path, name, most):
    undisturbed = small(script, name, tmp_path / "one") / f"{name}.safetensors"
    assert undisturbed.with_suffix(".held.safetensors").exists()

    import train_shapes

    save, saved = train_shapes.save_checkpoint, []

    def save_and_stop(path, *args):
        save(path, *args)
        saved.append(path)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_shapes, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        small(script, name, tmp_path / "two")
    again = small(script, name, tmp_path / "two") / f"{name}.safetensors"
    found, wanted = load_file(again), load_file(undisturbed)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)

    monkeypatch.setattr(script, "FRESH", 8)
    written = tmp_path / "written"
    small(script, name, tmp_path / "one", write=True, to=written, guidance=[1.0, 3.0], generated=2, sampling_steps=2)
    assert script.size_of(written) <= most
    card = (written / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: diffusers\n")
    assert f"python scripts/train_plain.py {name}" in card
    assert "--steps 4 --batch 4" in card
    pipe = script.load(written)
    assert pipe("a small red circle on the left", num_inference_steps=2, output_type="np").images.shape == (
        1,
        32,
        32,
        3,
    )


def test_nothing_is_exported_before_it_is_trained(script, tmp_path):
    with pytest.raises(BadParameter, match="train it first"):
        small(script, "shapes-flow", tmp_path, write=True)


def awakened(loss):
    """The network with random numbers where it begins with zeros, so that every part of it is heard."""
    torch.manual_seed(0)
    for parameter in loss.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return loss.eval().requires_grad_(False)


def test_flow_is_trained_on_what_its_pipeline_feeds(script):
    """The one token in T5's place is all 256 of them, and the rest is what the pipeline encodes."""
    vae, tokenizer = script.load_first()
    loss = awakened(script.FlowLoss(tokenizer))
    pipe = loss.pipeline(vae, tokenizer)
    told = torch.tensor([5, 48, 40])
    prompts = [[*script.CAPTIONS, ""][i] for i in told]
    embeddings, _, pooled, _ = pipe.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
    assert embeddings.shape == (3, 12 + 256, 128)
    z, level = torch.randn(3, 4, 8, 8), torch.tensor([0.2, 0.5, 0.9])
    given = {"encoder_hidden_states": embeddings, "pooled_projections": pooled, "timestep": level * 1000}
    wanted = loss.transformer(z, **given).sample
    torch.testing.assert_close(loss.velocity(z, level, told), wanted, atol=1e-5, rtol=0)
    with script.folded_zeros(pipe) as any_folded:
        assert any_folded
        torch.testing.assert_close(loss.transformer(z, **given).sample, wanted, atol=1e-5, rtol=0)
    # The hook and the processors are gone, and captions matter.
    assert torch.equal(loss.transformer(z, **given).sample, wanted)
    assert (loss.velocity(z, level, told[[1, 1, 1]]) - wanted)[0].abs().max() > 1e-3


def test_plain_is_trained_on_what_its_pipeline_feeds(script):
    vae, tokenizer = script.load_first()
    loss = script.UNetLoss(tokenizer).eval().requires_grad_(False)
    pipe = loss.pipeline(vae, tokenizer)
    prompts = [script.CAPTIONS[7], ""]
    wanted = pipe.encode_prompt(prompts, "cpu", 1, False)[0]
    found = loss.text_encoder(loss.spoken.tokens).last_hidden_state[[7, 48]]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_one_prompt_in_ten_is_the_empty_one(script):
    torch.manual_seed(0)
    captions = torch.arange(20000) % 48
    spoken = script.Spoken(script.load_first()[1])
    told = spoken(captions)
    dropped = told == 48
    assert abs(dropped.double().mean() - 0.1) < 4 * (0.1 * 0.9 / 20000) ** 0.5
    assert torch.equal(told[~dropped], captions[~dropped])
    assert len(spoken.tokens) == 49


def test_the_bank_is_seen_whole_before_anything_comes_again(script):
    bank = torch.arange(12.0).view(12, 1, 1, 1), torch.arange(12)

    def take(count, *at):
        stream = iter(script.BankStream(bank, *at))
        return [next(stream)[1].tolist() for _ in range(count)]

    batches = take(6, 4, 0, 0, 1, 0)
    for epoch in (batches[:3], batches[3:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(12))
    assert batches[:3] != batches[3:]
    assert take(2, 4, 0, 0, 1, 4) == batches[4:]
    # Two processes share them.
    assert [take(3, 4, 0, rank, 2, 0)[0] for rank in (0, 1)] == batches[:2]


def test_a_bank_of_another_size_is_not_taken(script, tmp_path):
    vae, _ = script.load_first()
    latents, captions = script.make_bank(tmp_path / "bank.safetensors", vae, 6, part=4)
    assert latents.shape == (6, 4, 8, 8)
    assert len(captions.unique()) > 1
    with pytest.raises(BadParameter, match="holds 6 images"):
        script.make_bank(tmp_path / "bank.safetensors", vae, 8)
