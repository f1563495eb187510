"""What cannot be measured is refused with its reason, and what can is not."""

import json
import sys

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    PixArtAlphaPipeline,
    TCDScheduler,
    WanVideoToVideoPipeline,
)

from mmg_diffusers import MMGPipeline
from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Adapted, same_rows
from mmg_diffusers.denoisers.conventions import RectifiedFlow
from mmg_diffusers.pipelines.adapters.base import stack
from mmg_diffusers.pipelines.adapters.networks import each_length, pack, told, unpack
from mmg_diffusers.pipelines.adapters.refusals import distilled_name, model_name
from mmg_diffusers.pipelines.adapters.registry import find_family
from tests.pipelines.families import (
    auraflow,
    chroma,
    cogvideox,
    cogview4,
    deepfloyd_if,
    dit,
    flux,
    hidream,
    kandinsky3,
    ltx,
    lumina,
    pixart,
    qwen_image,
    sana,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    wan,
    z_image,
)

HASH = "1d0c4ebf6ff58a5caecab40fa1406526bca4b5b9"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("stabilityai/sd-turbo", "sd-turbo"),
        ("x/sd-turbo/", "sd-turbo"),
        (f"/home/me/.cache/huggingface/hub/models--stabilityai--sd-turbo/snapshots/{HASH}", "sd-turbo"),
        (f"/hub/models--stabilityai--sd-turbo/snapshots/{HASH}//", "sd-turbo"),
        ("C:\\models\\SD_Turbo\\", "sd-turbo"),
        ("", ""),
    ],
)
def test_names_are_read_off_places(place, name):
    assert model_name(place) == name


@pytest.mark.parametrize(
    "place",
    [
        *("sd-turbo", "sdxl-turbo/", "x/stable-diffusion-3.5-large-turbo", "Z-Image-Turbo", "SDXL-Lightning"),
        *(
            "sdxl-lightning-4step",
            "SDXL_Lightning_8steps_unet",
            "lcm-sdxl",
            "LCM_Dreamshaper_v7",
            "PixArt-LCM-XL-2-1024-MS",
        ),
        *("Hyper-SD", "Hyper-SDXL-8steps", "hyper-flux-16steps-lora", "tcd-sdxl", "dmd2", "FLUX.1-schnell"),
        *("Sana_Sprint_1.6B_1024px_diffusers", "HunyuanDiT-v1.2-Diffusers-Distilled", "dreamshaper-xl-v2-turbo"),
        f"hub/models--stabilityai--sdxl-turbo/snapshots/{HASH}",
    ],
)
def test_names_of_distilled_models(place):
    assert distilled_name(place)


@pytest.mark.parametrize(
    "place",
    [
        *("lightning-strikes-photos", "balcmodel", "turbo-lion-portraits", "hyper-realistic-portraits", "sprint-races"),
        *(
            "turbo/stable-diffusion-v1-5",
            "lcm/sdxl-base",
            "stable-diffusion-xl-base-1.0",
            "stable-diffusion-3-medium",
            "",
        ),
        *("turbocharger", "lightningbolt", f"hub/models--turbo--plain/snapshots/{HASH}"),
    ],
)
def test_names_of_others(place):
    assert not distilled_name(place)


def changed(pipe, **config):
    pipe.register_to_config(**config)
    return pipe


def replaced(pipe, **parts):
    for name, part in parts.items():
        setattr(pipe, name, part)
    return pipe


