"""Videos through the front door: numbers of frames, maps, runs, and models of images that take none."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from mmg_diffusers import MMGPipeline
from mmg_diffusers.analysis.maps import to_frames, to_pixels
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.pipelines.media import Stills, Videos
from tests.pipelines.families import cogvideox, parity, stable_diffusion, wan

WAN, EXPERTS, COG, LEARNED, LATER = (wan.ROWS[0], wan.ROWS[3], cogvideox.ROWS[0], *cogvideox.ROWS[2:])
PROMPTS = ["a red dot", "a blue square"]


@cache
def _built(name):
    row = next(row for row in (*wan.ROWS, *cogvideox.ROWS) if row.name == name)
    return parity.model_of(row, row.build())


def model(row):
    """A row's model, which tests leave as it is."""
    return _built(row.name)


def videos(count=1, frames=5, size=(16, 32), seed=0):
    shape = (count, frames, 3, *size)
    return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))


# ---- numbers of frames ----


@pytest.mark.parametrize(
    ("medium", "taken", "said"),
    [
        (Videos(4), [1, 5, 9, 13], "1, 5, 9 ... frames"),
        (Videos(4, 2), [5, 13], "5, 13, 21 ... frames"),
        (Videos(8), [1, 9], "1, 9, 17 ... frames"),
        (Videos(4, only=9), [9], "9 frames"),
    ],
)
def test_numbers_of_frames(medium, taken, said):
    assert [count for count in range(1, 17) if medium.takes(count)] == taken
    assert medium.said == said


@pytest.mark.parametrize(
    ("row", "frames", "message"),
    [
        (WAN, 7, r"video 0 has 7 frames; this model takes 1, 5, 9 \.\.\. frames. Nearest are 5 and 9"),
        (WAN, 2, r"video 0 has 2 frames.*Nearest are 1 and 5.*\[\[image\], \[image\]\] are two of one frame"),
        (COG, 8, "video 0 has 8 frames.*Nearest are 5 and 9"),
        (LATER, 9, r"video 0 has 9 frames; this model takes 5, 13, 21 \.\.\. frames. Nearest are 5 and 13"),
        (LATER, 1, "video 0 has 1 frames.*Nearest are 5"),
        (LEARNED, 5, "video 0 has 5 frames; this model takes 9 frames"),
    ],
)
def test_a_wrong_number_of_frames_is_refused_before_a_network_runs(row, frames, message):
    one = model(row)
    height, width = row.size or one.codec.native_size
    with parity.listening(one.pipe.transformer) as calls, pytest.raises(ValueError, match=message):
        one(videos(1, frames, (height, width)), "a dot", levels=2)
    assert calls == []


def test_learned_positions_are_of_one_size():
    with pytest.raises(ValueError, match="16 x 32 is not the size whose positions this transformer learned"):
        model(LEARNED)(videos(1, 9, (16, 32)), "a dot", levels=2)


def test_lists_of_frames_and_of_videos():
    one = model(WAN)
    frames = [Image.fromarray((255 * frame).byte().permute(1, 2, 0).numpy()) for frame in videos()[0]]
    single, twice = one(frames, "a dot", levels=2), one([frames, frames], "a dot", levels=2)
    assert len(single) == 1
    assert len(twice) == 2
    assert torch.equal(single.nats, twice.nats[:1])
    assert any("same video" in note or "video" in note for note in twice.notes)
    # A still is a video of one frame.
    assert torch.equal(one(frames[0], "a dot", levels=2).nats, one([[frames[0]]], "a dot", levels=2).nats)
    with pytest.raises(ValueError, match="got 5 prompts for 1 videos"):
        one(frames, ["a dot"] * 5, levels=2)
    with pytest.raises(ValueError, match=r"videos differ in size: 5 x 16 x 32 \(video 0\), 1 x 16 x 32 \(video 1\)"):
        one([frames, frames[:1]], PROMPTS, levels=2)
    with pytest.raises(ValueError, match="Measure each number of frames on its own"):
        one([frames, frames[:1]], PROMPTS, levels=2, resize=True)


def test_a_model_of_images_takes_no_video():
    still = MMGPipeline(stable_diffusion.pipeline(stable_diffusion.ddim)())
    frames = videos(size=still.codec.native_size)[0]
    with pytest.raises(TypeError, match="image 0 is a list of 5, as a video is"):
        still([list(frames)], "a dot", levels=2)
    with pytest.raises(ValueError, match="image 0 has shape"):
        still([frames], "a dot", levels=2)
    assert still.codec.medium == Stills()


