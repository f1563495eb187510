"""Model folders with one thing broken, and other things that are no model."""

import shutil

import torch

from mmg_diffusers import MMGPipeline, shapes_model
from tests.bad_inputs.room import json_change, pickled, rows, weights_change

INDEX, SCHEDULER, UNET, VAE = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae/config.json",
)
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
load = MMGPipeline.from_pretrained


def drop(tensors):
    """Leave out a tensor."""
    del tensors[min(tensors)]


def rename(tensors):
    """Give every tensor another name, as versions of a library do that store them otherwise."""
    for name in list(tensors):
        tensors[f"other.{name}"] = tensors.pop(name)


def spoil(tensors):
    """Make a tensor NaN, as a training run does that diverged."""
    tensors[min(tensors)] *= float("nan")


def without(name):
    """Leave out a part of the copy."""

    def change(folder):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return change


def half_alone(folder):
    """Weights under the name of their variant, as many publish them."""
    for path in list(folder.glob("*/*.safetensors")):
        path.rename(path.with_suffix(".fp16.safetensors"))


def half_split(folder):
    """The same of one part, in two files."""
    path = folder / WEIGHTS
    path.rename(path.with_name("diffusion_pytorch_model.fp16-00001-of-00001.safetensors"))


def custom(folder):
    """A UNet of a class in a file of the folder's own, which would tell if it were run."""
    json_change(INDEX, unet=["own", "Own"])(folder)
    (folder / "unet" / "own.py").write_text(f"open({str(folder.parent / 'was_run')!r}, 'w')\nclass Own: ...\n")