SD = stable_diffusion.pipeline(stable_diffusion.ddim)
XL = stable_diffusion_xl.pipeline()
SD3 = stable_diffusion_3.pipeline()
CHROMA = chroma.pipeline()
FLUX = flux.pipeline(**flux.DYNAMIC)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replaced(SD(), scheduler=LCMScheduler()), r"LCMScheduler, is for networks that were distilled"),
        (lambda: replaced(XL(), scheduler=TCDScheduler()), r"TCDScheduler.*measure_candidates"),
        (lambda: replaced(SD(), unet=stable_diffusion.unet(time_cond_proj_dim=8)), "told the guidance"),
        (lambda: replaced(SD(), unet=stable_diffusion.unet(channels=9)), "takes 9 channels where the latent has 4"),
        (
            lambda: replaced(XL(), text_encoder=None),
            r"text of width 40 where 1 text encoder\(s\) give 24: one is missing",
        ),
        (lambda: replaced(XL(), text_encoder_2=None), "has no text_encoder_2"),
        (lambda: replaced(XL(), unet=stable_diffusion.unet(40)), "expected 'text_time'"),
        (lambda: replaced(SD3(), scheduler=LCMScheduler()), "is for networks that were distilled"),
        (
            lambda: changed(pixart.pipeline(PixArtAlphaPipeline)(), _name_or_path="x/PixArt-LCM-XL-2-1024-MS"),
            "measure_candidates",
        ),
        (
            lambda: replaced(pixart.pipeline(PixArtAlphaPipeline)(), scheduler=LCMScheduler()),
            "distilled to a few steps",
        ),
        (wan.pipeline(wan.unipc, boundary_ratio=0.9), "two networks.*it has no transformer_2"),
        *(
            (lambda make=make: replaced(make(), scheduler=DDIMScheduler()), f"{name} is a flow, and .*DDIMScheduler")
            for name, make in (
                ("Wan", wan.pipeline(wan.unipc)),
                ("AuraFlow", auraflow.pipeline()),
                ("Stable Diffusion 3", SD3),
                ("Sana", sana.pipeline(sana.dpm)),
                ("LTX-Video", ltx.pipeline()),
                ("Chroma", CHROMA),
            )
        ),
        # What a pipeline turns before its scheduler has it.
        (
            lambda: replaced(z_image.pipeline()(), scheduler=DPMSolverMultistepScheduler(use_flow_sigmas=True)),
            "Z-Image turns its network's output to the flow eps - x, which .* reads as 'epsilon'",
        ),
        (
            lambda: replaced(z_image.pipeline()(), scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True)),
            "reads as 'reversed_flow_prediction', told the share of signal",
        ),
        (
            cogvideox.pipeline(patch_size_t=2, use_rotary_positional_embeddings=True, ofs_embed_dim=8),
            r"also told an offset \(ofs_embed_dim 8\)",
        ),
        (
            lambda: replaced(cogview4.pipeline()(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0)),
            "does not shift its times linearly by the image's size",
        ),
        (deepfloyd_if.pipeline(in_channels=6), "takes 6 channels where the latent has 3"),
        (
            lambda: replaced(deepfloyd_if.pipeline()(), unet=deepfloyd_if.unet(class_embed_type="timestep")),
            "a later stage of DeepFloyd IF, whose UNet also sees the small image.*Measure stage I",
        ),
        (lambda: changed(SD3(), _name_or_path="x/sd3-turbo/"), "sd3-turbo is guidance-distilled"),
        (
            lambda: replaced(FLUX(), transformer=flux.transformer(guidance=True)),
            r"told the guidance \(guidance_embeds\)",
        ),
        (lambda: replaced(FLUX(), transformer=flux.transformer(96)), "takes 96 channels where the latent has 16"),
        (
            lambda: replaced(qwen_image.pipeline()(), transformer=qwen_image.transformer(zero_cond_t=True)),
            r"also given an image to edit or layers \(zero_cond_t\)",
        ),
        (
            lambda: changed(hidream.pipeline(hidream.dynamic)(), _name_or_path="x/HiDream-I1-Fast"),
            "hidream-i1-fast is guid",
        ),
        (lambda: changed(CHROMA(), _name_or_path="lodestones/Chroma1-Flash"), "chroma1-flash is guidance-distilled"),
        (lambda: changed(z_image.pipeline()(), _name_or_path="x/Z-Image-Turbo"), "z-image-turbo is guidance-distilled"),
        (lambda: changed(FLUX(), _name_or_path="x/FLUX.1-schnell"), "flux.1-schnell is guidance-distilled"),
        (flux.pipeline(), r"either schnell's.*say so with null='empty'; else compare candidate prompts"),
    ],
)
def test_pipelines_that_cannot_be_measured(make, message):
    with pytest.raises(ValueError, match=message):
        MMGPipeline(make())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FluxFillPipeline", "is also given an image or mask"),
        ("FluxKontextPipeline", "is also given the image that is edited"),
        ("Flux2Pipeline", "is told the guidance"),
        ("SanaSprintPipeline", "is distilled to a few steps"),
        ("StableDiffusionXLInstructPix2PixPipeline", "is also given the image that is edited"),
        ("StableDiffusionDepth2ImgPipeline", "is also given an image or depth"),
        ("StableUnCLIPPipeline", "is given the embedding of an image"),
        ("ZImageOmniPipeline", "is also given images"),
        ("QwenImageEditPipeline", "is also given the image that is edited"),
        ("WanImageToVideoPipeline", "is also given the first frame; measure WanPipeline"),
        ("CogVideoXImageToVideoPipeline", "is also given the first frame; measure CogVideoXPipeline"),
        ("StableVideoDiffusionPipeline", "is also given an image or a video"),
        ("HunyuanVideoPipeline", "is told the guidance"),
        ("SkyReelsV2DiffusionForcingPipeline", "each at a level of its own"),
        ("LTX2Pipeline", "pictures and sound together"),
        ("AnimateDiffPipeline", "there is no adapter for it yet; measure the network by itself"),
        ("TextToVideoZeroPipeline", "knows no videos; measure single frames"),
        ("AnyFlowPipeline", "is told two times"),
        ("AudioLDM2Pipeline", "it makes sound"),
        ("StableAudioPipeline", "it makes sound"),
        ("MusicLDMPipeline", "it makes sound"),
        ("ConsistencyModelPipeline", "a consistency model.*predicts the noise of no level"),
        ("LatentConsistencyModelPipeline", "is told the guidance.*measure_candidates"),
        ("KandinskyV22Pipeline", "the embedding of an image that a prior drew.*measure Kandinsky3Pipeline"),
        ("StableCascadeCombinedPipeline", "the embedding of an image that a prior drew"),
        ("StableCascadePriorPipeline", "makes embeddings of images, or small latents"),
        ("StableDiffusionControlNetPipeline", "is also steered by an image"),
        ("VideoToVideoSDPipeline", "there is no adapter for it yet"),
        ("PaintByExamplePipeline", "is also given an image"),
        ("StableDiffusionSAGPipeline", r"StableDiffusionPipeline\(\*\*pipe.components\)"),
        ("VQDiffusionPipeline", "denoises tokens"),
    ],
)
def test_kin_that_cannot_be_measured(name, message):
    with pytest.raises(ValueError, match=f"{name} cannot be measured: .*{message}"):
        find_family([name])


