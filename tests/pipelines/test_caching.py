"""Encodings are kept, found again, and never stale."""

import copy
import json
import os

import numpy as np
import pytest
import torch
from torch import nn

from mmg_diffusers import Masked, MMGPipeline, shapes_model
from mmg_diffusers.pipelines.adapters import Codec
from mmg_diffusers.pipelines.caching import EncodingCache, RememberingCodec, fingerprint
from mmg_diffusers.worlds.shapes import Shapes


@pytest.fixture
def own(pipe):
    """A pipeline that may be changed."""
    own = MMGPipeline(copy.deepcopy(pipe.pipe))
    own.set_progress_bar_config(disable=True)
    return own


@pytest.fixture(scope="module")
def sample():
    return Shapes("soft").sample(4, seed=8)


class Counted:
    """What was encoded while this was on."""

    def __init__(self, pipe, monkeypatch):
        self.images = self.prompts = 0
        encode, speak = pipe.pipe.vae.encode, pipe.pipe.text_encoder.forward

        def encode_image(images, *args, **kwargs):
            self.images += len(images)
            return encode(images, *args, **kwargs)

        def encode_text(ids, *args, **kwargs):
            self.prompts += len(ids)
            return speak(ids, *args, **kwargs)

        monkeypatch.setattr(pipe.pipe.vae, "encode", encode_image)
        monkeypatch.setattr(pipe.pipe.text_encoder, "forward", encode_text)

    def take(self):
        """Counts since the last time."""
        found = (self.images, self.prompts)
        self.images = self.prompts = 0
        return found


def test_nothing_is_encoded_twice(own, sample, monkeypatch):
    counted = Counted(own, monkeypatch)
    images, prompts = list(sample.images), ["a red circle", "a circle", "a red circle", "a square"]
    first = own(images, prompts, levels=2)
    # The null prompt is encoded as well.
    assert counted.take() == (4, 4)
    again = own(images, prompts, levels=2)
    assert counted.take() == (0, 0)
    assert torch.equal(again.nats, first.nats)
    own.classify(images, prompts[1:], levels=2)
    assert counted.take() == (0, 0)
    own(images, prompts, given=[Masked(prompt, "a") for prompt in prompts], levels=2)
    assert counted.take() == (0, 3)
    own.set_encoding_cache(max_bytes=0)
    assert torch.equal(own(images, prompts, levels=2).nats, first.nats)
    assert own(images, prompts, levels=2)
    assert counted.take() == (8, 8)


def double(network):
    for parameter in network.parameters():
        parameter.data.mul_(2)


