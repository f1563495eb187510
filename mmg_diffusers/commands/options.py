"""The options that commands and scripts share: one name, one meaning and one default for each.

Imports nothing heavy, so that ``--help`` is quick; tests hold the choices and the defaults to those of the packages that know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# The defaults of `MMGPipeline`.
LEVELS, STEPS = 32, 64
# Steps of the demo, whose path of noise widens and ends early, so that it takes two minutes.
DEMO_STEPS = 26

Form = Literal["gap", "orthogonal", "auto", "balanced"]
DtypeName = Literal["float32", "float16", "bfloat16"]
ShippedName = Literal["shapes", "shapes-plain", "shapes-flow", "pairs-flow"]
# Those of the Shapes world, which the demo draws from.
ShapesName = Literal["shapes", "shapes-plain", "shapes-flow"]
AxisName = Literal["logsnr", "timestep", "tau"]
RuleName = Literal["trapezoid", "simpson"]

# ---- what is measured ----

_MODELS = (
    "A pipeline folder, an id on the hub, or a model that ships: `shapes`, `shapes-plain`, `shapes-flow`, `pairs-flow`."
)
Model = Annotated[str, typer.Argument(help=_MODELS)]
DemoModel = Annotated[ShapesName, typer.Option("--model", help="Which of the models of Shapes that ship.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Folder, id, or a model that ships; `shapes` by default.")
]
Beside = Annotated[list[str] | None, typer.Option("--beside", help="Further models, compared in the same figure.")]
PairsSource = Annotated[
    Path,
    typer.Argument(
        help="An image, a folder (captions in metadata.csv, .jsonl or .parquet, or in a.txt beside a.png), or a table of pairs."
    ),
]
Pictures = Annotated[Path, typer.Argument(help="An image, a folder, or a table with a column of pictures.")]
RunSource = Annotated[
    Path,
    typer.Argument(
        help="A folder, a table of pairs, or webdataset shards: a .tar, a folder of them, a-{000..012}.tar."
    ),
]
Source = Annotated[
    str, typer.Argument(help="An image, a folder or a table of pairs; `shapes` are fresh pairs of that world.")
]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Prompt of all images; else a column of the table.")]
Given = Annotated[
    str | None, typer.Option("--given", help="Context of all images, for i(image; prompt | context); else a column.")
]
CaptionsOption = Annotated[
    str,
    typer.Option(
        "--captions", help="Of pictures with several captions: first, all (a pair each), random or random:SEED."
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", help="Prompt of all images; else a column of the table. Several are compared."),
]
Pairs = Annotated[int, typer.Option("--pairs", min=1, help="Of the Shapes world, if SOURCE is `shapes`.")]
ReplaceBy = Annotated[
    str | None,
    typer.Option("--replace-by", help="What takes the place of a word (nothing: left out); masked by default."),
]

MARGINAL = (
    "What prompts are compared with: null, the null prompt; prompts, those of the run; negatives:15, as many of other "
    "pairs; shapes, the captions of that world; fitted:FOLDER, what `fit` wrote; or a file of candidates, one a line or a table with a "
    "column 'prompt'. By default null; of an audit prompts; of fresh Shapes pairs their captions."
)
MarginalOption = Annotated[str | None, typer.Option("--marginal", help=MARGINAL)]
Marginals = Annotated[list[str] | None, typer.Option("--marginal", help=f"{MARGINAL} Several are compared.")]
EntropyOption = Annotated[
    float | None,
    typer.Option("--entropy", help="H(Y) of prompts that are labels, nats: an estimate above it is warned of."),
]

# ---- how ----

Integrand = Annotated[Form, typer.Option("--integrand", help="Which form `nats` holds; the table has all.")]
Levels = Annotated[
    int | None,
    typer.Option(
        "--levels",
        min=2,
        help=f"Noise levels, by default {LEVELS}, each seen with noise of both signs; against candidates steps of the noise "
        f"path, by default {STEPS}.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=2,
        help=f"Steps of the candidates' noise path, if it is not as many as --levels, by default {STEPS}.",
    ),
]
High = Annotated[
    float | None, typer.Option("--high", help="Highest log-SNR that is looked at, by default the model's own.")
]
Draws = Annotated[int, typer.Option("--draws", min=1, help="Noise draws per level.")]
MapsOption = Annotated[
    bool | None,
    typer.Option(
        "--maps/--no-maps",
        help="Where in each image the prompt speaks; by default a page has maps, and a record has none.",
    ),
]
Tolerated = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        min=0.0,
        help="In place of --draws: draw noise for a pair until it leaves no more than this standard error, in nats.",
    ),
]
PlanFor = Annotated[
    float | None,
    typer.Option(
        "--plan",
        help="A standard error of the mean, in nats: measure 8 pairs alone, and say what it costs in evaluations and seconds.",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Names all that is drawn at random: noise, fresh pairs, splits, weights.")
]
Resize = Annotated[bool, typer.Option("--resize", help="Bring images to the model's size.")]
SamplingSteps = Annotated[
    int, typer.Option("--sampling-steps", min=1, help="Steps of the sampler, for images that are drawn.")
]
Guidance = Annotated[
    float, typer.Option("--guidance", help="Of images that are drawn; above 1 they do not sample p(x | y).")
]

# ---- on what, and into what ----

Batch = Annotated[int | None, typer.Option("--batch-size", help="Rows per forward pass, the one memory knob.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, mps; by default the best there is.")]
Dtype = Annotated[DtypeName, typer.Option("--dtype", "--torch-dtype", help="Dtype of the networks.")]
Variant = Annotated[str | None, typer.Option("--variant", help="Variant of the weights, e.g. fp16.")]
Null = Annotated[
    str | None, typer.Option("--null", help="What stands for no prompt, if the family has more than one: empty, zeros.")
]
Revision = Annotated[str | None, typer.Option("--revision", help="Revision on the hub.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar; in a pipe there is none anyway.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document, and nothing else: numbers with units, errors, verdict.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Let results take the place of those that are there; else they are left alone."),
]
Axis = Annotated[AxisName, typer.Option("--axis", help="Of the figure.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="Folder for all that is written; by default runs/COMMAND, or runs/COMMAND-2, ... if that is taken.",
    ),
]
