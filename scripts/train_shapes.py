"""Train the Shapes model that ships with the package, and save it as a Stable Diffusion folder.

    python scripts/train_shapes.py runs/shapes                 # all stages, then export; resumes where it stopped
    accelerate launch scripts/train_shapes.py runs/shapes      # the same on several devices
    python scripts/train_shapes.py runs/more --start mmg_diffusers/models/shapes    # the last stages again, on a finished model

An AutoencoderKL first; then a UNet and a CLIP text encoder, together, with half of the forward passes on the
empty prompt: every noisy latent is seen once with its caption and once without. The next stage refines them where
captions are told apart: most levels there, targets averaged over other images that could have led to the same noisy
latent, and every level's error weighed by the inverse of what cannot be helped of it. The last one holds the odds
between captions, read along a path of noise, against the exact ones.
"""

# diffusers annotates its configs more narrowly than it reads them.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mmg_diffusers.arrays.checkpoints import cosine_rate, load_checkpoint, save_checkpoint
from mmg_diffusers.arrays.trainer import join_processes
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.denoisers.levels import add_noise, per_event, signal_and_noise
from mmg_diffusers.measure.draws import PairDraws, brownian_path
from mmg_diffusers.measure.paths import step_score
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pipelines.schedulers import convention_from_config
from mmg_diffusers.worlds.pairs import Pairs
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, ShapesSample, caption_words

PROMPT_TOKENS = 12


@dataclass(frozen=True)
class Stage:
    """How one of the two networks is trained: the rate rises, stays for a share `held` of the steps, and falls."""

    steps: int
    batch: int
    lr: float
    warmup: int = 200
    save_every: int = 250
    held: float = 0.0

    @property
    def falls_at(self) -> int:
        """The step from which the rate falls, to 0 at the last one, along a cosine."""
        return round(self.held * self.steps)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        left = self.steps - self.falls_at
        return cosine_rate(self.lr * min(1.0, (step + 1) / self.warmup), max(0, step - self.falls_at), left, 1)


class ShapesStream(IterableDataset):
    """An endless stream of batches of (images in [-1, 1], caption indices, exact posteriors of all captions).

    Each process and step has its own seed.
    """

    def __init__(self, batch: int, seed: int, rank: int, world: int, start: int) -> None:
        self.batch, self.seed, self.rank, self.world, self.start = batch, seed, rank, world, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        shapes = Shapes("soft")
        step = self.start
        while True:
            # Seeds below 2**32 are for evaluation, so no fresh pair was ever trained on.
            seed = 2**32 + (self.seed * 2**20 + step) * self.world + self.rank
            yield tensors(shapes, shapes.sample(self.batch, seed))
            step += 1


def tensors(shapes: Shapes, sample: ShapesSample) -> tuple[Tensor, Tensor, Tensor]:
    """Images in [-1, 1], captions, and p(caption | image) of every caption."""
    images = torch.from_numpy(sample.images).permute(0, 3, 1, 2) * 2 - 1
    return images, torch.from_numpy(sample.caption), torch.from_numpy(shapes.posterior(sample.factors)).float()


def make_tokenizer(captions: Sequence[str] = CAPTIONS) -> CLIPTokenizer:
    """A CLIP tokenizer of bytes, and merges that make each word of a caption one token."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[str] = []
    for word in sorted({word for caption in captions for word in caption.split()}):
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            # From the right: suffixes are shared by no other word's merges in a different order.
            left, right = pieces[-2:]
            if f"{left} {right}" not in merges:
                merges.append(f"{left} {right}")
                vocabulary.append(left + right)
            pieces[-2:] = [left + right]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    tokens = {token: index for index, token in enumerate(dict.fromkeys(vocabulary))}
    return CLIPTokenizer(
        vocab=tokens, merges=[tuple(merge.split()) for merge in merges], model_max_length=PROMPT_TOKENS
    )


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=32,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=8,
        latent_channels=4,
        mid_block_add_attention=False,
    )


def text_config(tokenizer: CLIPTokenizer, width: int = 64) -> CLIPTextConfig:
    """What every text encoder of a model of these worlds is, with a projection or without."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(text_config(tokenizer))


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=32,
        norm_num_groups=16,
    )