ROWS = (
    *rows(
        "MMGPipeline.from_pretrained(path)",
        ("None", lambda r: load(None), TypeError, "the model is a NoneType"),
        ("a number", lambda r: load(3), TypeError, "the model is a int; expected a path"),
        ("empty text", lambda r: load(""), ValueError, "no model_index.json"),
        ("no such folder", lambda r: load(r.folder / "nowhere"), ValueError, "cannot find a pipeline.*no such folder"),
        (
            "no such id in the cache",
            lambda r: load("nobody/nothing", local_files_only=True),
            ValueError,
            "cannot find a pipeline at 'nobody/nothing'",
        ),
        ("a file", lambda r: load(r.file("m.safetensors")), ValueError, "no pipeline folder.*from_single_file"),
        ("an empty folder", lambda r: load(r.folder), ValueError, "no model_index.json.*save_pretrained"),
        ("the folder of a part", lambda r: load(shapes_model() / "unet"), ValueError, "no model_index.json"),
        (
            "torch_dtype='float16'",
            lambda r: load(shapes_model(), torch_dtype="float16"),
            TypeError,
            "such as torch.float16",
        ),
        ("an integer dtype", lambda r: load(shapes_model(), torch_dtype=torch.int8), TypeError, "floating point"),
        ("a variant that is not there", lambda r: load(shapes_model(), variant="fp16"), ValueError, "variant=fp16"),
        ("a misspelt option", lambda r: load(shapes_model(), dtype=torch.float16), TypeError, "dtype"),
    ),
    *rows(
        "from_pretrained, model_index.json",
        (
            "no JSON",
            lambda r: r.load(lambda f: (f / INDEX).write_text("{")),
            ValueError,
            "cannot read the model_index.json",
        ),
        ("a list", lambda r: r.load(lambda f: (f / INDEX).write_text("[]")), ValueError, "names no pipeline class"),
        ("empty", lambda r: r.load(lambda f: (f / INDEX).write_text("{}")), ValueError, "names no pipeline class"),
        (
            "a number for the class",
            lambda r: r.load(json_change(INDEX, _class_name=3)),
            ValueError,
            "names no pipeline",
        ),
        (
            "a pipeline without an adapter",
            lambda r: r.load(json_change(INDEX, _class_name="OmniGenPipeline")),
            ValueError,
            "no adapter for 'OmniGenPipeline'.*Stable Diffusion XL.*Adapted.network, convention.*measure_candidates",
        ),
        (
            "a part set to null",
            lambda r: r.load(json_change(INDEX, unet=[None, None])),
            ValueError,
            "the pipeline has no unet; load it with all of",
        ),
        ("code of its own, which is not run", lambda r: r.load(custom), ValueError, "custom code"),
        (
            "a part of another library",
            lambda r: r.load(json_change(INDEX, unet=["os", "system"])),
            ValueError,
            "cannot load",
        ),
        ("a guidance-distilled model", lambda r: r.load(lambda f: None, "sd-turbo"), ValueError, "guidance-distilled"),
    ),
    *rows(
        "from_pretrained, weights",
        (
            "a part that is not told the prompt",
            lambda r: r.load(json_change(INDEX, _class_name="KandinskyV22Pipeline")),
            ValueError,
            "the embedding of an image that a prior drew, and not the prompt.*measure Kandinsky3Pipeline",
        ),
        (
            "a pipeline of sound",
            lambda r: r.load(json_change(INDEX, _class_name="AudioLDM2Pipeline")),
            ValueError,
            "it makes sound, and images and videos are measured here",
        ),
        (
            "a tokenizer without words",
            lambda r: r.load(without("tokenizer/tokenizer.json")),
            ValueError,
            "the tokenizer in .* knows no words",
        ),
        ("pickled, unet", lambda r: r.load(pickled("unet")), ValueError, "Only safetensors.*safe_serialization=True"),
        ("pickled, vae", lambda r: r.load(pickled("vae")), ValueError, "Only safetensors.*safe_serialization=True"),
        ("pickled, text encoder", lambda r: r.load(pickled("text_encoder")), ValueError, "Only safetensors"),
        ("of the variant fp16 alone", lambda r: r.load(half_alone), ValueError, "variant='fp16' .--variant fp16"),
        (
            "of fp16 alone, split",
            lambda r: r.load(half_split),
            ValueError,
            "unet has weights of the variant 'fp16' alone",
        ),
        ("no file", lambda r: r.load(lambda f: (f / WEIGHTS).unlink()), ValueError, "cannot load"),
        ("an empty file", lambda r: r.load(lambda f: (f / WEIGHTS).write_bytes(b"")), ValueError, "cannot load"),
        (
            "a cut file",
            lambda r: r.load(lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:1000])),
            ValueError,
            "cannot load",
        ),
        (
            "a tensor missing, unet",
            lambda r: r.load(weights_change("unet", drop)),
            ValueError,
            "lack unet.conv_in.bias",
        ),
        ("a tensor missing, vae", lambda r: r.load(weights_change("vae", drop)), ValueError, "lack vae.decoder"),
        (
            "a tensor missing, text",
            lambda r: r.load(weights_change("text_encoder", drop)),
            ValueError,
            "lack text_encoder",
        ),
        (
            "all tensors by other names, text",
            lambda r: r.load(weights_change("text_encoder", rename)),
            ValueError,
            "lack text_encoder.*36 in all",
        ),
        (
            "NaN in the unet",
            lambda r: r.load(weights_change("unet", spoil)),
            ValueError,
            "NaN or infinite.*unet.conv_in",
        ),
        ("NaN in the vae", lambda r: r.load(weights_change("vae", spoil)), ValueError, "NaN or infinite values in vae"),
    ),
    *rows(
        "from_pretrained, parts",
        ("no unet", lambda r: r.load(lambda f: shutil.rmtree(f / "unet")), ValueError, "has no folder unet, which"),
        ("no tokenizer", lambda r: r.load(lambda f: shutil.rmtree(f / "tokenizer")), ValueError, "no folder tokenizer"),
        (
            "no scheduler",
            lambda r: r.load(lambda f: shutil.rmtree(f / "scheduler")),
            ValueError,
            "has no folder scheduler",
        ),
        ("a unet's config that is no JSON", lambda r: r.load(lambda f: (f / UNET).write_text("{")), ValueError, "JSON"),
        (
            "a unet of another width",
            lambda r: r.load(json_change(UNET, block_out_channels=[64, 128])),
            ValueError,
            "cannot load.*expected shape",
        ),
        (
            "a unet without its size",
            lambda r: r.load(json_change(UNET, sample_size=None)),
            ValueError,
            "sample_size None",
        ),
        (
            "a unet of class labels",
            lambda r: r.load(json_change(UNET, class_embed_type="identity")),
            ValueError,
            "given more than a noisy latent",
        ),
        (
            "text states of another width",
            lambda r: r.load(json_change("text_encoder/config.json", hidden_size=12)),
            ValueError,
            "cannot load",
        ),
        ("a scaling of 0", lambda r: r.load(json_change(VAE, scaling_factor=0)), ValueError, "scaling_factor is 0"),
        ("no scaling", lambda r: r.load(json_change(VAE, scaling_factor=None)), TypeError, "scaling_factor is None"),
        ("an unknown prediction", lambda r: r.load(json_change(SCHEDULER, prediction_type="x")), ValueError, "'x'"),
        ("an unknown schedule", lambda r: r.load(json_change(SCHEDULER, beta_schedule="mine")), ValueError, "mine"),
        (
            "betas with NaN",
            lambda r: r.load(json_change(SCHEDULER, beta_end=float("nan"))),
            ValueError,
            "beta_end is nan",
        ),
        ("betas above 1", lambda r: r.load(json_change(SCHEDULER, beta_end=2.0)), ValueError, "betas run from"),
        ("betas as text", lambda r: r.load(json_change(SCHEDULER, beta_end="x")), ValueError, "cannot load"),
        ("one timestep", lambda r: r.load(json_change(SCHEDULER, num_train_timesteps=1)), ValueError, "at least 2"),
    ),
)