def test_videos_are_resized():
    one = parity.model_of(WAN, WAN.build())
    one.pipe.transformer.register_to_config(sample_size=(32, 16))
    whole = videos(1, 5, (40, 24))
    out = one(whole, "a dot", levels=2, resize=True, keep="pixel")
    assert out.pixel_map()[0].shape == (1, 2, 4, 2)
    assert one.pixel_map(whole, "a dot", levels=2, resize=True)[0].shape == (1, 5, 32, 16)


def test_a_models_videos_are_not_drawn():
    with pytest.raises(ValueError, match=r"Wan makes videos.*expected a model of images"):
        draw(model(WAN), ["a dot"])


# ---- latents and maps ----


@pytest.mark.parametrize("row", [WAN, COG], ids=["wan", "cogvideox"])
def test_pictures_are_grouped_as_the_autoencoder_groups_them(row):
    """A picture is first seen by the latent that it belongs to, but for norms over all of a video (CogVideoX)."""
    codec = parity.model_of(row, row.build()).codec
    for part in codec.pipe.vae.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.forward = lambda x: x
    still = videos(1, 9)
    before = codec.encode_images(still)
    assert codec.medium.pictures(9) == [1, 4, 4]
    latent_of = torch.arange(3).repeat_interleave(torch.tensor(codec.medium.pictures(9)))
    for picture in range(9):
        changed = still.clone()
        changed[:, picture] = 1 - changed[:, picture]
        moved = (codec.encode_images(changed) - before).abs().amax((0, 1, 3, 4)) > 1e-6
        assert int(moved.int().argmax()) == int(latent_of[picture])
        assert bool(moved.any())


def test_maps_of_latents_on_frames():
    maps = torch.arange(12, dtype=torch.float64).view(1, 3, 2, 2)
    spread = to_frames(maps, [1, 4, 4])
    assert spread.shape == (1, 9, 2, 2)
    assert torch.equal(spread[:, 0], maps[:, 0])
    assert torch.equal(spread[:, 1:5], (maps[:, 1:2] / 4).expand(1, 4, 2, 2))
    torch.testing.assert_close(spread.sum(), maps.sum())
    with pytest.raises(ValueError, match=r"expected maps \(..., 2, h, w\), got shape \(1, 3, 2, 2\)"):
        to_frames(maps, [1, 4])
    with pytest.raises(ValueError, match="a number of pictures"):
        to_frames(maps, [1, 0, 4])
    with pytest.raises(TypeError, match="maps"):
        to_frames([[1.0]], [1])


@pytest.mark.parametrize("row", [WAN, LATER], ids=["wan", "cogvideox"])
def test_maps_lie_on_every_frame_and_sum_to_the_number(row):
    one = model(row)
    size = row.size or one.codec.native_size
    pair = (videos(2, 5, size), PROMPTS)
    nats, stderr = one.pixel_map(*pair, levels=3)
    assert nats.shape == stderr.shape == (2, 5, *size)
    whole = one(*pair, levels=3, keep="pixel")
    torch.testing.assert_close(nats.sum((1, 2, 3)), whole.using("orthogonal").nats)
    latents = to_pixels(whole.pixel_map("orthogonal")[0], size)
    torch.testing.assert_close(nats[:, 0], latents[:, 0])
    torch.testing.assert_close(nats[:, 3], latents[:, 1] / 4)
    # The two latents are not alike.
    assert not torch.allclose(latents[:, 0], latents[:, 1])


# ---- two networks by level ----


