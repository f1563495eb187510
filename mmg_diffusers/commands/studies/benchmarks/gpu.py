"""What a card does with networks of published sizes: rows and pairs a second through the pipeline, beside the bare network and the card's peak.

Weights are random, in bfloat16, and the network is compiled. The two are given the same batches and take turns; medians are printed.
The peak is that of a large matrix product, measured on the same device. Loading, compiling and encoding are in no rate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from mmg_diffusers import Estimate, MMGPipeline
from mmg_diffusers.checks import shown
from mmg_diffusers.commands.studies.benchmarks.overhead import PROMPT, Clock
from mmg_diffusers.commands.studies.benchmarks.sizes import COUNTED, SIZES, Count, Size, count, pipeline, tiny
from mmg_diffusers.denoisers.forwards import Forwards

# TFLOP of a row, as they were told before they were counted here.
TOLD = {"sd15": 0.80, "sdxl": 6.8, "sd3": 8.9}
# Of a default measurement: 32 levels, each with a noise and its negative, with the prompt and without.
ROWS_OF_A_PAIR = 128


@dataclass(frozen=True)
class Measured:
    """What one size did: medians over turns, in seconds, and what was measured in them."""

    rows: int
    alone: float  # rows a second
    through: float
    share: float
    pairs: float  # a second
    stderr: float  # of the mean over the pairs
    among: int
    memory: dict[int, int]  # bytes at the highest, by rows of a batch


def peak(device: torch.device, dtype: torch.dtype, side: int, rounds: int = 9) -> float:
    """FLOP a second of a product of two square matrices of this side: the best of some turns."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    clock = Clock(device)

    def times() -> None:
        for _ in range(8):
            torch.mm(left, right)

    times()
    return 8 * 2 * side**3 / min(clock(times) for _ in range(rounds))