# Folders of diffusers.pipelines whose pipelines make videos.
_VIDEO_FOLDERS = (
    *("allegro", "animatediff", "anyflow", "chronoedit", "cogvideo", "consisid", "cosmos", "easyanimate", "helios"),
    *("hunyuan_video", "hunyuan_video1_5", "i2vgen_xl", "kandinsky5", "kandinsky6", "latte", "ltx", "ltx2", "lucy"),
    *("mochi", "motif_video", "pia", "sana_video", "sana_wm", "skyreels_v2", "stable_video_diffusion"),
    *("text_to_video_synthesis", "wan"),
)


def test_every_pipeline_of_videos_is_measured_or_refused_with_a_reason():
    names = [name for name in dir(diffusers) if name.endswith("Pipeline") and not name.endswith("ModularPipeline")]
    made = {name: getattr(diffusers, name) for name in names}
    found = {
        name: [kind.__name__ for kind in made[name].__mro__]
        for name in names
        if made[name].__module__.split(".")[2:3] and made[name].__module__.split(".")[2] in _VIDEO_FOLDERS
    }
    assert len(found) > 60
    measured, said = set(), {}
    for name, kinds in found.items():
        try:
            measured.add(find_family(kinds).name)
        except ValueError as error:
            said[name] = str(error)
    assert measured == {"Wan", "SkyReels V2", "CogVideoX", "LTX-Video"}
    assert [name for name, message in said.items() if "cannot be measured: " not in message] == []


