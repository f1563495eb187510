"""Train the plain model of Pairs: two objects and how they stand to each other, by the loss of published models and nothing else.

    python scripts/train_pairs.py runs/pairs             # all stages; goes on where it stopped
    python scripts/train_pairs.py runs/pairs --export    # write its folder and its card

A small AutoencoderKL first, then a Stable Diffusion 3 in small: its transformer and its two text encoders together, from random
weights, by the squared error of the velocity, with one prompt in ten replaced by the empty one. Nothing that is known of the world
takes part: no posterior, no swapped caption, no odds between captions.
"""

# diffusers annotates its configs more narrowly than it reads them.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderKL
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import IterableDataset
from train_plain import BankStream, FlowLoss, FlowSize, export, fresh_errors, load, make_bank, size_of
from train_shapes import Stage, Trainer, VaeLoss, make_tokenizer, set_latent_scale

from mmg_diffusers.arrays.trainer import join_processes
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.worlds.pairs import CAPTIONS, Pairs, caption_words, read_pairs, reworded

NAME = "pairs-flow"
SIZE = FlowSize(blocks=5, heads=2, head=32, text=32)
FRESH, FRESH_SEED = 4096, 3003


class PicturesStream(IterableDataset):
    """An endless stream of batches of pictures in [-1, 1]; each process and step has its own seed."""

    def __init__(self, batch: int, seed: int, rank: int, world: int, start: int) -> None:
        self.batch, self.seed, self.rank, self.world, self.start = batch, seed, rank, world, start

    def __iter__(self) -> Iterator[tuple[Tensor]]:
        step = self.start
        while True:
            # Seeds below 2**32 are for evaluation, so no fresh pair was ever trained on.
            seed = 2**33 + (self.seed * 2**20 + step) * self.world + self.rank
            yield (torch.from_numpy(Pairs("soft").sample(self.batch, seed).images).permute(0, 3, 1, 2) * 2 - 1,)
            step += 1


def make_vae() -> AutoencoderKL:
    """16x16 pictures to 8x8 latents of 4 channels."""
    return AutoencoderKL(
        sample_size=16,
        block_out_channels=(16, 24),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=4,
        mid_block_add_attention=False,
    )


def trained_vae(accelerator: Accelerator, stage: Stage, folder: Path, seed: int) -> AutoencoderKL:
    """The VAE, trained as far as it is not."""
    vae = make_vae().to(accelerator.device, memory_format=torch.channels_last)
    trainer = Trainer(accelerator, "vae", {"vae": vae}, stage, folder, seed)
    loss = accelerator.prepare(VaeLoss(vae))
    trainer.run(loss, PicturesStream)
    trainer.finish()
    set_latent_scale(vae, Pairs("soft"))
    return vae


def recorded(path: Path) -> Stage:
    """The stage that a checkpoint is of."""
    if not path.exists():
        raise typer.BadParameter(f"{path} is not there; train it first")
    with safe_open(path, framework="pt") as file:
        return Stage(**json.loads(file.metadata()["state"])["stage"])


# ---- export ----


@dataclass(frozen=True)
class Drawings:
    """How many drawings are read, of how many steps."""

    count: int
    steps: int

    def __call__(self, folder: Path, guidance: float) -> dict[str, float]:
        """The shares of drawings that show what their captions say."""
        pipe = load(folder)
        pipe.set_progress_bar_config(disable=True)
        asked = (np.arange(self.count) * 31) % len(CAPTIONS)
        images: list[Any] = []
        with folded_zeros(pipe):
            for start in range(0, self.count, 48):
                images.append(
                    pipe(
                        [CAPTIONS[k] for k in asked[start : start + 48]],
                        num_inference_steps=self.steps,
                        guidance_scale=guidance,
                        generator=torch.Generator().manual_seed(start),
                        output_type="np",
                        height=16,
                        width=16,
                    ).images
                )
        best = Pairs("soft").posterior(read_pairs(np.concatenate(images).clip(0, 1))).argmax(1)
        # Of the two captions that say the same, the one whose objects are named in the order that was asked for.
        other = reworded(best)
        near = [(caption_words(own) == caption_words(asked)).sum(1) for own in (best, other)]
        right = caption_words(np.where(near[0] >= near[1], best, other)) == caption_words(asked)
        return {
            "colours": float(right[:, [0, 3]].all(1).mean()),
            "shapes": float(right[:, [1, 4]].all(1).mean()),
            "relation": float(right[:, 2].mean()),
            "all": float(right.all(1).mean()),
        }


CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags:
- text-to-image
- diffusers
- stable-diffusion-3
- mutual-information
- synthetic
---

# {name}: a text-to-image model of Pairs, trained as published models are

A Stable Diffusion 3 in small: 16x16 pictures of two objects, 8x8x4 latents, 144 captions ("a red circle above a blue triangle"); an MMDiT of
{blocks} blocks of width {width} on 4x4 patches, rectified flow, two CLIP encoders and no T5. p(caption | picture) is known exactly in this world, and
**nothing of it took part in the training**, no swapped caption either. The squared error of the velocity eps - x is all that was minimised, at levels of which four in five
are logit-normal and one is uniform, with one prompt in ten replaced by the empty one.

```python
from diffusers import StableDiffusion3Pipeline

pipe = StableDiffusion3Pipeline.from_pretrained(
    "mmg_diffusers/models/{folder}", text_encoder_3=None, tokenizer_3=None
)
pipe("a red circle above a blue triangle", guidance_scale={best:g}, height=16, width=16).images[0]
```

| part | parameters |
|---|---|
{parameters}

{megabytes:.1f} MB on disk, float16 (text encoders float32). The empty prompt is what the text encoders make of "". The pipeline puts 256 tokens of zeros in the place of T5's, and so did
the training, by one token of that weight, which is the same function. Do not draw conclusions about pictures of the world from it.

