"""Prompts and parts of pipelines of other families than the shipped model's."""

import torch
from diffusers import DDIMScheduler

from mmg_diffusers import Masked, MMGPipeline
from mmg_diffusers.pairs.classes import ClassNumber
from tests.bad_inputs.room import IMAGE, rows
from tests.pipelines.families import (
    dit,
    flux,
    hidream,
    pixart,
    sana,
    stable_diffusion_3,
    stable_diffusion_xl,
    test_unet2d,
    wan,
)

SMALL = IMAGE[:16, :16]
TALL = IMAGE[:16].repeat(3, 0)[:, :16]


def measure(build, prompts, image=SMALL, **parts):
    """A pipeline of a family, some of whose parts are replaced, asked for the information of an image."""
    pipe = build()
    for name, part in parts.items():
        setattr(pipe, name, part)
    return MMGPipeline(pipe)(image, prompts, levels=2)


def uncut(r, build, prompt):
    rows_of_run = [{"image": SMALL, "prompt": prompt}]
    return MMGPipeline(build()).run(
        rows_of_run, r.folder / "run", truncate=False, strict=True, progress=False, levels=2
    )


def classes():
    return dit.pipeline(lambda: DDIMScheduler(clip_sample=False))()


def compared(among):
    return MMGPipeline(classes()).classify(SMALL, among, levels=2)


def named():
    pipe = LABELLED()
    pipe.unet.register_to_config(id2label={"0": "cat", "1": "horse"})
    return pipe


LABELLED, PLAIN = test_unet2d.pipeline(num_class_embeds=10), test_unet2d.pipeline()
XL, SD3, FLUX = stable_diffusion_xl.pipeline(), stable_diffusion_3.pipeline(), flux.pipeline(**flux.DYNAMIC)
ROWS = (
    *rows(
        "pipe(images, prompts), classes",
        ("a number out of range", lambda r: measure(classes, "1000"), ValueError, "'1000' is no class.*0 to 999"),
        ("a name that there is not", lambda r: measure(classes, "gold"), ValueError, "'gold' is no class.*names"),
        ("numbers out of range", lambda r: measure(classes, [1000]), ValueError, "'1000' is no class.*0 to 999"),
        (
            "a number below 0",
            lambda r: measure(classes, -1),
            ValueError,
            "number of a class is -1; expected at least 0",
        ),
        ("a truth value", lambda r: measure(classes, True), TypeError, "prompts is a bool; expected text"),
        ("a number with a fraction", lambda r: measure(classes, [207.5]), TypeError, r"prompts\[0\] is a float"),
        (
            "a number and a name of one class, compared",
            lambda r: compared(["1", "goldfish"]),
            ValueError,
            "'1' and 'goldfish' are one class of this model",
        ),
        (
            "a class that the data set calls otherwise",
            lambda r: measure(classes, ClassNumber(1, "dog")),
            ValueError,
            "the data set calls its class 1 'dog', and this model calls its own 'goldfish'",
        ),
        (
            "of a model of text",
            lambda r: measure(XL, 207),
            TypeError,
            "a prompt is the number 207, and this model is told text",
        ),
        ("two classes for one image", lambda r: measure(classes, ["1", "2"]), ValueError, "got 2 prompts for 1 images"),
        ("a masked word", lambda r: measure(classes, Masked("207", "207")), ValueError, "no word can be masked"),
        (
            "of a UNet, a name",
            lambda r: measure(LABELLED, "cat"),
            ValueError,
            "'cat' is no class of this model; expected a number from 0 to 9; it has no names",
        ),
        (
            "of a UNet with names, another",
            lambda r: measure(named, "dog"),
            ValueError,
            "'dog' is no class of this model.*names .cat",
        ),
        ("of an unconditional UNet", lambda r: measure(PLAIN, "1"), ValueError, "this network is unconditional"),
    ),
    *rows(
        "pipe(images, prompts), several text encoders",
        (
            "a prompt for each",
            lambda r: measure(XL, [("a", "b")]),
            TypeError,
            r"prompts\[0\] is a tuple; expected text",
        ),
        (
            "their states in place of prompts",
            lambda r: measure(XL, torch.zeros(1, 77, 40)),
            TypeError,
            "prompts is a Tensor; expected text",
        ),
        (
            "a masked word that none of them sees",
            lambda r: measure(FLUX, Masked("a" * 600 + " dot", "dot")),
            ValueError,
            "does not see 'dot'",
        ),
    ),
    *rows(
        "pipe(images, prompts), sizes and limits",
        (
            "an image that the grid does not hold",
            lambda r: measure(SD3, "a", TALL),
            ValueError,
            "48 x 16 is larger than the 32",
        ),
        (
            "a square with more tokens than there is room for",
            lambda r: measure(hidream.pipeline(hidream.dynamic), "a", IMAGE),
            ValueError,
            "has 64 tokens, more than the 16 that the transformer has room for",
        ),
        (
            "a prompt beyond T5's limit, not to be cut",
            lambda r: uncut(r, SD3, "a" * 300),
            ValueError,
            "the text encoder does not see 'a*', the end of 'a*'",
        ),
        (
            "classes with no null prompt",
            lambda r: measure(LABELLED, 3, IMAGE[:8, :8]),
            ValueError,
            "has no unconditional branch",
        ),
    ),
    *rows(
        "MMGPipeline(pipe), text encoders",
        ("XL, no first", lambda r: measure(XL, "a", text_encoder=None), ValueError, "one is missing"),
        (
            "XL, no second",
            lambda r: measure(XL, "a", text_encoder_2=None),
            ValueError,
            "has no text_encoder_2; load it",
        ),
        (
            "3, no second",
            lambda r: measure(SD3, "a", text_encoder_2=None),
            ValueError,
            "has no text_encoder_2; load it",
        ),
        (
            "3, T5 without its tokenizer",
            lambda r: measure(SD3, "a", tokenizer_3=None),
            ValueError,
            "has a text_encoder_3 and no tokenizer_3; load it with both",
        ),
        ("XL, a first without its tokenizer", lambda r: measure(XL, "a", tokenizer=None), ValueError, "no tokenizer;"),
        (
            "Flux, no T5",
            lambda r: measure(FLUX, "a", text_encoder_2=None),
            ValueError,
            "has no text_encoder_2; load it",
        ),
        (
            "HiDream, no Llama",
            lambda r: measure(hidream.pipeline(hidream.dynamic), "a", text_encoder_4=None),
            ValueError,
            "has no text_encoder_4",
        ),
        (
            "PixArt, none",
            lambda r: measure(pixart.ROWS[0].build, "a", text_encoder=None),
            ValueError,
            "has no text_encoder; load it",
        ),
        (
            "Sana, no tokenizer",
            lambda r: measure(sana.pipeline(sana.dpm), "a", tokenizer=None),
            ValueError,
            "no tokenizer",
        ),
        ("Wan, none", lambda r: measure(wan.ROWS[0].build, "a", text_encoder=None), ValueError, "has no text_encoder"),
    ),
)