def first_call(network: nn.Module, measure: Callable[[], object], rows: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a network is given in the first full batch of a measurement."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def hook(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = given[0] if given else next(iter(named.values()))
        if not seen and len(x) == rows:
            seen.append((given, named))

    listening = network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        measure()
    finally:
        listening.remove()
    return seen[0]


def of_rows(given: Any, rows: int) -> Any:
    """The same arguments for another number of rows."""
    if isinstance(given, Tensor):
        return given[torch.arange(rows, device=given.device) % len(given)] if given.dim() else given
    if isinstance(given, dict):
        return {name: of_rows(part, rows) for name, part in given.items()}
    return type(given)(of_rows(part, rows) for part in given) if isinstance(given, (tuple, list)) else given


def memory_of(network: nn.Module, given: tuple[Any, dict[str, Any]], batches: Sequence[int]) -> dict[int, int]:
    """Bytes of a card in use at the highest, while batches of these many rows go through; those that do not fit are left out."""
    used: dict[int, int] = {}
    for rows in batches:
        args, named = of_rows(given[0], rows), of_rows(given[1], rows)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            with torch.inference_mode():
                network(*args, **named)
        except torch.cuda.OutOfMemoryError:
            break
        torch.cuda.synchronize()
        used[rows] = torch.cuda.max_memory_allocated()
    return used


@dataclass(frozen=True)
class Setting:
    """How a size is measured: device and dtype, pairs and levels, rows of a batch, turns, compiled or not, batches for memory."""

    device: torch.device
    dtype: torch.dtype
    pairs: int
    levels: int
    rows: int
    rounds: int
    compiled: bool
    batches: Sequence[int]


def measure(size: Size, setting: Setting) -> Measured:
    """Run one size, through the pipeline and alone, in turns."""
    device = setting.device
    parts: Any = pipeline(size, device, setting.dtype)
    network: nn.Module = getattr(parts, "unet", None) or parts.transformer
    pipe = MMGPipeline(parts)
    pipe.set_progress_bar_config(disable=True)
    side = size.config["sample_size"] * parts.vae_scale_factor
    images = list(torch.rand(setting.pairs, 3, side, side, generator=torch.Generator().manual_seed(1)))
    prompts = [f"{PROMPT} {number}" for number in range(setting.pairs)]

    def through() -> Estimate:
        return pipe(images, prompts, levels=setting.levels, batch_size=setting.rows)

    event = torch.Size([size.config.get("in_channels", 4), *(size.config["sample_size"],) * 2])
    # The same batch for both, whatever was asked for.
    rows = Forwards(pipe.denoiser, event, device, setting.rows).rows
    given = first_call(network, through, rows)  # encodes as well
    if setting.compiled:
        network.compile()
    result = through()
    rows_in_all = result.evaluations
    passes = math.ceil(rows_in_all / rows)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(passes):
            network(*given[0], **given[1])

    bare()
    clock = Clock(device)
    alone: list[float] = []
    whole: list[float] = []
    for _ in range(setting.rounds):
        alone.append(rows * passes / clock(bare))
        whole.append(rows_in_all / clock(through))
    share = statistics.median(one / other for one, other in zip(whole, alone, strict=True))
    return Measured(
        rows=rows,
        alone=statistics.median(alone),
        through=statistics.median(whole),
        share=share,
        pairs=statistics.median(whole) * setting.pairs / rows_in_all,
        stderr=result.mean().stderr,
        among=setting.pairs,
        memory=memory_of(network, given, setting.batches) if device.type == "cuda" else {},
    )


def counted(sizes: dict[str, Size]) -> dict[str, Count]:
    """Print what a row of each size takes, and how much of it the text's keys and values are."""
    print(
        "Matrix products and convolutions of one row, counted on meta tensors; a multiplication and an addition are two.\n"
    )
    print("| network | TFLOP a row | told before | TFLOP a pair of 128 rows | text's keys and values, % of a row |")
    print("|---|--:|--:|--:|--:|")
    found: dict[str, Count] = {}
    for name, size in sizes.items():
        one = found[name] = count(size)
        told = f"{TOLD[name]:.3g}" if name in TOLD else "-"
        share = f"{100 * one.share:.2f}" if one.text else "- (they depend on the level)"
        row = one.row / 1e12
        print(f"| {name} | {row:.3g} | {told} | {ROWS_OF_A_PAIR * row:,.4g} | {share} |")
    return found


def main(
    size: Annotated[list[str] | None, typer.Option(help=f"Some of {', '.join(SIZES)}; all by default.")] = None,
    tiny_: Annotated[bool, typer.Option("--tiny", help="The same layouts as small as they run, for tests.")] = False,
    count_: Annotated[
        bool,
        typer.Option("--count", help="Only count FLOP and the share of the text, with PixArt-Sigma; runs nothing."),
    ] = False,
    pairs: Annotated[int, typer.Option(min=2)] = 8,
    levels: Annotated[int, typer.Option(min=2)] = 32,
    rows: Annotated[int, typer.Option(min=1, help="Rows per forward pass.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that the two take.")] = 5,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Compile the network; by default on a GPU.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Rows whose memory is measured; 1, 4, 16, 64.")] = None,
) -> None:
    """Count, measure, then print Markdown tables."""
    for name in size or ():
        if name not in SIZES:
            raise typer.BadParameter(f"size is {shown(name)}; expected one of {', '.join(SIZES)}")
    if count_:
        counted({name: tiny(one) for name, one in SIZES.items()} if tiny_ else COUNTED)
        return
    chosen = {name: tiny(SIZES[name]) if tiny_ else SIZES[name] for name in size or SIZES}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not tiny_:
        raise typer.BadParameter(
            "no GPU is at hand, and these networks take minutes a row without; pass --tiny or --count"
        )
    # A CPU of any kind multiplies in float32.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    compiled = device.type == "cuda" if compiled is None else compiled
    setting = Setting(device, dtype, pairs, levels, rows, rounds, compiled, batch or (1, 4, 16, 64))
    flop = counted(chosen)
    most = peak(device, dtype, 8192 if device.type == "cuda" else 256)
    place = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU (no card was measured)"
    print(
        f"\n{place}, {dtype}, {'compiled' if compiled else 'not compiled'}; a matrix product reaches {most / 1e12:.3g} TFLOP/s\n"
    )
    print(
        "| network | rows a batch | bare, rows/s | pipeline, rows/s | pipeline / bare (aim 0.95) | of the peak (aim 35 %) |",
        end="",
    )
    print(" pairs/s | standard error of so many pairs, nats | GiB by rows |\n|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for name, one in chosen.items():
        found = measure(one, setting)
        memory = ", ".join(f"{rows}: {used / 2**30:.1f}" for rows, used in found.memory.items()) or "-"
        print(
            f"| {name} | {found.rows} | {found.alone:.3g} | {found.through:.3g} | {found.share:.3f} | "
            f"{100 * found.through * flop[name].row / most:.1f} % | {found.pairs:.3g} | {found.stderr:.2g} ({found.among}) | {memory} |"
        )
    print(
        "\nThe standard errors are those of networks that were never trained. For a model of your own, --plan of any command tells"
    )
    print("what a wanted one costs.")
