"""What a tuning left: weights of an adapter, what they were tuned on, and how it went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.checks import file_path, shown
from mmg_diffusers.files.identity import row_marks
from mmg_diffusers.files.records import pack, read_record, unpack
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.tuning.adapters import Adapter, LowRank, Networks

FORMAT = "mmg_diffusers.Tuned/1"
# The name under which diffusers' pipelines look for weights of LoRA in a folder.
LORA, WHOLE, RECORD = "pytorch_lora_weights.safetensors", "weights.safetensors", "tuned.safetensors"


@dataclass(frozen=True, repr=False)
class Tuned:
    """A model's branches, tuned to data.

    Args:
        weights: by the names that `Adapter.on` gives.
        rows: `(N,)` marks of all x that had a say: trained on, or held out to decide when to stop.
        held_out: steps and held-out losses in nats, half the integral of the error over the range, in the mean over the branches.
        record: the plan, the model and the data, in what JSON can hold.
    """

    weights: Mapping[str, Tensor]
    rows: Tensor
    held_out: tuple[tuple[int, float], ...]
    record: Mapping[str, Any]

    @property
    def adapter(self) -> Adapter:
        """What was trained."""
        return Adapter.of(self.record["plan"]["adapter"])

    @property
    def gained(self) -> float:
        """Nats of held-out loss by which the kept weights are better than those of the model as it was."""
        losses = [loss for _, loss in self.held_out]
        return losses[0] - min(losses)

    @property
    def steps(self) -> int:
        """Steps after which the weights that were kept were best; 0 if none was better than the model as it was."""
        return min(self.held_out, key=lambda look: look[1])[0]

    def on(self, networks: Networks) -> AbstractContextManager[dict[str, Tensor]]:
        """A context in which the networks carry the weights; afterwards they are as they were before.

        Raises:
            ModuleNotFoundError: for low rank, without peft.
            ValueError: for networks that these weights are not of.
        """
        return self.adapter.on(networks, self.weights)

    def check_unseen(self, x: Tensor) -> None:
        """Raise a ValueError for x, `(N, *event)` as the network sees them, that had a say in the tuning: what was tuned to them
        would flatter itself.
        """
        among = int(torch.isin(row_marks(x), self.rows).sum())
        if among:
            raise ValueError(
                f"{among} of {len(x)} images are among the {len(self.rows)} that the model was tuned to, which would flatter it; measure "
                "others"
            )

    def save(self, folder: str | Path) -> Path:
        """Write the weights and a record beside them. Of low rank, diffusers reads them: ``pipe.load_lora_weights(folder)``."""
        folder = file_path(folder, "the folder of the tuned weights")
        folder.mkdir(parents=True, exist_ok=True)
        adapter = self.adapter
        low = isinstance(adapter, LowRank)
        ready = _as_diffusers(self.weights, adapter.scale) if isinstance(adapter, LowRank) else dict(self.weights)
        body = {key: value.contiguous().clone() for key, value in ready.items()}
        write_whole(folder / (LORA if low else WHOLE), safetensors.torch.save(body, metadata={"format": "pt"}))
        record = {**self.record, "held_out": [list(look) for look in self.held_out], "format": FORMAT}
        write_whole(folder / RECORD, pack({"rows": self.rows}, record))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Tuned:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such folder, or a file is missing.
            ValueError: for a file that is truncated, or of another kind.
        """
        folder = file_path(folder, "the folder of the tuned weights")
        body = read_record(folder / RECORD, "record of tuned weights")
        try:
            tensors, record = unpack(body, FORMAT)
            adapter = Adapter.of(record["plan"]["adapter"])
            low = isinstance(adapter, LowRank)
            weights = safetensors.torch.load(read_record(folder / (LORA if low else WHOLE), "tuned weights"))
            if isinstance(adapter, LowRank):
                weights = _from_diffusers(weights, adapter.scale)
            looks = tuple((int(step), float(loss)) for step, loss in record.pop("held_out"))
        except (SafetensorError, KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} holds no complete tuned weights of this library: {error}") from error
        del record["format"]
        return cls(weights, tensors["rows"], looks, record)

    def __repr__(self) -> str:
        return f"Tuned({shown(self.record['plan']['branches'])}, {self.steps} steps, {self.gained:.3f} nats of held-out loss gained)"

    def __str__(self) -> str:
        plan, count = self.record["plan"], sum(value.numel() for value in self.weights.values())
        if not self.steps:
            return (
                f"tuning gained nothing on images that were held out in {self.held_out[-1][0]} steps: the model stays as it was. More "
                "images, a lower rate or a lower rank may help"
            )
        return (
            f"tuned {plan['branches']} ({plan['adapter']['kind']}, {count:,} numbers) on {len(self.rows)} images: "
            f"{self.gained:.3f} nats of held-out loss gained in {self.steps} of {self.held_out[-1][0]} steps"
        )


def _as_diffusers(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """As diffusers reads LoRA: without the adapter's name, and with a scale of 1."""
    return {
        name.replace(".tuned.", "."): value * scale if ".lora_B." in name else value for name, value in weights.items()
    }


def _from_diffusers(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    named = {name.removesuffix(".weight"): value for name, value in weights.items()}
    return {f"{name}.tuned.weight": value / scale if ".lora_B" in name else value for name, value in named.items()}
