"""Train the two plain models of Shapes: by the loss that published models are trained by, and nothing else.

    python scripts/train_plain.py shapes-plain runs/plain             # a Stable Diffusion: UNet, v-prediction
    python scripts/train_plain.py shapes-flow runs/flow               # a Stable Diffusion 3: MMDiT, rectified flow
    python scripts/train_plain.py shapes-plain runs/plain --export    # write its folder and its card

Each model is its network and its text encoders, trained together from random weights by the squared error of what the
network predicts, with one prompt in ten replaced by the empty one. Nothing that is known of the world takes part: no
posterior, no averaged targets, no odds between captions. The VAE and the tokenizer are those of the first model.

A training goes on where it stopped when the same command is given again. Its rate stays up for most of the steps and
falls along a cosine in the last ones; what was there before the fall is kept as NAME.held.safetensors, so that a
training can be made longer.
"""

# diffusers annotates its configs more narrowly than it reads them.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.torch
import torch
import typer
from accelerate.utils import set_seed
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from measure_shapes import drawings
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import IterableDataset
from train_shapes import PROMPT_TOKENS, Stage, Trainer, make_scheduler, make_text_encoder, text_config
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from mmg_diffusers import shapes_model
from mmg_diffusers.arrays.trainer import join_processes
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.pipelines.folding import folded, folded_zeros
from mmg_diffusers.worlds.pairs import Pairs, PairsSample
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, ShapesSample

DROPOUT = 0.1
# What StableDiffusion3Pipeline puts in the place of T5 where there is none: so many tokens of zeros.
T5_TOKENS = 256


class Kind(str, Enum):
    """The models."""

    PLAIN = "shapes-plain"
    FLOW = "shapes-flow"


# ---- data ----


def load_first() -> tuple[AutoencoderKL, CLIPTokenizer]:
    """The first model's VAE and tokenizer."""
    folder = shapes_model()
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", use_safetensors=True)
    return vae.eval().requires_grad_(False), CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray) -> Tensor:
    """Scaled latents of images `(N, 32, 32, 3)` in [0, 1]."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
    device = next(vae.parameters()).device
    latents = [vae.encode(part.to(device)).latent_dist.mode() for part in pixels.split(64)]
    return torch.cat(latents) * vae.config["scaling_factor"]


def make_bank(
    path: Path, vae: AutoencoderKL, count: int, part: int = 1024, world: Shapes | Pairs | None = None
) -> tuple[Tensor, Tensor]:
    """Latents in half precision and captions of `count` images of a world, Shapes by default, made once and kept in a file."""
    if not path.exists():
        world = world or Shapes("soft")
        # Seeds below 2**32 are for evaluation, so no fresh pair was ever trained on.
        samples = (world.sample(min(part, count - start), 2**32 + start) for start in range(0, count, part))
        latents, captions = zip(
            *((encode(vae, sample.images).half(), torch.from_numpy(sample.caption)) for sample in samples), strict=True
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            path,
            safetensors.torch.save({"latents": torch.cat(latents).contiguous().cpu(), "captions": torch.cat(captions)}),
        )
    bank = safetensors.torch.load_file(path)
    if len(bank["captions"]) != count:
        raise typer.BadParameter(f"{path} holds {len(bank['captions'])} images, not {count}; delete it")
    return bank["latents"], bank["captions"]


class BankStream(IterableDataset):
    """Batches of (latents, captions) out of a bank, all of it in a new order before anything comes again."""

    def __init__(
        self, bank: tuple[Tensor, Tensor], batch: int, seed: int, rank: int, world: int, start: int
    ) -> None:  # fmt: skip
        self.bank, self.batch, self.seed, self.place, self.world = bank, batch, seed, start * world + rank, world

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        latents, captions = self.bank
        batches = len(captions) // self.batch
        place, order, shuffled = self.place, np.empty(0), -1
        while True:
            epoch, turn = divmod(place, batches)
            if epoch != shuffled:
                order, shuffled = np.random.default_rng([self.seed, epoch]).permutation(len(captions)), epoch
            rows = torch.from_numpy(order[turn * self.batch : (turn + 1) * self.batch])
            yield latents[rows].float(), captions[rows]
            place += self.world


# ---- the losses ----


def spread(count: int, device: torch.device) -> Tensor:
    """Numbers uniform in (0, 1), one in each of `count` equal parts, so that a batch sees all levels."""
    return (torch.randperm(count, device=device) + torch.rand(count, device=device)) / count


class Spoken(nn.Module):
    """The captions' tokens, and which of them the network is told: one in ten is replaced by the empty prompt."""

    tokens: Tensor

    def __init__(self, tokenizer: CLIPTokenizer, captions: Sequence[str] = CAPTIONS) -> None:
        super().__init__()
        tokens = tokenizer([*captions, ""], padding="max_length", return_tensors="pt").input_ids
        self.register_buffer("tokens", tokens, persistent=False)

    def forward(self, captions: Tensor) -> Tensor:
        dropped = torch.rand(len(captions), device=captions.device) < DROPOUT
        return torch.where(dropped, len(self.tokens) - 1, captions)


