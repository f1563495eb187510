"""A small U-Net over named image variables, each of which is diffused, given, given in part, or absent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmg_diffusers.arrays.networks import MultiDenoiser, VectorNetwork
from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise

# The time embedding's fastest wave turns this many radians in one unit of log-SNR, so that neighbouring levels look
# alike and levels a unit apart do not.
RATE = 8.0
# What is read off the pictures, as a variable beside those of one pixel.
SUMMARY = "(pictures)"
# Cells along the shorter side of the grid, in each of which the strongest of every feature is taken.
GRID = 4


def in_part(values: Tensor, seen: Tensor) -> Tensor:
    """A variable that is seen in part, as an `ImageNetwork` is given it: `(B, C, H, W)` to `(B, C + 1, H, W)`.

    Args:
        values: of all pixels; those that are not seen are left out.
        seen: 1 or true where a pixel is seen; `(B, 1, H, W)` or what broadcasts to it.
    """
    mask = seen.to(values).expand(len(values), 1, *values.shape[2:])
    return torch.cat([values * mask, mask], 1)


def channel_covariance(examples: Mapping[str, Tensor], parts: Sequence[str] = ()) -> Tensor:
    """The covariance of all channels at one pixel, over pixels and examples: `(D, D)` float64.

    Args:
        examples: `(N, C, H, W)` of each variable, standardised. Those of one pixel, `(N, C, 1, 1)`, are uncorrelated
            with those of many, as a network over pixels sees them.
        parts: variables whose last channel is a mask; pixels that it hides are not counted.

    Raises:
        ValueError: when two variables are never seen at the same pixel.
    """
    values = {name: (x[:, :-1] if name in parts else x).double() for name, x in examples.items()}
    masks = {name: (x[:, -1:] if name in parts else torch.ones_like(x[:, :1])).double() for name, x in examples.items()}
    rows: list[Tensor] = []
    for one, x in values.items():
        blocks: list[Tensor] = []
        for other, y in values.items():
            if x.shape[2:] != y.shape[2:]:
                blocks.append(x.new_zeros(x.shape[1], y.shape[1]))
                continue
            both = masks[one] * masks[other]
            if not float(both.sum()):
                raise ValueError(f"{one} and {other} are never seen at the same pixel, so their covariance is unknown")
            means = [(v * both).sum((0, 2, 3), keepdim=True) / both.sum() for v in (x, y)]
            blocks.append(torch.einsum("nchw,ndhw->cd", (x - means[0]) * both, (y - means[1]) * both) / both.sum())
        rows.append(torch.cat(blocks, 1))
    return torch.cat(rows)


class _Pixel(NamedTuple):
    """What a pixel of the diffused variable is expected to be, given what is seen there."""

    mean: Tensor
    variance: Tensor


class ImageNetwork(MultiDenoiser):
    """diffusers' `UNet2DModel` over named images: noisy, clean or absent variables are stacked along channels.

    Every variable has planes for its values, for the residual of the linear prediction below, and two flags: where it is
    noisy, and where it is seen. Where it is neither, its values are a learned null. Two planes more say where a pixel lies,
    down and across. A variable of one pixel, such as a label's indicators, is laid over the whole picture. What is
    predicted of it comes from a `VectorNetwork`, which is given what an encoder without noise levels (diffusers'
    `Encoder`, of the same widths) sums up of the pictures: the strongest of each feature in the cells of a grid.

    The network starts as the exact denoiser of pixels that are independent of each other, each channel Gaussian and
    linear in what is given of the same pixel, and learns what that lacks: eps = eps_linear + unexplained * F. For white
    data F is v-prediction. A channel that others determine is known from the start, and nothing is learnt of it.

    Args:
        shapes: (channels, height, width) of each variable; those of more than one pixel share one size.
        covariance: `(D, D)` of all channels at one pixel, in the order of `shapes`, for standardised data; see
            `channel_covariance`. Uncorrelated with unit variance by default.
        parts: variables that may be given in part. Their tensors have one channel more, the last, which is 1 where a
            pixel is seen; see `in_part`. They cannot be diffused, nor be of one pixel.
        logsnr_range: levels that it is trained on.
        widths: channels of the U-Net from the finest level to the coarsest; each level halves the sides.
        layers: residual blocks a level.

    Raises:
        ValueError: for shapes of several sizes or of single pixels only, parts that are no variables or of one pixel, or
            a covariance that is none of these channels.
    """

    covariance: Tensor
    place: Tensor

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        covariance: Tensor | None = None,
        *,
        parts: Sequence[str] = (),
        logsnr_range: tuple[float, float] = (-8.0, 8.0),
        widths: Sequence[int] = (32, 64, 64),
        layers: int = 1,
    ) -> None:
        # Here, and not above: importing the package should not wait for diffusers.
        from diffusers import UNet2DModel
        from diffusers.models.autoencoders.vae import Encoder

        low, high = logsnr_range
        super().__init__(
            {name: (c + (name in parts), h, w) for name, (c, h, w) in shapes.items()}, (float(low), float(high))
        )
        self.need(parts)
        sizes = {tuple(shape[1:]) for shape in shapes.values()} - {(1, 1)}
        if len(sizes) != 1:
            raise ValueError(
                f"expected one size of more than one pixel among {dict(shapes)}; bring images to one size, and use "
                "VectorNetwork where there is none"
            )
        self.size = sizes.pop()
        self.parts, self.widths, self.layers = tuple(parts), tuple(widths), layers
        self.channels = {name: shape[0] for name, shape in shapes.items()}
        total = sum(self.channels.values())
        self._place: dict[str, slice] = {}
        start = 0
        for name, count in self.channels.items():
            self._place[name] = slice(start, start + count)
            start += count
        covariance = torch.eye(total, dtype=torch.float64) if covariance is None else covariance.double().cpu()
        if covariance.shape != (total, total) or not torch.allclose(covariance, covariance.mT):
            raise ValueError(f"expected the covariance of {total} channels, got {tuple(covariance.shape)}")
        if float(torch.linalg.eigvalsh(covariance)[0]) < -1e-6 * float(covariance.abs().max()):
            raise ValueError("the covariance has a negative variance; estimate all of it from the same pixels")
        self.register_buffer("covariance", covariance)
        self.null = nn.Parameter(torch.zeros(1, total, 1, 1))
        down, across = (torch.linspace(-1, 1, side) for side in self.size)
        place = torch.stack(torch.meshgrid(down, across, indexing="ij"))
        self.register_buffer("place", place[None], persistent=False)
        inputs, levels, groups = 2 * total + 2 * len(shapes) + 2, len(self.widths), math.gcd(*self.widths, 8)
        self.points = tuple(name for name, shape in self.shapes.items() if shape[1:] == (1, 1))
        if set(self.points) & set(parts):
            raise ValueError(f"got the parts {list(parts)}; expected none of one pixel, as {list(self.points)} are")
        if self.points:
            own = [k for name in self.points for k in range(self._place[name].start, self._place[name].stop)]
            self.encoder = Encoder(
                inputs - 2 * len(own) - 2 * len(self.points),
                self.widths[-1],
                down_block_types=("DownEncoderBlock2D",) * levels,
                block_out_channels=self.widths,
                layers_per_block=layers,
                norm_num_groups=groups,
                double_z=False,
                mid_block_add_attention=False,
            )
            sizes = {name: self.channels[name] for name in self.points} | {SUMMARY: self.widths[-1]}
            joint = torch.block_diag(covariance[own][:, own], torch.eye(self.widths[-1], dtype=torch.float64))
            # Square cells: two pictures side by side are seen in as much detail as each alone.
            self.grid = tuple(round(GRID * side / min(self.size)) for side in self.size)
            self.gather = nn.Linear(self.widths[-1] * math.prod(self.grid), self.widths[-1])
            width = max(64, 2 * self.widths[-1])
            self.reader = VectorNetwork(sizes, joint, logsnr_range=self.logsnr_range, width=width)
        if any(name not in self.points and name not in parts for name in shapes):
            self.unet = UNet2DModel(
                in_channels=inputs,
                out_channels=total,
                block_out_channels=self.widths,
                layers_per_block=layers,
                down_block_types=("DownBlock2D",) * levels,
                up_block_types=("UpBlock2D",) * levels,
                norm_num_groups=groups,
                attention_head_dim=math.gcd(self.widths[-1], 16),
            )
            for parameter in self.unet.conv_out.parameters():
                nn.init.zeros_(parameter)
        self._laws: dict[tuple[str, tuple[str, ...], torch.device], tuple[Tensor, Tensor]] = {}

    @property
    def config(self) -> dict[str, Any]:
        """What the network is made from, beside its covariance: keyword arguments that JSON can hold."""
        return {
            "shapes": {name: [count, *self.shapes[name][1:]] for name, count in self.channels.items()},
            "parts": list(self.parts),
            "logsnr_range": list(self.logsnr_range),
            "widths": list(self.widths),
            "layers": self.layers,
        }

    # ---- the linear part ----

    def _law(self, target: str, seen: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
        """Gain `(C, G)` and variance `(1, C, 1, 1)` of the target's channels where these variables are seen."""
        key = (target, seen, device)
        if key not in self._laws:
            cov, own = self.covariance.double().cpu(), self._place[target]
            known = [k for name in seen for k in range(self._place[name].start, self._place[name].stop)]
            cross = cov[own][:, known]
            # Channels that repeat each other share the gain between them.
            gain = cross @ torch.linalg.pinv(cov[known][:, known], rtol=1e-9, hermitian=True) if seen else cross
            variance = (cov[own, own] - gain @ cross.mT).diagonal().clamp(min=0)
            self._laws[key] = gain.float().to(device), variance.float().view(1, -1, 1, 1).to(device)
        return self._laws[key]

    def _expected(self, target: str, clean: Mapping[str, Tensor], masks: Mapping[str, Tensor], like: Tensor) -> _Pixel:
        """Mean and variance of the target's pixels before noise; the variables given there may differ from pixel to pixel."""
        peers = [name for name in clean if self.shapes[name][1:] == self.shapes[target][1:]]
        hidden = [name for name in peers if name in masks]
        mean, variance = torch.zeros_like(like), torch.zeros_like(like)
        for choice in product((False, True), repeat=len(hidden)):
            shown = dict(zip(hidden, choice, strict=True))
            seen = tuple(name for name in peers if shown.get(name, True))
            gain, spread = self._law(target, seen, like.device)
            here = torch.ones_like(like[:, :1])
            for name, is_shown in shown.items():
                here = here * (masks[name] if is_shown else 1 - masks[name])
            variance = variance + here * spread
            if seen:
                values = torch.cat([clean[name] for name in seen], 1)
                # Not as a matrix product, which mixed precision would round.
                mean = mean + here * (gain[:, :, None, None] * values[:, None]).sum(2)
        return _Pixel(mean, variance)

    # ---- the network ----

    def _check(self, values: Mapping[str, Tensor], role: str) -> None:
        values = {name: value for name, value in values.items() if name != SUMMARY}
        self.need(list(values))
        for name, value in values.items():
            if value.shape[1:] != self.shapes[name]:
                masked = " (the last channel a mask, see in_part)" if name in self.parts else ""
                raise ValueError(
                    f"{name} is {role} with shape {tuple(value.shape)}; expected (B, *{self.shapes[name]}){masked}"
                )

    def forward(self, noisy: Mapping[str, Tensor], logsnr: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not noisy:
            raise ValueError(f"nothing is diffused; name one or more of {', '.join(self.channels)}")
        refused = [name for name in noisy if name in self.parts or name in given]
        if refused:
            raise ValueError(f"{shown(refused[0])} cannot be diffused: it is given, or was made to be given in part")
        self._check(noisy, "diffused")
        self._check(given, "given")
        some = next(iter(noisy.values()))
        clean, masks = self._seen(given)
        a, s = (per_event(scale, some.float()) for scale in signal_and_noise(logsnr))

        linear: dict[str, Tensor] = {}
        scaled: dict[str, Tensor] = {}
        unexplained: dict[str, Tensor] = {}
        for name in noisy:
            z = noisy[name].float()
            mean, variance = self._expected(name, clean, masks, z)
            total = a * a * variance + s * s
            scaled[name] = (z - a * mean) * total.rsqrt()
            linear[name] = s * total.rsqrt() * scaled[name]
            unexplained[name] = a * variance.sqrt() * total.rsqrt()
        diffused = {name: (noisy[name].float(), scaled[name]) for name in noisy}
        eps: dict[str, Tensor] = {}
        points = {name: noisy[name].flatten(1) for name in noisy if name in self.points}
        pictures = noisy.keys() - points.keys()
        if points:
            told = {name: clean[name].flatten(1) for name in clean if name in self.points}
            summary = given.get(SUMMARY) if not pictures else None
            if summary is None:
                names = [name for name in self.channels if name not in self.points]
                summary = self._summary(self._planes(names, diffused, clean, masks, len(some)))
            found = self.reader(points, logsnr, {**told, SUMMARY: summary})
            eps |= {name: found[name][:, :, None, None] for name in points}
        if pictures:
            time = (RATE * (logsnr - self.logsnr_range[0])).float().to(some.device)
            out = self.unet(self._planes(self.channels, diffused, clean, masks, len(some)), time).sample.float()
            height, width = self.size
            for name in pictures:
                eps[name] = linear[name] + unexplained[name] * out[:, self._place[name], :height, :width]
        if self.training:
            # All parameters take part, whatever is diffused, so that every process has a gradient for each.
            name = next(iter(eps))
            eps[name] = eps[name] + 0 * sum(parameter.sum() for parameter in self.parameters())
        return eps

    def read(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The given variables, and what the encoder sums up of them, which is the same at all levels of noise."""
        if not self.points:
            return dict(given)
        self._check(given, "given")
        names = [name for name in self.channels if name not in self.points]
        rows = max((len(given[name]) for name in names if name in given), default=1)
        return {**given, SUMMARY: self._summary(self._planes(names, {}, *self._seen(given), rows))}

    def _seen(self, given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Values, and masks of those that are given in part."""
        shown = {name: given[name] for name in self.channels if name in given}
        clean = {name: (x[:, :-1] if name in self.parts else x).float() for name, x in shown.items()}
        return clean, {name: x[:, -1:].float() for name, x in shown.items() if name in self.parts}

    def _planes(
        self,
        names: Iterable[str],
        diffused: Mapping[str, tuple[Tensor, Tensor]],
        clean: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        rows: int,
    ) -> Tensor:
        """All that is known of these variables, `(rows, planes, H, W)`, on sides that every level can halve."""
        blank = torch.zeros(rows, 1, 1, 1, device=self.place.device)
        planes: list[Tensor] = []
        for name in names:
            null = self.null[:, self._place[name]]
            value, scaled, is_noisy, is_seen = null, torch.zeros_like(null), blank, blank
            if name in diffused:
                (value, scaled), is_noisy = diffused[name], blank + 1
            elif name in clean:
                is_seen = masks.get(name, blank + 1)
                value = torch.where(is_seen > 0, clean[name], null)
            planes += [part.expand(rows, -1, *self.size) for part in (value, scaled, is_noisy, is_seen)]
        planes.append(self.place.expand(rows, -1, -1, -1))
        step = 2 ** (len(self.widths) - 1)
        height, width = self.size
        return nn.functional.pad(torch.cat(planes, 1), (0, -width % step, 0, -height % step))

    def _summary(self, planes: Tensor) -> Tensor:
        strongest = nn.functional.adaptive_max_pool2d(self.encoder(planes).float(), self.grid)
        found = self.gather(strongest.flatten(1))
        return nn.functional.layer_norm(found, found.shape[1:])