## Training

    {command}
    python scripts/train_pairs.py runs/pairs --export

| | |
|---|---|
| images | {images:,} of the soft world, rendered once; their seeds are none that pairs to be measured have |
| steps x batch | {steps:,}{of} x {batch} |
| rate | up for 500 steps, then held, falling along a cosine from step {falls:,}; AdamW, averaged weights |
| hours | {hours:.1f}, of one shared core; the VAE {vae_hours:.2f} |
| last running loss | {last:.4f} |
| on {fresh:,} fresh pairs, told the caption | {caption} |
| on them, told nothing | {empty} |
| - difference, pair by pair at the same noise | {difference} |

Network, text encoders and VAE began from random weights. ± is one standard error over pairs.

## Drawings

{count} drawings of {sampling} steps, read by a checker that knows the renderer (`mmg_diffusers.worlds.pairs.read_pairs`):

| guidance | both colours | both shapes | relation | all |
|--:|--:|--:|--:|--:|
{table}

## What was measured

How well it binds, beside exact Bayes and a classifier of the same pictures: [docs/uses.md](../../../docs/uses.md), `python scripts/measure_uses.py --protocol binding`.
"""


def main(
    output: Annotated[Path, typer.Argument(help="Folder for checkpoints, logs and pictures.")],
    steps: int = 14000,
    batch: int = 128,
    lr: float = 2e-3,
    held: Annotated[float, typer.Option(help="Share of the steps before the rate falls.")] = 0.5,
    vae_steps: int = 2000,
    vae_batch: int = 64,
    seed: int = 0,
    save_every: int = 250,
    images: Annotated[int, typer.Option(help="Pictures to train on.")] = 2**18,
    write: Annotated[
        bool, typer.Option("--export", help="Write the model as far as it is trained; no training.")
    ] = False,
    to: Annotated[Path | None, typer.Option(help="Where to; a folder of mmg_diffusers/models by default.")] = None,
    guidance: Annotated[list[float] | None, typer.Option(help="Guidances at which drawings are read.")] = None,
    generated: Annotated[int, typer.Option(help="Drawings that are read.")] = 288,
    sampling_steps: int = 20,
) -> None:
    """Train the model, or go on with it; or export it."""
    accelerator = join_processes()
    output.mkdir(parents=True, exist_ok=True)
    stages = {"vae": Stage(vae_steps, vae_batch, 2e-3, save_every=save_every)}
    stages[NAME] = Stage(steps, batch, lr, warmup=500, save_every=save_every, held=held)
    if write:
        stages = {name: recorded(output / f"{name}.safetensors") for name in stages}
    set_seed(seed)
    vae = trained_vae(accelerator, stages["vae"], output, seed)
    set_seed(seed + 1)
    tokenizer = make_tokenizer(CAPTIONS)
    loss = FlowLoss(tokenizer, CAPTIONS, SIZE).to(accelerator.device)
    if not write:
        bank = make_bank(output / "bank.safetensors", vae, images, world=Pairs("soft"))
        trainer = Trainer(accelerator, NAME, loss.parts, stages[NAME], output, seed)
        trainer.run(accelerator.prepare(loss), lambda *at: BankStream(bank, *at))
        return
    trainer = Trainer(accelerator, NAME, loss.parts, stages[NAME], output, seed)
    trainer.finish()
    errors = fresh_errors(loss, vae, Pairs("soft").sample(FRESH, FRESH_SEED))
    folder = to or Path(__file__).parent.parent / "mmg_diffusers" / "models" / NAME.replace("-", "_")
    vae.to(memory_format=torch.contiguous_format)
    export(loss.pipeline(vae, tokenizer), folder)
    draw = Drawings(generated, sampling_steps)
    judged = {scale: draw(folder, scale) for scale in guidance or (1.0, 2.0, 4.0)}
    stage, parts = stages[NAME], {**loss.parts, "vae": vae}
    last, of_vae = (
        json.loads((output / f"{name}.jsonl").read_text().splitlines()[-1]) for name in (NAME, "vae")
    )  # fmt: skip
    command = (
        f"python scripts/train_pairs.py runs/pairs --steps {stage.steps} --batch {stage.batch} --lr {stage.lr:g} "
        f"--held {stage.held:g} --vae-steps {stages['vae'].steps} --vae-batch {stages['vae'].batch} --images {images}"
    )
    card = CARD.format(
        name=NAME,
        folder=folder.name,
        blocks=SIZE.blocks,
        width=SIZE.heads * SIZE.head,
        best=max(judged, key=lambda scale: judged[scale]["all"]),
        parameters="\n".join(
            f"| `{name}` | {sum(p.numel() for p in part.parameters()) / 1e6:.2f} million |"
            for name, part in parts.items()
        ),
        megabytes=size_of(folder),
        command=command,
        images=images,
        steps=trainer.step,
        of="" if trainer.step == stage.steps else f" of {stage.steps:,}",
        batch=stage.batch,
        falls=stage.falls_at,
        hours=trainer.seconds / 3600,
        vae_hours=of_vae["seconds"] / 3600,
        last=last["loss"],
        fresh=FRESH,
        **{name: f"{mean:.4f} ± {se:.4f}" for name, (mean, se) in errors.items()},
        count=draw.count,
        sampling=draw.steps,
        table="\n".join(
            f"| {scale:g} | " + " | ".join(f"{100 * share:.1f} %" for share in shares.values()) + " |"
            for scale, shares in judged.items()
        ),
    )
    (folder / "README.md").write_text(card)
    print(json.dumps({"megabytes": size_of(folder), "errors": errors, "drawings": judged}, indent=1))


if __name__ == "__main__":
    typer.run(main)