def test_each_level_is_answered_by_the_network_that_the_pipeline_calls():
    one = model(EXPERTS)
    noisy, clean = parity.networks_of(EXPERTS, one.pipe)
    assert "transformer for times from 700" in one.describe()["networks"]
    assert one.family.networks() == (noisy, clean)
    denoiser = one.denoiser
    event = one.codec.encode_images(videos()).shape[1:]
    share = torch.tensor([0.9, 0.2, 0.7, 0.6999, 0.71], dtype=torch.float64)
    logsnr = 2 * torch.log((1 - share) / share)
    z = torch.randn(5, *event, generator=torch.Generator().manual_seed(0))
    condition = one.encoder.condition([PROMPTS[k % 2] for k in range(5)])
    with torch.no_grad(), parity.listening(noisy, clean) as calls:
        whole = denoiser(z, logsnr, condition)
    told = {id(call.network): sorted(call.given["timestep"].tolist()) for call in calls}
    assert told[id(noisy)] == pytest.approx([700, 710, 900], rel=1e-5)
    assert told[id(clean)] == pytest.approx([200, 699.9], rel=1e-5)
    # Rows come back in their places.
    for k in range(5):
        with torch.no_grad():
            alone = denoiser(z[k : k + 1], logsnr[k : k + 1], {n: v[k : k + 1] for n, v in condition.items()})
        torch.testing.assert_close(alone, whole[k : k + 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["other boundary", "swapped", "first alone"])
def test_parity_finds_the_wrong_network(way):
    pipe = EXPERTS.build()
    run = parity.run_pipeline(EXPERTS, pipe, EXPERTS.prompts[:1], EXPERTS.size)
    told = [float(moment.told[0]) for moment in run.moments]
    assert min(told) < 700 <= max(told)
    one, networks = parity.model_of(EXPERTS, pipe), parity.networks_of(EXPERTS, pipe)
    condition = one.encoder.condition(list(EXPERTS.prompts[:1]))
    denoiser = one.denoiser
    for moment in run.moments:
        parity.hold(moment, denoiser, condition, *networks)
    experts = denoiser.network
    if way == "other boundary":
        experts.boundary = 100.0
    elif way == "swapped":
        experts.noisy, experts.clean = experts.clean, experts.noisy
    else:
        experts.clean = experts.noisy
    wrong = 0
    for moment in run.moments:
        try:
            parity.hold(moment, denoiser, condition, *networks)
        except AssertionError:
            wrong += 1
    assert wrong


# ---- caches, released encoders, runs ----


def test_a_video_is_encoded_once(monkeypatch):
    one = parity.model_of(WAN, WAN.build())
    encoded = []
    encode = one.pipe.vae.encode
    monkeypatch.setattr(one.pipe.vae, "encode", lambda x: (encoded.append(tuple(x.shape)), encode(x))[1])
    for _ in range(2):
        one(videos(2), PROMPTS, levels=2)
    assert encoded == [(1, 3, 5, 16, 32)] * 2
    # The order of frames counts.
    one(videos(2).flip(1), PROMPTS, levels=2)
    assert len(encoded) == 4


def test_released_text_encoders_keep_the_medium():
    one = parity.model_of(WAN, WAN.build())
    before = one(videos(), PROMPTS[0], levels=2).nats
    one.release_text_encoders(PROMPTS)
    assert one.codec.medium == Videos(4)
    assert torch.equal(one(videos(), PROMPTS[0], levels=2).nats, before)


def test_runs_over_folders_of_frames_and_animations(tmp_path):
    """A table may name both; a video of a wrong number of frames is a bad pair, and the others are measured."""
    pixels = (255 * videos(3)).byte().permute(0, 1, 3, 4, 2).numpy()
    source = tmp_path / "source"
    (source / "frames").mkdir(parents=True)
    for k, frame in enumerate(pixels[0]):
        Image.fromarray(frame).save(source / "frames" / f"{k}.png")
    for name, frames in (("whole.webp", pixels[1]), ("cut.webp", pixels[2][:4])):
        first, *others = map(Image.fromarray, frames)
        first.save(source / name, save_all=True, append_images=others, lossless=True)
    rows = [("frames", "a red dot"), ("whole.webp", "a blue square"), ("cut.webp", "a dot")]
    lines = [json.dumps({"path": name, "prompt": prompt}) for name, prompt in rows]
    (source / "metadata.jsonl").write_text("\n".join(lines))
    one = model(WAN)
    outcome = one.run(source, tmp_path / "out", levels=2, progress=False)
    assert [failure.place for failure in outcome.failures] == [2]
    assert "has 4 frames" in outcome.failures[0].reason
    direct = one(torch.from_numpy(pixels[:2]).permute(0, 1, 4, 2, 3), PROMPTS, levels=2)
    torch.testing.assert_close(outcome.estimate.nats, direct.nats, rtol=1e-5, atol=1e-6)
    # The same run goes on: nothing is measured anew, and a frame that changed is noticed.
    again = one.run(source, tmp_path / "out", levels=2, progress=False)
    assert torch.equal(again.estimate.nats, outcome.estimate.nats)
    # Rows in memory.
    listed = [{"image": [Image.fromarray(frame) for frame in clip], "prompt": "a dot"} for clip in pixels[:2]]
    from_memory = one.run(listed, tmp_path / "memory", levels=2, progress=False)
    assert len(from_memory.estimate) == 2
