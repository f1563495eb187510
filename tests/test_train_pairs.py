"""The script of the model of Pairs: that it resumes, that its folder is diffusers', and that the protocol runs on it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer import BadParameter

from mmg_diffusers import MMGPipeline
from mmg_diffusers.commands.studies import uses
from mmg_diffusers.worlds.pairs import CAPTIONS, Pairs

ROOT = Path(__file__).parent.parent


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_pairs

    return train_pairs


def small(script, folder, **options):
    settings = {"steps": 4, "batch": 4, "vae_steps": 3, "vae_batch": 4, "save_every": 1, "images": 16, **options}
    script.main(folder, **settings)
    return folder


def test_resumes_to_the_same_model_writes_a_folder_and_is_measured(script, monkeypatch, tmp_path):
    undisturbed = small(script, tmp_path / "one")

    import train_shapes

    save, saved = train_shapes.save_checkpoint, []

    def save_and_stop(path, *args):
        save(path, *args)
        saved.append(path)
        if len(saved) in (2, 6):
            raise KeyboardInterrupt

    monkeypatch.setattr(train_shapes, "save_checkpoint", save_and_stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            small(script, tmp_path / "two")
    again = small(script, tmp_path / "two")
    for name in ("vae", "pairs-flow"):
        found, wanted = (load_file(folder / f"{name}.safetensors") for folder in (again, undisturbed))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)

    monkeypatch.setattr(script, "FRESH", 8)
    written = tmp_path / "written"
    small(script, tmp_path / "one", write=True, to=written, guidance=[1.0, 3.0], generated=2, sampling_steps=2)
    assert script.size_of(written) < 2.3
    card = (written / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: diffusers\n")
    assert "--steps 4 --batch 4" in card
    assert "--vae-steps 3" in card
    pipe = MMGPipeline.from_pretrained(written)
    pipe.set_progress_bar_config(disable=True)
    sample = Pairs("soft").sample(2, 1)
    told = pipe.compare(list(sample.images), sample.prompts, "a red circle above a red circle", levels=2)
    assert told.nats.shape == (2,)
    assert pipe.pipe(CAPTIONS[3], num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 3)

    uses.study(str(written), uses.Settings.quick(), ("binding",), tmp_path / "uses")
    table = (tmp_path / "uses" / "binding" / "table.md").read_text()
    assert "| objects change places | 0.5 |" in table
    assert "Soft world, 4 pairs:" in table


def test_nothing_is_exported_before_it_is_trained(script, tmp_path):
    with pytest.raises(BadParameter, match="train it first"):
        small(script, tmp_path, write=True)


def test_flow_is_trained_on_what_its_pipeline_feeds(script):
    tokenizer = script.make_tokenizer(CAPTIONS)
    loss = script.FlowLoss(tokenizer, CAPTIONS, script.SIZE).eval().requires_grad_(False)
    pipe = loss.pipeline(script.make_vae(), tokenizer)
    prompts = [CAPTIONS[5], "", CAPTIONS[140]]
    embeddings, _, pooled, _ = pipe.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
    states, own = loss.conditions(loss.spoken.tokens)
    told = torch.tensor([5, 144, 140])
    torch.testing.assert_close(states[told], embeddings[:, :13], atol=1e-6, rtol=0)
    torch.testing.assert_close(own[told], pooled, atol=1e-6, rtol=0)
    assert int(loss.spoken(torch.arange(144).repeat(40)).max()) == 144


def test_every_word_is_one_token(script):
    tokenizer = script.make_tokenizer(CAPTIONS)
    for caption in CAPTIONS:
        assert len(tokenizer(caption).input_ids) == len(caption.split()) + 2 <= 12