CHANGES = {
    "weights": lambda pipe: pipe.pipe.vae.encoder.conv_in.weight.detach().add_(1),
    "one weight": lambda pipe: pipe.pipe.vae.encoder.conv_in.bias.detach()[3:4].add_(1),
    "weights, unseen by autograd": lambda pipe: double(pipe.pipe.vae),
    "loading": lambda pipe: pipe.pipe.vae.load_state_dict(
        {name: value * 2 for name, value in pipe.pipe.vae.state_dict().items()}
    ),
    "another network": lambda pipe: setattr(
        pipe.pipe, "vae", type(pipe.pipe.vae).from_config({**pipe.pipe.vae.config, "layers_per_block": 2}).eval()
    ),
    "dtype": lambda pipe: pipe.to(torch.bfloat16),
    "scale": lambda pipe: pipe.pipe.vae.register_to_config(scaling_factor=0.5),
    "shift": lambda pipe: pipe.pipe.vae.register_to_config(shift_factor=0.5),
    "tiling": lambda pipe: pipe.pipe.vae.enable_tiling(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_is_encoded_again_when_its_encoder_changed(own, sample, monkeypatch, change):
    images = list(sample.images)
    _, before = next(own.encoder.images(images, False))
    counted = Counted(own, monkeypatch)
    list(own.encoder.images(images, False))
    assert counted.take() == (0, 0)
    monkeypatch.undo()
    CHANGES[change](own)
    counted = Counted(own, monkeypatch)
    after = next(own.encoder.images(images, False))[1]
    assert counted.take() == (4, 0)
    fresh = torch.cat([own.codec.encode_images(torch.tensor(image).permute(2, 0, 1)[None].float()) for image in images])
    torch.testing.assert_close(after, fresh.float(), rtol=1e-4, atol=1e-4)
    if change != "tiling":
        assert not torch.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize("change", ["weights", "a token", "a learned token", "an adapter"])
def test_a_prompt_is_encoded_again_when_its_encoder_changed(own, monkeypatch, change):
    own.encoder.condition(["a red circle"])
    if change == "weights":
        double(own.pipe.text_encoder)
    elif change == "a token":
        own.pipe.tokenizer.add_tokens(["red circle"])
        own.pipe.text_encoder.resize_token_embeddings(len(own.pipe.tokenizer))
    elif change == "a learned token":
        # As textual inversion puts it there, in the row of one token, unseen by autograd.
        row = own.pipe.tokenizer("a red circle").input_ids[2]
        own.pipe.text_encoder.get_input_embeddings().weight.data[row] += 0.5
    else:
        layer = own.pipe.text_encoder
        layer.active_adapters, layer.scaling = ["style"], {"style": 1.0}
        own.encoder.condition(["a red circle"])
        layer.scaling = {"style": 0.5}
    counted = Counted(own, monkeypatch)
    own.encoder.condition(["a red circle"])
    assert counted.take() == (0, 1)


def test_content_and_resizing_are_in_the_key(own, monkeypatch):
    counted = Counted(own, monkeypatch)
    one, other = np.full((32, 32, 3), 0.5), np.full((32, 32, 3), 0.5)
    other[0, 0, 0] = 0.6
    own([one, other], "a", levels=2)
    assert counted.take()[0] == 2
    own(np.full((64, 64, 3), 0.5), "a", levels=2)
    assert counted.take()[0] == 1
    # Resized to the size of `one` it is the very same picture, but for eight bits.
    own(np.full((64, 64, 3), 0.5), "a", levels=2, resize=True)
    assert counted.take()[0] == 1
    own(np.full((64, 64, 3), 0.5), "a", levels=2, resize=True)
    assert counted.take()[0] == 0


def test_memory_is_bounded_and_the_oldest_leave_first():
    cache = EncodingCache(max_bytes=100)
    for name in ("a", "b"):
        cache.put(name, {"x": torch.zeros(10)})
    assert cache.get("a") is not None
    cache.put("c", {"x": torch.zeros(10)})
    assert cache.bytes_held == 80
    assert [cache.get(name) is not None for name in "abc"] == [True, False, True]
    cache.put("large", {"x": torch.zeros(100)})
    assert cache.get("large") is None
    assert cache.bytes_held == 80
    with pytest.raises(ValueError, match="max_bytes is -1; expected at least 0, the size"):
        EncodingCache(-1)


# ---- on disk ----


def test_a_run_is_measured_again_without_encoders(own, sample, tmp_path, monkeypatch):
    source = [{"image": image, "prompt": text} for image, text in zip(sample.images, sample.prompts, strict=True)]
    own.set_encoding_cache(folder=tmp_path / "cache")
    own.run(source, tmp_path / "one", levels=2, seed=0, progress=False)
    plain = own.run(source, tmp_path / "two", levels=2, seed=1, progress=False)
    other = MMGPipeline.from_pretrained(shapes_model())
    other.set_encoding_cache(folder=tmp_path / "cache")
    monkeypatch.setattr(other.pipe.vae, "encode", None)
    monkeypatch.setattr(other.pipe.text_encoder, "forward", None)
    again = other.run(source, tmp_path / "three", levels=2, seed=1, progress=False)
    assert torch.equal(again.estimate.nats, plain.estimate.nats)


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty", "swap", "remove", "pickle"])
def test_damaged_files_are_encoded_again(tmp_path, harm):
    value = {"x": torch.arange(6.0).reshape(2, 3), "mask": torch.tensor([True, False])}
    EncodingCache(folder=tmp_path).put("key", value)
    (path,) = tmp_path.rglob("*.safetensors")
    body = bytearray(path.read_bytes())
    read = EncodingCache(folder=tmp_path).get("key")
    assert {name: (v.dtype, v.tolist()) for name, v in read.items()} == {
        name: (v.dtype, v.tolist()) for name, v in value.items()
    }
    if harm == "remove":
        path.unlink()
    elif harm == "swap":  # a whole file of another library
        import safetensors.torch

        safetensors.torch.save_file(value, path)
    elif harm == "pickle":
        torch.save(value, path)
    else:
        body[-3] ^= 1
        path.write_bytes({"truncate": body[:-4], "flip": body, "empty": b""}[harm])
    cache = EncodingCache(folder=tmp_path)
    assert cache.get("key") is None
    cache.put("key", value)
    assert EncodingCache(folder=tmp_path).get("key") is not None


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot make a cache in .*choose a folder"):
        EncodingCache(folder=tmp_path / "file" / "cache")
    cache = EncodingCache(folder=tmp_path / "cache")
    (tmp_path / "cache" / "ke").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="encodings are not kept in .* any more"):
        cache.put("key", {"x": torch.zeros(1)})
    cache.put("other", {"x": torch.zeros(1)})
    assert cache.get("key") is not None


def test_what_the_files_say_of_the_machine(own, sample, tmp_path):
    """Names are hashes, and nothing in them tells a path or a prompt."""
    own.set_encoding_cache(folder=tmp_path)
    own(sample.images[0], "a red circle", levels=2)
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) == 3  # the picture, the prompt and the null prompt
    for path in files:
        body = path.read_bytes()
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        assert set(header["__metadata__"]) == {"format", "digest"}
        assert len(path.stem) == 64
        assert os.fspath(shapes_model()).encode() not in body


# ---- fingerprints ----


def test_fingerprints_are_of_values_names_and_dtypes():
    torch.manual_seed(0)
    one = nn.Linear(64, 64)
    other = nn.Linear(64, 64)
    other.load_state_dict(one.state_dict())
    assert fingerprint([one]) == fingerprint([other]) == fingerprint([one.to(memory_format=torch.contiguous_format)])
    assert fingerprint([one]) != fingerprint([one, other])
    first = fingerprint([one])
    with torch.no_grad():
        one.weight[17, 23] += 1e-6
    assert fingerprint([one]) != first
    assert fingerprint([other.double()]) != first
    assert fingerprint([nn.Linear(64, 64, device="meta")]) is None


class Silent(Codec):
    """A codec that does not say what it depends on."""

    native_size, multiple = (8, 8), 1

    def __init__(self):
        self.calls = 0

    def encode_images(self, images):
        self.calls += 1
        return images.flatten(1)

    def encode_prompts(self, prompts):
        return {"y": torch.zeros(len(prompts), 1)}

    def truncated(self, prompt):
        return None

    def describe(self):
        return {}


def test_codecs_that_do_not_say_what_they_depend_on_are_asked_every_time():
    codec = Silent()
    remembering = RememberingCodec(codec, EncodingCache())
    for _ in range(2):
        assert remembering.images([torch.zeros(3, 8, 8)] * 2).shape == (2, 192)
    assert codec.calls == 4
    assert remembering.cache.bytes_held == 0
    with pytest.raises(ValueError, match="cannot mask a word"):
        remembering.prompts([Masked("a red circle", "red")])