def make_scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
    )


def make_convention() -> Convention:
    return convention_from_config("DDPMScheduler", make_scheduler().config)


class Trainer:
    """One stage: optimizer, cosine schedule, EMA, progress and checkpoints around a loss."""

    def __init__(
        self, accelerator: Accelerator, name: str, modules: dict[str, nn.Module], stage: Stage, folder: Path, seed: int
    ) -> None:
        self.accelerator, self.name, self.modules, self.stage, self.seed = accelerator, name, modules, stage, seed
        self.path = folder / f"{name}.safetensors"
        self.log = folder / f"{name}.jsonl"
        parameters = [p for module in modules.values() for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=stage.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        # EMAModel keeps a list of shadows; one module holds them so that they travel with the checkpoint.
        self.ema = EMAModel(parameters, decay=0.999, use_ema_warmup=True, power=0.75)
        self.shadows = nn.ParameterList(nn.Parameter(p, requires_grad=False) for p in self.ema.shadow_params)
        self.ema.shadow_params = list(self.shadows)
        self.parameters = parameters
        self.step = 0
        self.seconds = 0.0
        if self.path.exists():
            state = load_checkpoint(self.path, self._saved(), self.optimizer)
            self.step, self.seconds = state["step"], state["seconds"]
            self.ema.optimization_step = self.step

    def _saved(self) -> dict[str, nn.Module]:
        return {**self.modules, "ema": self.shadows}

    def run(
        self,
        loss_of: Callable[..., tuple[Tensor, dict[str, Tensor]]],
        stream: Callable[[int, int, int, int, int], IterableDataset] = ShapesStream,
    ) -> None:
        """Take the steps that are left; `loss_of` a batch gives the loss and numbers to log.

        A stream is made of the batch's size, the seed, the process and their count, and the first step; that of
        Shapes gives images, captions and posteriors.
        """
        self._lay_out_moments()
        accelerator, stage = self.accelerator, self.stage
        start = self.step
        batches = stream(stage.batch, self.seed, accelerator.process_index, accelerator.num_processes, start)
        loader = iter(DataLoader(batches, batch_size=None))
        began = time.monotonic() - self.seconds
        bar = tqdm(
            total=stage.steps,
            initial=start,
            desc=self.name,
            disable=not accelerator.is_local_main_process,
            mininterval=5,
        )
        running: dict[str, float] = {}
        try:
            while self.step < stage.steps:
                # Seeded step by step, so that a resumed run goes on as if it had not been disturbed.
                torch.manual_seed(
                    (self.seed * 2**20 + self.step) * accelerator.num_processes + accelerator.process_index
                )
                batch = (tensor.to(accelerator.device) for tensor in next(loader))
                loss, numbers = loss_of(*batch)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(self.parameters, 1.0)
                for group in self.optimizer.param_groups:
                    group["lr"] = stage.rate(self.step)
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.ema.step(self.parameters)
                self.step += 1
                bar.update()
                for key, value in {"loss": loss, **numbers}.items():
                    running[key] = 0.98 * running.get(key, value.item()) + 0.02 * value.item()
                bar.set_postfix({k: f"{v:.4g}" for k, v in running.items()}, refresh=False)
                self.seconds = time.monotonic() - began
                if self.step % stage.save_every == 0 or self.step == stage.steps:
                    self._save(self.path, running)
                if stage.held > 0 and self.step == stage.falls_at:
                    # From here the training can be taken up again, to fall later.
                    self._save(self.path.with_suffix(".held.safetensors"), running)
        finally:
            bar.close()

    def _lay_out_moments(self) -> None:
        """Give moments that were read back the strides of their parameters; fused Adam takes them to be the same."""
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)

    def _save(self, path: Path, running: dict[str, float]) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state = {"step": self.step, "seconds": self.seconds, "stage": asdict(self.stage), "seed": self.seed}
            save_checkpoint(path, self._saved(), self.optimizer, state)
            with self.log.open("a") as file:
                file.write(json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **running}) + "\n")

    def finish(self) -> None:
        """Leave the averaged weights in the modules, for use and not for further training."""
        self.ema.copy_to(self.parameters)
        for module in self.modules.values():
            module.eval().requires_grad_(False)


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the machine has instructions for it; by those of float32 it is three times slower than that."""
    instructions = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not tell
    enabled = device.type != "cpu" or instructions.get("avx512_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


class VaeLoss(nn.Module):
    """Reconstruction and a small KL; one module, so that gradients are shared between processes."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with half_precision(images.device):
            posterior = self.vae.encode(images).latent_dist
            decoded = self.vae.decode(posterior.sample()).sample
        error = decoded.float() - images
        kl = posterior.kl().mean().float() / posterior.mean[0].numel()
        square = error.square().mean()
        return square + 0.1 * error.abs().mean() + 3e-5 * kl, {"square": square, "kl": kl}