def test_a_scheduler_that_reads_a_flow_as_noise_is_followed_and_told_of():
    scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0)
    model = MMGPipeline(replaced(SD3(), scheduler=scheduler))
    assert model.denoiser.convention.prediction == "epsilon"
    said = "the scheduler reads the network as 'epsilon'; models of Stable Diffusion 3 predict a flow"
    assert said in model.denoiser.notes
    assert said in model.describe()["notes"]


def test_a_pipeline_that_cannot_clean_its_prompts_is_refused(monkeypatch):
    from diffusers.pipelines.wan import pipeline_wan_video2video

    monkeypatch.delattr(pipeline_wan_video2video, "ftfy", raising=False)
    parts = wan.pipeline(wan.unipc)().components
    pipe = WanVideoToVideoPipeline(**{name: part for name, part in parts.items() if name != "transformer_2"})
    with pytest.raises(ValueError, match="cannot encode a prompt without ftfy; run pip install ftfy"):
        MMGPipeline(pipe)


def test_a_null_that_a_family_does_not_have_is_refused():
    with pytest.raises(ValueError, match="null is 'zeros'; expected, for Stable Diffusion 3, 'empty'"):
        MMGPipeline(SD3(), null="zeros")
    zeros, empty = (MMGPipeline(XL(), null=kind).denoiser.null for kind in ("zeros", "empty"))
    assert all(not value.any() for value in zeros.values())
    assert all(value.any() for value in empty.values())


def test_an_empty_prompt_is_no_null_of_kandinsky_3():
    with pytest.raises(ValueError, match="null is 'empty'; expected, for Kandinsky 3, 'zeros'"):
        MMGPipeline(kandinsky3.pipeline()(), null="empty")


def test_an_image_that_the_grid_does_not_hold_is_refused():
    model = MMGPipeline(SD3())
    with pytest.raises(ValueError, match="48 x 16 is larger than the 32 pixels"):
        model(torch.rand(3, 48, 16), "a dot", levels=2)
    with pytest.raises(ValueError, match="16 x 48 is larger than the 32 pixels"):
        MMGPipeline(auraflow.pipeline()())(torch.rand(3, 16, 48), "a dot", levels=2)


def test_a_size_that_a_transformer_has_no_room_for_is_refused():
    codec = MMGPipeline(hidream.pipeline(hidream.dynamic)()).codec
    codec.check_size(16, 16)
    for height, width, tokens in ((20, 16, 20), (20, 20, 25)):
        with pytest.raises(ValueError, match=f"{tokens} tokens, more than the 16"):
            codec.check_size(height, width)


def test_text_is_cut_after_what_is_put_before_it():
    codec = MMGPipeline(sana.pipeline(sana.dpm)()).codec
    assert codec.truncated("A" * 200) is None
    # 300 tokens, of which the pipeline's own arithmetic leaves 298 to what comes after the instruction.
    assert codec.truncated("A" * 300) == "aa"
    empty, null = codec.encode_prompts([""]), codec.encode_null("empty")
    assert empty["encoder_attention_mask"].sum() > null["encoder_attention_mask"].sum() == 1


def test_text_that_no_encoder_sees_is_reported():
    both, clip_alone = (MMGPipeline(stable_diffusion_3.pipeline(with_t5)()) for with_t5 in (True, False))
    text = "a" * 90
    assert both.codec.truncated(text) is None
    assert clip_alone.codec.truncated(text) == "a" * 15
    assert both.codec.truncated("a" * 300) == "a" * (300 - 254)