class UNetLoss(nn.Module):
    """The squared error of v at uniform timesteps."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=32,
            norm_num_groups=16,
        )
        self.text_encoder = make_text_encoder(tokenizer)
        self.spoken = Spoken(tokenizer)
        self.scheduler = make_scheduler()

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What is trained, by its name in the pipeline."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def error(self, x: Tensor, told: Tensor) -> Tensor:
        """The squared error of every latent, of a random level and noise, told these captions."""
        level = (spread(len(x), x.device) * len(self.scheduler.alphas_cumprod)).long()
        eps = torch.randn_like(x)
        z = self.scheduler.add_noise(x, eps, level)
        embeddings = self.text_encoder(self.spoken.tokens).last_hidden_state
        out = self.unet(z, level, embeddings[told]).sample
        return (out - self.scheduler.get_velocity(x, eps, level)).square().mean((1, 2, 3))

    def forward(self, x: Tensor, captions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.error(x, self.spoken(captions)).mean(), {}

    def pipeline(self, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
        """The pipeline of these parts."""
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=tokenizer,
            unet=self.unet.to(memory_format=torch.contiguous_format),
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


@dataclass(frozen=True)
class FlowSize:
    """How large a flow transformer is: its blocks, their heads, the width of a head, and that of each text encoder."""

    blocks: int = 6
    heads: int = 4
    head: int = 32
    text: int = 64


def make_second_encoder(tokenizer: CLIPTokenizer, width: int = 64) -> CLIPTextModelWithProjection:
    """A CLIP text encoder with a projection, which SD3 has two of."""
    return CLIPTextModelWithProjection(text_config(tokenizer, width))


def make_transformer(size: FlowSize | None = None) -> SD3Transformer2DModel:
    """SD3's transformer in small; every block begins as the identity, as DiT's do (Peebles and Xie 2023)."""
    size = size or FlowSize()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=size.blocks,
        attention_head_dim=size.head,
        num_attention_heads=size.heads,
        joint_attention_dim=2 * size.text,
        caption_projection_dim=size.heads * size.head,
        pooled_projection_dim=2 * size.text,
        pos_embed_max_size=4,
        qk_norm="rms_norm",
    )
    ends = [transformer.norm_out.linear, transformer.proj_out]
    for block in transformer.transformer_blocks:
        ends += [block.norm1.linear, block.norm1_context.linear]
    for end in ends:
        nn.init.zeros_(end.weight)
        nn.init.zeros_(end.bias)
    return transformer


class FlowLoss(nn.Module):
    """The squared error of the velocity eps - x, at levels of which most are logit-normal and the others uniform.

    Esser et al. 2024, "Scaling rectified flow transformers", draw all of them logit-normal, which hardly ever sees
    either end.
    """

    UNIFORM = 0.2

    def __init__(
        self, tokenizer: CLIPTokenizer, captions: Sequence[str] = CAPTIONS, size: FlowSize | None = None
    ) -> None:
        super().__init__()
        size = size or FlowSize()
        self.transformer = make_transformer(size)
        self.text_encoder = make_second_encoder(tokenizer, size.text)
        self.text_encoder_2 = make_second_encoder(tokenizer, size.text)
        self.spoken = Spoken(tokenizer, captions)
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What is trained, by its name in the pipeline."""
        return {
            "transformer": self.transformer,
            "text_encoder": self.text_encoder,
            "text_encoder_2": self.text_encoder_2,
        }

    def conditions(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States and pooled embeddings as the pipeline makes them, with one token of zeros for all of T5's."""
        both = [encoder(tokens, output_hidden_states=True) for encoder in (self.text_encoder, self.text_encoder_2)]
        states = torch.cat([one.hidden_states[-2] for one in both], 2)
        return functional.pad(states, (0, 0, 0, 1)), torch.cat([one.text_embeds for one in both], 1)

    def velocity(self, z: Tensor, level: Tensor, told: Tensor) -> Tensor:
        """What the network predicts, told these captions."""
        states, pooled = self.conditions(self.spoken.tokens)
        with folded(self.transformer, PROMPT_TOKENS, T5_TOKENS):
            return self.transformer(
                z, encoder_hidden_states=states[told], pooled_projections=pooled[told], timestep=1000 * level
            ).sample

    def error(self, x: Tensor, told: Tensor) -> Tensor:
        """The squared error of every latent, of a random level and noise, told these captions."""
        place = spread(len(x), x.device)
        level = torch.special.ndtri(place).sigmoid()
        level = torch.where(torch.rand_like(place) < self.UNIFORM, place, level).clamp(0.001, 1.0)
        eps = torch.randn_like(x)
        s = level.view(-1, 1, 1, 1)
        return (self.velocity((1 - s) * x + s * eps, level, told) - (eps - x)).square().mean((1, 2, 3))

    def forward(self, x: Tensor, captions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.error(x, self.spoken(captions)).mean(), {}

    def pipeline(self, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusion3Pipeline:
        """The pipeline of these parts."""
        # What SD3 takes off a latent before it is scaled; nothing here.
        vae.register_to_config(shift_factor=0.0)
        return StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=self.scheduler,
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )


LOSSES: dict[Kind, type[UNetLoss] | type[FlowLoss]] = {Kind.PLAIN: UNetLoss, Kind.FLOW: FlowLoss}


# ---- export ----


def load(folder: Path) -> DiffusionPipeline:
    """The pipeline of a folder; diffusers wants to be told of every part that SD3 may have and this one has not."""
    index = json.loads((folder / "model_index.json").read_text())
    absent = {name: None for name in ("text_encoder_3", "tokenizer_3") if index.get(name) == [None, None]}
    return DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **absent)


@torch.no_grad()
def fresh_errors(
    loss: UNetLoss | FlowLoss, vae: AutoencoderKL, sample: ShapesSample | PairsSample, part: int = 256
) -> dict[str, list[float]]:
    """The squared error on pairs that no training saw, with their captions and without, at the same noise.

    Each is the mean and its standard error over pairs; so is how much more the empty prompt errs, pair by pair.
    """
    x, captions, count = encode(vae, sample.images), torch.from_numpy(sample.caption), len(sample)
    found: list[Tensor] = []
    for told in (captions, torch.full_like(captions, len(loss.spoken.tokens) - 1)):
        torch.manual_seed(0)
        pieces = zip(x.split(part), told.to(x.device).split(part), strict=True)
        found.append(torch.cat([loss.error(*piece) for piece in pieces]))
    given, null = found
    return {
        name: [float(error.mean()), float(error.std() / count**0.5)]
        for name, error in {"caption": given, "empty": null, "difference": null - given}.items()
    }


@dataclass(frozen=True)
class Judging:
    """How many drawings are judged, of how many steps, at which guidances."""

    count: int
    steps: int
    guidances: tuple[float, ...]

    def __call__(self, folder: Path) -> dict[float, dict[str, Any]]:
        """The shares of drawings that show what their captions say, by guidance, of a finished folder."""
        pipe = load(folder)
        if isinstance(pipe, StableDiffusion3Pipeline):
            with folded_zeros(pipe):
                return {scale: drawings(pipe, self.count, self.steps, scale) for scale in self.guidances}
        return {scale: drawings(pipe, self.count, self.steps, scale) for scale in self.guidances}


def export(pipe: DiffusionPipeline, folder: Path) -> None:
    """Write the pipeline: half precision on disk, as the first model's parts, and float32 in memory."""
    for name, part in pipe.components.items():
        # transformers' parts come back in the dtype that they were saved in, so those stay as they are.
        if isinstance(part, nn.Module) and not name.startswith("text_encoder"):
            part.half()
    pipe.save_pretrained(folder, safe_serialization=True)
    # diffusers writes where a part was loaded from: a path of this machine.
    for file in folder.rglob("config.json"):
        config = json.loads(file.read_text("utf-8"))
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def size_of(folder: Path) -> float:
    """Megabytes of all files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


@dataclass(frozen=True)
class Trained:
    """What a model's card tells of its training, and of the drawings."""

    kind: Kind
    trainer: Trainer
    images: int
    errors: dict[str, list[float]]
    judging: Judging
    judged: dict[float, dict[str, Any]]

    def card(self, folder: Path) -> str:
        """The model card, with the hub's head."""
        trainer, stage = self.trainer, self.trainer.stage
        own = CARDS[self.kind]
        last = json.loads(trainer.log.read_text().splitlines()[-1])
        best = max(self.judged, key=lambda scale: self.judged[scale]["shape, colour and side"])
        command = (
            f"python scripts/train_plain.py {self.kind.value} runs/{self.kind.value} --steps {stage.steps} "
            f"--batch {stage.batch} --lr {stage.lr:g} --held {stage.held:g} --images {self.images}"
        )
        rows = [
            f"| {scale:g} | " + " | ".join(f"{100 * share:.1f} %" for share in shares.values()) + " |"
            for scale, shares in self.judged.items()
        ]
        head = ["guidance", *self.judged[best]]
        error = {name: f"{mean:.4f} ± {se:.4f}" for name, (mean, se) in self.errors.items()}
        return CARD.format(
            **own,
            name=self.kind.value,
            folder=folder.name,
            megabytes=f"{size_of(folder):.1f}",
            parameters="\n".join(
                f"| `{name}` | {sum(p.numel() for p in part.parameters()) / 1e6:.2f} million |"
                for name, part in trainer.modules.items()
            ),
            command=command,
            images=f"{self.images:,}",
            steps=f"{trainer.step:,}",
            of="" if trainer.step == stage.steps else f" of {stage.steps:,}",
            batch=stage.batch,
            falls=f"{stage.falls_at:,}",
            hours=f"{trainer.seconds / 3600:.1f}",
            last=f"{last['loss']:.4f}",
            fresh=f"{FRESH:,}",
            **error,
            count=self.judging.count,
            sampling=self.judging.steps,
            best=f"{best:g}",
            table="\n".join([f"| {' | '.join(head)} |", "|--:" * len(head) + "|", *rows]),
        )


CARDS: dict[Kind, dict[str, str]] = {
    Kind.PLAIN: {
        "tag": "stable-diffusion",
        "pipeline": "StableDiffusionPipeline",
        "absent": "",
        "what": "A Stable Diffusion in small",
        "network": "a UNet with cross attention, v-prediction, DDPM with 1,000 levels (log-SNR -5.36 to 7.07)",
        "loss": "The squared error of v, at uniform timesteps, is all that was minimised",
        "null": 'The empty prompt is what the text encoder makes of "".',
    },
    Kind.FLOW: {
        "tag": "stable-diffusion-3",
        "pipeline": "StableDiffusion3Pipeline",
        "absent": ", text_encoder_3=None, tokenizer_3=None",
        "what": "A Stable Diffusion 3 in small",
        "network": "an MMDiT of 6 blocks of width 128 on 4x4 patches, rectified flow, two CLIP encoders and no T5",
        "loss": "The squared error of the velocity eps - x is all that was minimised, at levels of which four in five are "
        "logit-normal and one is uniform",
        "null": 'The empty prompt is what the text encoders make of "". The pipeline puts 256 tokens of zeros in the '
        "place of T5's, and so did the training, by one token of that weight, which is the same function.",
    },
}

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags:
- text-to-image
- diffusers
- {tag}
- mutual-information
- synthetic
---

# {name}: a text-to-image model of Shapes, trained as published models are

{what}: 32x32 images, 8x8x4 latents, 48 captions ("a large red circle on the left"); {network}. The mutual information of
images and captions is known exactly in this world, and **nothing of it took part in the training**. {loss}, with one
prompt in ten replaced by the empty one.

```python
from diffusers import {pipeline}

pipe = {pipeline}.from_pretrained("mmg_diffusers/models/{folder}"{absent})
pipe("a large red circle on the left", guidance_scale={best}).images[0]
```

| part | parameters |
|---|---|
{parameters}
| `vae`, `tokenizer` | those of the first Shapes model, as they are |

{megabytes} MB on disk, float16 (text encoders float32). {null} Do not draw conclusions about pictures of the world from it.

## Training

    {command}
    python scripts/train_plain.py {name} runs/{name} --export

| | |
|---|---|
| images | {images} of the soft world, rendered once; their seeds are none that pairs to be measured have |
| steps x batch | {steps}{of} x {batch} |
| rate | up for 500 steps, then held, falling along a cosine from step {falls}; AdamW, averaged weights |
| hours | {hours}, of one shared core |
| last running loss | {last} |
| on {fresh} fresh pairs, told the caption | {caption} |
| on them, told nothing | {empty} |
| - difference, pair by pair at the same noise | {difference} |

The network and its text encoders began from random weights. ± is one standard error over pairs.

## Drawings

{count} drawings of {sampling} steps, read by a checker that knows the renderer (`mmg_diffusers.worlds.shapes.read_images`):

{table}

Best at guidance {best}.
"""

FRESH, FRESH_SEED = 4096, 3003


def main(
    kind: Annotated[Kind, typer.Argument(help="Which model.")],
    output: Annotated[Path, typer.Argument(help="Folder for its checkpoint and log.")],
    steps: int = 20000,
    batch: int = 64,
    lr: float = 1e-3,
    held: Annotated[float, typer.Option(help="Share of the steps before the rate falls.")] = 0.6,
    seed: int = 0,
    save_every: int = 250,
    images: Annotated[int, typer.Option(help="Images to train on.")] = 2**18,
    bank: Annotated[Path | None, typer.Option(help="Their file; OUTPUT/bank.safetensors by default.")] = None,
    write: Annotated[
        bool, typer.Option("--export", help="Write the model as far as it is trained; no training.")
    ] = False,
    to: Annotated[Path | None, typer.Option(help="Where to; a folder of mmg_diffusers/models by default.")] = None,
    guidance: Annotated[list[float] | None, typer.Option(help="Guidances at which drawings are judged.")] = None,
    generated: Annotated[int, typer.Option(help="Drawings that are judged.")] = 240,
    sampling_steps: int = 50,
) -> None:
    """Train a model, or go on with it; or export it."""
    accelerator = join_processes()
    set_seed(seed)
    vae, tokenizer = load_first()
    loss = LOSSES[kind](tokenizer).to(accelerator.device)
    vae.to(accelerator.device)
    output.mkdir(parents=True, exist_ok=True)
    stage = Stage(steps, batch, lr, warmup=500, save_every=save_every, held=held)
    if not write:
        if kind is Kind.PLAIN:
            loss.to(memory_format=torch.channels_last)
        data = make_bank(bank or output / "bank.safetensors", vae, images)
        trainer = Trainer(accelerator, kind.value, loss.parts, stage, output, seed)
        prepared = accelerator.prepare(loss)
        trainer.run(prepared, lambda *at: BankStream(data, *at))
        return
    path = output / f"{kind.value}.safetensors"
    if not path.exists():
        raise typer.BadParameter(f"{output} holds no checkpoint of {kind.value}; train it first")
    with safe_open(path, framework="pt") as file:
        stage = Stage(**json.loads(file.metadata()["state"])["stage"])
    trainer = Trainer(accelerator, kind.value, loss.parts, stage, output, seed)
    trainer.finish()
    errors = fresh_errors(loss, vae, Shapes("soft").sample(FRESH, FRESH_SEED))
    folder = to or Path(__file__).parent.parent / "mmg_diffusers" / "models" / kind.value.replace("-", "_")
    export(loss.pipeline(vae, tokenizer), folder)
    judging = Judging(generated, sampling_steps, tuple(guidance or (1.0, 2.0, 3.0, 5.0, 7.5)))
    trained = Trained(kind, trainer, images, errors, judging, judging(folder))
    (folder / "README.md").write_text(trained.card(folder))
    print(json.dumps({"megabytes": size_of(folder), "errors": errors, "drawings": trained.judged}, indent=1))


if __name__ == "__main__":
    typer.run(main)
