"""What the pipeline costs beside the network: evaluations per second through it over those of the bare network.

Weights are random. The two take turns at the same batch and dtype, and medians are printed, as other work may run on the machine;
on a CPU the time is the process's. Loading and encoding are printed apart, and are in no rate.
"""

# diffusers annotates its configs more narrowly than it reads them.
# pyright: reportArgumentType=false

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.forwards import Forwards

PROMPT = "a large red circle on the left"


@dataclass(frozen=True)
class Size:
    """Of the networks: channels of the UNet and of the autoencoder, width of the text, and side of the latent."""

    unet: tuple[int, int, int, int]
    vae: tuple[int, int, int, int]
    text: int
    latent: int


SIZES = {
    "sd15": Size((320, 640, 1280, 1280), (128, 256, 512, 512), 768, 64),
    "small": Size((32, 64, 128, 128), (8, 16, 16, 16), 64, 32),
}


def networks(size: Size) -> StableDiffusionPipeline:
    """A pipeline of Stable Diffusion 1.5's layout, with the Shapes tokenizer."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(shapes_model() / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.text,
        intermediate_size=4 * size.text,
        num_attention_heads=size.text // 64,
        max_position_embeddings=tokenizer.model_max_length,
    )
    parts: dict[str, Any] = {
        # Its defaults are Stable Diffusion 1.5's.
        "unet": UNet2DConditionModel(
            sample_size=size.latent, block_out_channels=size.unet, cross_attention_dim=size.text, norm_num_groups=32
        ),
        "vae": AutoencoderKL(
            block_out_channels=size.vae,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=min(32, size.vae[0]),
        ),
        "text_encoder": CLIPTextModel(text),
        "tokenizer": tokenizer,
        "scheduler": DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    }
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


class Clock:
    """Seconds that a call takes: of this process on a CPU, on the wall if a device has to be waited for."""

    def __init__(self, device: torch.device) -> None:
        self.wait = device.type == "cuda"

    def __call__(self, call: Callable[[], object]) -> float:
        if not self.wait:
            start = time.process_time()
            call()
            return time.process_time() - start
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - start


def main(
    size: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(SIZES)}; by default what the device calls for.")
    ] = None,
    pairs: int = 2,
    levels: int = 8,
    rows: Annotated[
        int, typer.Option(help="Rows per forward pass; the pipeline fills up fewer than 16 small ones.")
    ] = 16,
    rounds: Annotated[int, typer.Option(help="Turns that the two take.")] = 9,
) -> None:
    """Measure, then print a Markdown table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = size or ("sd15" if device.type == "cuda" else "small")
    if chosen not in SIZES:
        raise typer.BadParameter(f"size is {shown(chosen)}; expected one of {', '.join(SIZES)}")
    if device.type == "cpu":
        torch.set_num_threads(1)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    parts = networks(SIZES[chosen]).to(device, dtype)
    clock = Clock(device)

    made: list[MMGPipeline] = []
    start = clock(lambda: made.append(MMGPipeline(parts)))
    pipe = made[0]
    pipe.set_progress_bar_config(disable=True)
    side = SIZES[chosen].latent * parts.vae_scale_factor
    images = list(torch.rand(pairs, 3, side, side, generator=torch.Generator().manual_seed(1)))
    latents: list[torch.Tensor] = []
    conditions: list[dict[str, torch.Tensor]] = []

    def encode() -> None:
        latents.extend(part for _, part in pipe.encoder.images(list(images), False))
        conditions.append(pipe.encoder.condition([PROMPT] * pairs))

    encoding = clock(encode)

    def through() -> int:
        return pipe(images, PROMPT, levels=levels, batch_size=rows).evaluations

    evaluations = through()  # warms up, and finds what was encoded
    # The same batch for both, whatever was asked for.
    rows = Forwards(pipe.denoiser, latents[0].shape[1:], device, rows).rows
    passes = math.ceil(evaluations / rows)
    z = latents[0][[0] * rows].to(dtype)
    state = conditions[0]["encoder_hidden_states"][[0] * rows].to(dtype)
    times = torch.linspace(0, 999, rows, device=device).long()

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(passes):
            parts.unet(z, times, encoder_hidden_states=state, return_dict=False)

    bare()
    network: list[float] = []
    pipeline: list[float] = []
    for _ in range(rounds):
        network.append(rows * passes / clock(bare))
        pipeline.append(evaluations / clock(through))
    share = statistics.median(through / alone for through, alone in zip(pipeline, network, strict=True))
    million = sum(parameter.numel() for parameter in parts.unet.parameters()) / 1e6
    place = torch.cuda.get_device_name() if device.type == "cuda" else "one CPU core"
    print(
        f"UNet of {million:.0f} million parameters, {rows} rows of 4 x {z.shape[2]} x {z.shape[3]} in {dtype}, {place}\n"
    )
    print("| | |\n|---|--:|")
    print(f"| bare network, evaluations per second | {statistics.median(network):.2f} |")
    print(f"| through the pipeline | {statistics.median(pipeline):.2f} |")
    print(f"| pipeline / network, median of {rounds} turns | {share:.3f} |")
    print(f"| one forward pass, ms | {1000 * rows / statistics.median(network):.0f} |")
    print(f"| making the pipeline around loaded networks, s | {start:.2f} |")
    print(f"| encoding {pairs} images and a prompt, once, s | {encoding:.2f} |")