CUT = {
    "sd3": (SD3, "text_encoder (77 tokens) and text_encoder_2 (77 tokens)", 75, 254),
    "flux": (FLUX, "text_encoder (77 tokens)", 75, 510),
}


@pytest.mark.parametrize("name", CUT)
def test_text_that_one_encoder_cuts_and_another_reads_is_remarked_on(name):
    build, who, short, long = CUT[name]
    encoder = MMGPipeline(build()).encoder
    assert encoder.check_prompts(["a" * short]) == ()
    text = "a" * short + "bcd"
    with pytest.warns(UserWarning, match="other text encoders see more of it"):
        (note,) = encoder.check_prompts([text, "a" * (short + 1), "a"])
    assert note == (
        f"{who} does not see 'bcd', the end of {shown(text)}, and that of 1 more; other text encoders see more of it"
    )
    with pytest.warns(UserWarning, match="does not see"):
        none, some = encoder.check_prompts(["a" * long + "bc"])
    assert none.startswith("the text encoder does not see 'bc'")
    assert some.startswith(f"{who} does not see")


def test_text_that_all_encoders_cut_alike_is_remarked_on_once():
    with pytest.warns(UserWarning, match="does not see"):
        assert len(MMGPipeline(XL()).encoder.check_prompts(["a" * 80])) == 1


def test_released_text_encoders_keep_the_record_and_the_null(tmp_path):
    for build in (XL, SD3):
        model, whole = MMGPipeline(build()), MMGPipeline(build())
        for each in (model, whole):
            each.set_progress_bar_config(disable=True)
        model.release_text_encoders(["a dot"])
        image = torch.rand(3, *model.codec.native_size, generator=torch.Generator().manual_seed(0))
        assert torch.equal(model(image, "a dot", levels=2).nats, whole(image, "a dot", levels=2).nats)
        one, other = model.describe(), whole.describe()
        assert one.pop("missing") != other.pop("missing")
        assert one == other


def test_a_folder_without_t5_says_so(tmp_path):
    stable_diffusion_3.pipeline(with_t5=False)().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["text_encoder_3"] == [None, None]
    assert MMGPipeline.from_pretrained(tmp_path).describe()["t5_tokens"] == "none (zeros in their place)"