def train_vae(accelerator: Accelerator, stage: Stage, folder: Path, seed: int) -> AutoencoderKL:
    vae = make_vae().to(accelerator.device, memory_format=torch.channels_last)
    trainer = Trainer(accelerator, "vae", {"vae": vae}, stage, folder, seed)
    loss = accelerator.prepare(VaeLoss(vae))
    trainer.run(lambda images, captions, posterior: loss(images))
    trainer.finish()
    return vae


@torch.no_grad()
def set_latent_scale(vae: AutoencoderKL, world: Shapes | Pairs | None = None) -> None:
    """Store the factor that gives the latents of a world, Shapes by default, unit variance, as Stable Diffusion does."""
    images = (world or Shapes("soft")).sample(2048, seed=2**31).images
    images = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
    device = next(vae.parameters()).device
    latents = torch.cat([vae.encode(part.to(device)).latent_dist.mode() for part in images.split(256)])
    vae.register_to_config(scaling_factor=1.0 / latents.std().item())


class Neighbours(nn.Module):
    """Other images' latents, over which the target of a noisy latent is averaged: E[x | z, caption].

    A noisy latent could have come from many images. Averaged over a bank of them, each weighed by p(z | x) and, where a
    caption is given, by the exact p(caption | x), the target says what the network should, with less noise than the one
    image that z was made of; as that one takes part, its expectation is the same (Xu, Tong and Jaakkola 2023, "Stable
    target field"). At the clean end only that one image is left.
    """

    latents: Tensor
    log_posterior: Tensor

    def __init__(self, latents: Tensor, posterior: Tensor) -> None:
        super().__init__()
        self.register_buffer("latents", latents.flatten(1), persistent=False)
        self.register_buffer("log_posterior", posterior.log(), persistent=False)

    def forward(
        self, z: Tensor, alpha: Tensor, x: Tensor, captions: Tensor, posterior: Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Averages of x with and without the caption, each like `x`."""
        own, seen = x.flatten(1), z.flatten(1)
        a, var = alpha.sqrt()[:, None], (1 - alpha)[:, None]
        others = (a * (seen @ self.latents.T) - a**2 * self.latents.square().sum(1) / 2) / var
        itself = (a * (seen * own).sum(1, True) - a**2 * own.square().sum(1, True) / 2) / var
        log_weight = torch.cat([itself, others], 1)
        spoken = torch.cat([posterior.gather(1, captions[:, None]).log(), self.log_posterior[:, captions].T], 1)

        def mean(log_weight: Tensor) -> Tensor:
            weight = log_weight.softmax(1)
            return (weight[:, :1] * own + weight[:, 1:] @ self.latents).view_as(x)

        return mean(log_weight + spoken), mean(log_weight)


class TypicalError(nn.Module):
    """Running mean of the squared error of the noise at each level; most of it cannot be helped."""

    COUNT = 24
    place: Tensor
    mean: Tensor

    def __init__(self, logsnr: Tensor) -> None:
        super().__init__()
        share = (logsnr - logsnr.min()) / (logsnr.max() - logsnr.min())
        self.register_buffer("place", (share * self.COUNT).long().clamp(max=self.COUNT - 1), persistent=False)
        self.register_buffer("mean", torch.full((self.COUNT,), 0.1))

    @torch.no_grad()
    def forward(self, level: Tensor, error: Tensor) -> Tensor:
        """What was typical of each level before these errors, which are taken in."""
        place = self.place[level]
        before = self.mean[place]
        sums = torch.zeros_like(self.mean).index_add_(0, place, error)
        counts = torch.zeros_like(self.mean).index_add_(0, place, torch.ones_like(error))
        self.mean += (1 - 0.99**counts) * (sums / counts.clamp(min=1) - self.mean)
        return before


class DenoisingLoss(nn.Module):
    """v-prediction error of the caption and of the empty prompt, both at the same noisy latent.

    Every latent is seen with its noise and with the opposite noise: what is odd in the noise cancels in the gradient,
    whose variance is a third lower than with as many latents of their own noise. Levels are uniform in log-SNR, the
    measure that information is integrated in, with fewer draws at the clean end, where little is left to say.

    With `neighbours`, the refining loss: most levels lie where captions are told apart, targets are averaged over the
    neighbours, and the error of the noise is divided by its running mean at that level, as least squares weighs
    observations of unequal noise.
    """

    tokens: Tensor
    edges: Tensor
    levels: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        neighbours: Neighbours | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.text, self.neighbours = unet, text, neighbours
        tokens = tokenizer([*CAPTIONS, ""], padding="max_length", return_tensors="pt").input_ids
        logsnr = make_convention().at_timestep(torch.arange(len(make_scheduler().alphas_cumprod)))
        share = torch.where(logsnr < 3, 1.0, 0.4)
        if neighbours is not None:
            share = torch.where((logsnr > -4.5) & (logsnr < 1.5), 1.0, 0.25)
        density = -torch.gradient(logsnr)[0] * share
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("edges", density.cumsum(0) / density.sum(), persistent=False)
        self.register_buffer("levels", logsnr, persistent=False)
        self.typical = TypicalError(logsnr)

    def forward(self, x: Tensor, captions: Tensor, posterior: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        count = len(x)
        place = (torch.randperm(count, device=x.device) + torch.rand(count, device=x.device)) / count
        level = torch.searchsorted(self.edges, place.double()).clamp(max=len(self.edges) - 1)
        eps = torch.randn_like(x)
        x, captions, posterior, level, eps = (
            torch.cat(both)
            for both in ((x, x), (captions, captions), (posterior, posterior), (level, level), (eps, -eps))
        )
        logsnr = self.levels[level]
        z = add_noise(x, logsnr, eps)
        alpha = logsnr.sigmoid().float()
        told = [x, x] if self.neighbours is None else self._averaged(z, x, alpha, captions, posterior)
        a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
        # v, which z and x determine.
        target = torch.cat([(a * z - mean) / s for mean in told])
        embeddings = self.text(self.tokens).last_hidden_state
        spoken = torch.cat([embeddings[captions], embeddings[-1:].expand(2 * count, -1, -1)])
        out = self.unet(torch.cat([z, z]), torch.cat([level, level]), spoken).sample
        error = (out - target).square().mean((1, 2, 3))
        if self.neighbours is None:
            given, null = error.chunk(2)
            return (given.mean() + null.mean()) / 2, {"given": given.mean(), "null": null.mean()}
        error = error * torch.cat([alpha, alpha])
        given, null = error.chunk(2)
        typical = self.typical(torch.cat([level, level]), error.detach())
        return (error / typical).mean(), {"given": given.mean(), "null": null.mean()}

    @torch.no_grad()
    def _averaged(
        self, z: Tensor, x: Tensor, alpha: Tensor, captions: Tensor, posterior: Tensor
    ) -> list[Tensor]:  # fmt: skip
        """x averaged, with the caption and without; above log-SNR 0 hardly any other image could have led to z."""
        rows = (alpha < 0.5).nonzero()[:, 0]
        assert self.neighbours is not None
        means = self.neighbours(z[rows], alpha[rows], x[rows], captions[rows], posterior[rows])
        return [x.index_copy(0, rows, mean) for mean in means]


class CaptionOdds(nn.Module):
    """How far the odds between captions, read along a path of noise, are from the exact ones.

    Squared errors are dominated by what all captions share; what tells two of them apart is a fiftieth of it. So here
    each image is followed along one Brownian path of noise, as `mmg_diffusers.measure.paths` does, under its own caption and
    under rivals, and the posterior over these few is held against the exact one (cross-entropy, whose minimum is the
    true posterior given the path). `denoising` is added to it with a weight, of all images of a batch, while only the
    first few are followed: with less of it images are drawn pale and blurred, although their odds are right.
    """

    LEVELS, CLEANEST, RIVALS, FOLLOWED, WEIGHT = 60, 6.0, 2, 2, 3.0
    levels: Tensor
    near: Tensor

    def __init__(self, denoising: DenoisingLoss) -> None:
        super().__init__()
        self.denoising = denoising
        self.denoiser = Adapted(self._network, make_convention(), dtype=torch.float32)
        wanted = AtLevels.widening(self.denoiser.logsnr_range[0], self.CLEANEST, self.LEVELS).levels
        levels = self.denoiser.snap(torch.tensor(wanted, dtype=torch.float64)).unique()
        self.register_buffer("levels", levels, persistent=False)
        words = torch.from_numpy(caption_words(np.arange(len(CAPTIONS))))
        self.register_buffer("near", (words[:, None] != words).sum(2) == 1, persistent=False)

    def forward(self, x: Tensor, captions: Tensor, posterior: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, numbers = self.denoising(x, captions, posterior)
        x, captions, posterior = (part[: self.FOLLOWED] for part in (x, captions, posterior))
        rows = torch.cat([captions[:, None], self._rivals(captions, posterior)], 1)
        exact = posterior.gather(1, rows)
        exact = exact / exact.sum(1, True)
        log_odds = self._scores(x, rows).log_softmax(1)
        excess = (exact * (exact.clamp(min=1e-30).log() - log_odds)).sum(1).mean()
        return self.WEIGHT * loss + excess, {**numbers, "odds": excess}

    def _network(self, z: Tensor, level: Tensor, spoken: Tensor) -> Tensor:
        with half_precision(z.device):
            return self.denoising.unet(z, level, spoken).sample.float()

    def _rivals(self, captions: Tensor, posterior: Tensor) -> Tensor:
        """Other captions `(B, RIVALS)`: those that the image could have had, and those that differ in one word."""
        weight = posterior.sqrt() + 0.15 * self.near[captions] + 0.003
        return torch.multinomial(weight.scatter(1, captions[:, None], 0.0), self.RIVALS)

    def _scores(self, x: Tensor, rows: Tensor) -> Tensor:
        """log p(path | caption) `(B, 1 + RIVALS)`, up to a term that all captions share."""
        count, steps = len(x), len(self.levels) - 1
        seed = int(torch.randint(2**31, ()))
        path = brownian_path([PairDraws(seed, i) for i in range(count)], self.levels.cpu(), tuple(x.shape[1:]))
        # All levels in one forward: rows run over levels, then images, then captions.
        eps, xi = (torch.cat(both).to(x.device) for both in zip(*path, strict=True))
        logsnr = self.levels[:-1].repeat_interleave(count)
        z = add_noise(x.repeat(steps, 1, 1, 1), logsnr, eps)
        each = torch.arange(len(z), device=x.device).repeat_interleave(rows.shape[1])
        embeddings = self.denoising.text(self.denoising.tokens).last_hidden_state
        spoken = {"spoken": embeddings[rows.repeat(steps, 1).flatten()]}
        predicted = self.denoiser(z[each], logsnr[each], spoken)
        growth = torch.expm1(self.levels.diff())
        score = step_score(predicted, eps[each], xi[each], growth.repeat_interleave(count)[each]).view(-1, *rows.shape)
        # A wide step lies off its prediction by what is not known of the image, too; without that in the variance the
        # network would learn to be the less certain for it.
        own = predicted.detach()[:: rows.shape[1]]
        error = (eps - own).square().mean(tuple(range(1, eps.ndim))).view(steps, count).mean(1)
        return (score / (1 + growth * error)[:, None, None]).sum(0)


@dataclass(frozen=True)
class Model:
    """The parts of the pipeline that are trained, and the tokenizer."""

    vae: AutoencoderKL
    text: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel


def train_unet(
    accelerator: Accelerator,
    name: str,
    model: Model,
    stage: Stage,
    folder: Path,
    seed: int,
    neighbours: int = 0,
    objective: Callable[[DenoisingLoss], nn.Module] = lambda denoising: denoising,
) -> None:
    """One stage of the UNet and the text encoder.

    With `neighbours`, how many images targets are averaged over; `objective` is what is minimised, made of the squared
    errors.
    """
    vae, unet, text = model.vae, model.unet.requires_grad_(True).train(), model.text.requires_grad_(True).train()
    scale = vae.config["scaling_factor"]

    @torch.no_grad()
    def latents(images: Tensor) -> Tensor:
        return vae.encode(images.to(vae.device)).latent_dist.mode() * scale

    bank = None
    if neighbours:
        world = Shapes("soft")
        # A seed that the stream of training does not reach.
        images, _, posterior = tensors(world, world.sample(neighbours, seed=2**31 + 1 + seed))
        bank = Neighbours(torch.cat([latents(part) for part in images.split(256)]), posterior).to(vae.device)
    module = DenoisingLoss(unet, text, model.tokenizer, bank).to(accelerator.device)
    parts = {"unet": unet, "text_encoder": text, "typical": module.typical}
    trainer = Trainer(accelerator, name, parts, stage, folder, seed)
    loss = accelerator.prepare(objective(module))
    unet.to(memory_format=torch.channels_last)
    trainer.run(lambda images, captions, posterior: loss(latents(images), captions, posterior))
    trainer.finish()


def export(folder: Path, model: Model) -> None:
    pipe = StableDiffusionPipeline(
        vae=model.vae.to(memory_format=torch.contiguous_format),
        text_encoder=model.text,
        tokenizer=model.tokenizer,
        unet=model.unet.to(memory_format=torch.contiguous_format),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Half precision on disk, float32 in memory: what diffusers' parts do by default. transformers' parts come back in
    # the dtype that they were saved in.
    pipe.vae.half()
    pipe.unet.half()
    pipe.save_pretrained(folder, safe_serialization=True)


def main(
    output: Annotated[Path, typer.Argument(help="Folder for checkpoints, logs and the finished model.")],
    seed: int = 0,
    vae_steps: int = 3000,
    vae_batch: int = 32,
    unet_steps: int = 6000,
    unet_batch: int = 32,
    unet_lr: float = 1e-3,
    refine_steps: int = 6000,
    refine_batch: int = 24,
    refine_lr: float = 5e-4,
    odds_steps: int = 1700,
    odds_batch: int = 16,
    odds_lr: float = 2e-4,
    neighbours: Annotated[int, typer.Option(help="Images over which the last stages average their targets.")] = 65536,
    save_every: int = 250,
    start: Annotated[Path | None, typer.Option(help="Begin the last two stages from this finished model.")] = None,
) -> None:
    """Train all stages, or go on with them, and write OUTPUT/model."""
    accelerator = join_processes()
    output.mkdir(parents=True, exist_ok=True)
    set_seed(seed)
    if start is not None:
        ready = StableDiffusionPipeline.from_pretrained(start, safety_checker=None, use_safetensors=True)
        model = Model(ready.vae, ready.text_encoder, ready.tokenizer, ready.unet)
        ready.to(accelerator.device)
    else:
        vae = train_vae(accelerator, Stage(vae_steps, vae_batch, 1e-3, save_every=save_every), output, seed)
        set_latent_scale(vae)
        set_seed(seed + 1, device_specific=True)
        tokenizer = make_tokenizer()
        unet, text = make_unet().to(accelerator.device), make_text_encoder(tokenizer).to(accelerator.device)
        model = Model(vae, text, tokenizer, unet)
        train_unet(
            accelerator, "unet", model, Stage(unet_steps, unet_batch, unet_lr, save_every=save_every), output, seed + 1
        )
    if refine_steps > 0:
        stage = Stage(refine_steps, refine_batch, refine_lr, save_every=save_every)
        train_unet(accelerator, "refine", model, stage, output, seed + 2, neighbours)
    if odds_steps > 0:
        stage = Stage(odds_steps, odds_batch, odds_lr, save_every=save_every)
        train_unet(accelerator, "odds", model, stage, output, seed + 3, neighbours, CaptionOdds)
    if accelerator.is_main_process:
        export(output / "model", model)


if __name__ == "__main__":
    typer.run(main)
