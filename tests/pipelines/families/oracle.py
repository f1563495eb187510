"""A world of two pictures whose exact denoiser stands in a family's network's place, and speaks as that does."""

import inspect
import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.pipelines.families.parity import Call, Run, flatten
from tests.pipelines.families.row import Row, scale


class TwoPictures:
    """x is one of two pictures, each named by a prompt, each as likely.

    Args:
        row: the family.
        pictures: `(2, *event)` float64.
    """

    def __init__(self, row: Row, pictures: Tensor) -> None:
        self.row, self.pictures = row, pictures.double()

    def eps(self, z: Tensor, logsnr: Tensor, label: Tensor) -> Tensor:
        """The exact noise prediction at the variance-preserving z; label 0 and 1 name a picture, 2 none."""
        shape = (-1, *(1,) * (z.ndim - 1))
        a, s = torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()
        distance = torch.stack([(z - a.view(shape) * each).flatten(1).square().sum(1) for each in self.pictures], 1)
        weight = torch.softmax(-distance / (2 * s**2)[:, None], 1)
        named = torch.nn.functional.one_hot(label, 3)[:, :2].double()
        weight = torch.where((label == 2)[:, None], weight, named)
        x = (weight @ self.pictures.flatten(1)).view_as(z)
        return (z - a.view(shape) * x) / s.view(shape)

    def information(self, low: float, high: float) -> float:
        """I(x; prompt) in nats that lies between two log-SNR: ln 2 minus the entropy of a bit seen in Gaussian noise."""
        apart = float((self.pictures[0] - self.pictures[1]).square().sum()) ** 0.5
        noise = torch.linspace(-10, 10, 20001, dtype=torch.float64)
        density = torch.exp(-(noise**2) / 2) / math.sqrt(2 * math.pi)

        def known(logsnr: float) -> float:
            mean = math.exp(logsnr / 2) * apart / 2
            lost = torch.nn.functional.softplus(-2 * mean * (mean + noise))
            return math.log(2) - float(torch.trapezoid(lost * density, noise))

        return known(high) - known(low)


class Dressed:
    """The exact denoiser as the network's ``forward``: reads its arguments as the papers say, returns what they predict.

    Which prompt a row has is told by what the network was given for it in the runs of its own pipeline.
    """

    def __init__(self, world: TwoPictures, pipe: Any, recorded: list[Run]) -> None:
        self.world, self.pipe, self.row = world, pipe, world.row
        self.signature = inspect.signature(type(getattr(pipe, self.row.network)).forward)
        moments = [run.moments[0] for run in recorded]
        prompts = [self._texts(m.prompt, k) for m in moments for k in range(len(m.prompts))]
        self.known = [*prompts, self._texts(moments[0].null, 0)]

    def _texts(self, call: Call, k: int) -> dict[str, Tensor]:
        """What a row was given that may name its prompt: no noisy input, time or name of a size."""
        first = next(iter(call.given))
        found = {}
        for name, value in call.given.items():
            if name in (first, self.row.time, *self.row.ignore) or not isinstance(value, (Tensor, list)):
                continue
            axis = self.row.axes.get(name, 0)
            if isinstance(value, list):
                found[name] = value[k]
            elif value.ndim > axis:
                found[name] = value.select(axis, k) if k < value.shape[axis] else value
        return {name: value.double() for name, value in found.items() if isinstance(value, Tensor)}

    def _label(self, call: Call, k: int) -> int:
        def far(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
            total = 0.0
            for name in one.keys() & other.keys():
                a, b = one[name], other[name]
                if a.shape[1:] != b.shape[1:]:
                    continue
                least = min(len(a), len(b)) if a.ndim else None
                total += float((a[:least] - b[:least]).square().sum()) if a.ndim else float((a - b).square())
            return total

        given = self._texts(call, k)
        return min(range(3), key=lambda place: far(given, self.known[place]))

    def _labels(self, call: Call, count: int) -> Tensor:
        """Of each row; rows that were given the same, bit for bit, are looked at once."""
        labels = torch.full((count,), -1)
        for k in range(count):
            if labels[k] < 0:
                labels[self._alike(call, k, count)] = self._label(call, k)
        return labels

    def _alike(self, call: Call, k: int, count: int) -> Tensor:
        """Which rows were given the same as one of them, beside the noisy input and the time."""
        first = next(iter(call.given))
        alike = torch.ones(count, dtype=torch.bool)
        for name, value in call.given.items():
            axis = self.row.axes.get(name, 0)
            if name in (first, self.row.time):
                continue
            if isinstance(value, list) and len(value) == count:
                alike &= torch.tensor([not isinstance(each, Tensor) or torch.equal(each, value[k]) for each in value])
            elif isinstance(value, Tensor) and value.ndim > axis and value.shape[axis] == count:
                rows = value.movedim(axis, 0)
                alike &= (rows == rows[k]).reshape(count, -1).all(1)
        return alike

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        row, world = self.row, self.world
        bound = self.signature.bind(None, *args, **kwargs).arguments
        bound.pop("self")
        whole = bound.pop("return_dict", True)
        call = Call(dict(leaf for name, value in bound.items() for leaf in flatten(value, name)))
        x = call.given[next(iter(call.given))]
        noisy = row.event(self.pipe, torch.stack(x) if isinstance(x, list) else x)
        count = len(noisy)
        logsnr = row.level(self.pipe, row.each(torch.as_tensor(call.given[row.time])).expand(count))
        label = self._labels(call, count)
        shape = (-1, *(1,) * (noisy.ndim - 1))
        a, s = torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()
        z = noisy.double() / scale(row.prediction, a, s).view(shape)
        eps = world.eps(z, logsnr, label)
        clean = (z - s.view(shape) * eps) / a.view(shape)
        sigma = (s / a).view(shape)
        out = {
            "epsilon": eps,
            "sample": clean,
            "v": a.view(shape) * eps - s.view(shape) * clean,
            "flow": eps - clean,
            "-flow": clean - eps,
            # Table 1, for data of standard deviation 1/2: D = c_skip y + c_out F.
            "edm": (clean - 0.25 / (sigma**2 + 0.25) * (clean + sigma * eps))
            / (sigma * 0.5 / (sigma**2 + 0.25) ** 0.5),
        }[row.prediction]
        if row.learned_variance:
            out = torch.cat([out, torch.full_like(out, 7.0)], 1)
        out = row.packed(self.pipe, out.to(noisy.dtype))
        return SimpleNamespace(sample=out) if whole else (out,)