def test_a_shift_by_size_is_in_the_record():
    pipe = replaced(SD3(), scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
    assert MMGPipeline(pipe).describe()["flow_shift"] == pytest.approx(1.57, abs=0.1)


def test_the_refiner_knows_the_clean_levels_and_one_score():
    pipe = stable_diffusion_xl.refiner()()
    model = MMGPipeline(pipe)
    low, _ = model.denoiser.logsnr_range
    assert low == pytest.approx(float(model.denoiser.convention.levels[199]))
    assert int(model.denoiser.convention.timesteps[-1]) == 199
    assert "6.0" in model.describe()["size"]
    given = []
    pipe.unet.register_forward_pre_hook(
        lambda m, a, k: given.append(k["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    model(torch.rand(3, 16, 16), "a dot", levels=2)
    assert all(torch.equal(ids, torch.tensor([[16.0, 16, 0, 0, 6]]).expand_as(ids)) for ids in given)


def test_classes_by_name_or_number():
    model = MMGPipeline(dit.pipeline(lambda: DDIMScheduler(clip_sample=False))())
    labels = [model.codec.encode_prompts([text])["class_labels"].item() for text in ("goldfish", "Tinca tinca", "207")]
    assert labels == [1, 0, 207]
    assert model.describe()["null"] == "class 1000, which stands for none"
    for wrong in ("gold", "1000", "-1", ""):
        with pytest.raises(ValueError, match="is no class of this model; expected a number from 0 to 999"):
            model(torch.rand(3, 16, 16), wrong, levels=2)


@pytest.mark.parametrize(
    "build",
    [pixart.pipeline(PixArtAlphaPipeline), lumina.pipeline(), deepfloyd_if.pipeline()],
    ids=["pixart", "lumina", "if"],
)
@pytest.mark.parametrize("installed", [True, False])
def test_the_record_says_whether_prompts_were_cleaned(monkeypatch, installed, build):
    """Those whose pipelines clean prompts by default are told cleaned ones."""
    model = MMGPipeline(build())
    module = sys.modules[type(model.pipe).__module__]
    for kind in ("bs4", "ftfy"):
        monkeypatch.setattr(f"diffusers.utils.is_{kind}_available", lambda: installed)
        monkeypatch.setattr(module, f"is_{kind}_available", lambda: installed)
    monkeypatch.setattr(type(model.pipe), "_clean_caption", lambda self, text: text.replace("<b>", ""))
    said = "cleaned of markup and links" if installed else "not cleaned"
    assert said in model.describe()["prompts"]
    assert model.codec.rewritten("A <b>Dot") == ("A Dot" if installed else "a <b>dot")
    whole, plain = (model.codec.encode_prompts([text]) for text in ("A <b>Dot", "A Dot"))
    assert all(torch.equal(whole[name], plain[name]) for name in whole if installed)
    if not installed:
        assert any(whole[name].shape != plain[name].shape or (whole[name] != plain[name]).any() for name in whole)
        limit = model.codec.limits()["tokenizer"]
        assert (model.codec.truncated("A" * (limit + 10) + " ") or "").startswith("a" * 10)


# ---- nouns ----


def test_rows_of_class_labels_are_compared():
    one, other = {"label": torch.tensor([1, 2])}, {"label": torch.tensor([1, 3])}
    assert torch.equal(torch.as_tensor(same_rows(one, other)), torch.tensor([True, False]))


def test_more_channels_are_cut_for_a_learned_variance_alone():
    def twice(x, time):
        return torch.cat([x, x + 1], 1)

    convention = RectifiedFlow.shifted()
    z, level = torch.randn(2, 3, 4, 4), convention.levels[[400, 500]]
    with pytest.raises(ValueError, match=r"expected \(2, 3, 4, 4\); if the second half is a learned variance"):
        Adapted(twice, convention, {})(z, level)
    assert Adapted(twice, convention, {}, learned_variance=True)(z, level).shape == z.shape
    with pytest.raises(ValueError, match=r"expected \(2, 6, 4, 4\)"):
        Adapted(lambda x, time: x, convention, {}, learned_variance=True)(z, level)


def test_unequal_lengths_are_stacked_with_their_mask():
    short, long = ({"states": torch.ones(1, n, 2), "mask": torch.ones(1, n)} for n in (2, 3))
    stacked = stack([short, long])
    assert stacked["states"][..., 0].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert stacked["mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match="states differs in length between prompts"):
        stack([{"states": short["states"]}, {"states": long["states"]}])


def test_rows_are_run_at_their_length():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]])
    seen = []

    def run(rows, length):
        seen.append((rows.tolist(), length))
        return rows[:, None].float() * 10 + length

    assert each_length(mask, run)[:, 0].tolist() == [2, 13, 21, 32]
    assert seen == [([2], 1), ([0, 3], 2), ([1], 3)]


def test_tokens_are_packed_as_diffusers_packs_them():
    from diffusers import FluxPipeline

    x = torch.randn(2, 3, 4, 6)
    tokens = pack(x)
    assert torch.equal(tokens, FluxPipeline._pack_latents(x, 2, 3, 4, 6))
    assert torch.equal(unpack(tokens, x), x)


def test_times_are_told_in_float32():
    half, single = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1)
    time = torch.tensor([333.3], dtype=torch.float64)
    assert told(time, half).dtype == told(time, single).dtype == torch.float32
    assert told(time, time).dtype == torch.float64
    assert told(torch.tensor([5]), half).dtype == torch.int64
