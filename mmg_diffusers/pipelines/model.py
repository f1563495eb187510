"""A pipeline of diffusers as a model that can be measured: its parts are read when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from tqdm import tqdm
from typing_extensions import Self

from mmg_diffusers.checks import shown, somebody_looks, whole
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.internals import execution_device, loaded_from
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pipelines.adapters import Codec, Family, family_of
from mmg_diffusers.pipelines.bench import Bench, Weights, evaluating
from mmg_diffusers.pipelines.caching import EncodingCache, KeptPrompts, fingerprint
from mmg_diffusers.pipelines.encoding import Encoder
from mmg_diffusers.pipelines.identities import as_told
from mmg_diffusers.pipelines.loading import UNUSED, Where, check_device, check_dtype, load_pipeline
from mmg_diffusers.pipelines.outline import check_null, outline
from mmg_diffusers.pipelines.precision import Moved
from mmg_diffusers.pipelines.progress import calm
from mmg_diffusers.pipelines.switches import check_switches, switches

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class PipelineModel:
    """A pipeline of diffusers, wrapped and not copied.

    Args:
        pipe: a pipeline in memory. It stays at hand as ``pipe``, and its parts are read anew whenever they are used.
        null: what stands for no prompt, in families that have more than one such condition: ``"zeros"`` or ``"empty"`` for
            SDXL, say. By default what the pipeline itself would take. The record says which.

    Raises:
        TypeError: for something that is no pipeline.
        ValueError: when the pipeline has no adapter, or cannot be measured, or has no such null.
    """

    def __init__(self, pipe: DiffusionPipeline, *, null: str | None = None) -> None:
        if isinstance(pipe, type) or not hasattr(pipe, "components"):
            raise TypeError(
                f"expected a pipeline of diffusers, got a {type(pipe).__name__}; MMGPipeline.from_pretrained loads one "
                "from a folder or the hub"
            )
        self.pipe, self._null = pipe, null
        self._source: dict[str, Any] = {"model": loaded_from(pipe) or "in memory"}
        self._progress: dict[str, Any] = {}
        self._cache = EncodingCache()
        self._kept: KeptPrompts | None = None
        self._denoiser: tuple[Adapted, tuple[nn.Module, ...]] | None = None
        self._compared, self._moved = 2, dict[str, Moved]()
        self.family.check()
        self.family.convention()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | None = None,
        null: str | None = None,
    ) -> Self:
        """Load a pipeline folder, or one from the hub. Weights are read from safetensors only.

        Args:
            pretrained_model_name_or_path: a folder in diffusers' format, or an id on the hub.
            torch_dtype: dtype of the networks, float32 by default; sums are always float64.
            variant, revision, cache_dir, local_files_only, token: as in ``DiffusionPipeline.from_pretrained``.
            null: what stands for no prompt, see the class.

        Raises:
            TypeError: for something that is no path, or no floating-point dtype.
            ValueError: when the folder is no pipeline, has no safetensors weights or not all of them, or has no adapter; for a null that
                the family does not have.
        """
        where: Where = {
            "revision": revision,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
            "token": token,
        }
        with calm(bars=somebody_looks()):
            if null is not None:
                check_null(outline(pretrained_model_name_or_path, null=null, **where))
            pipe = load_pipeline(pretrained_model_name_or_path, torch_dtype=torch_dtype, variant=variant, **where)
        made = cls(pipe, null=null)
        made._source = {"model": str(pretrained_model_name_or_path), "revision": revision, "variant": variant}
        return made

    # ---- as diffusers users know it ----

    def to(self, *args: torch.device | torch.dtype | str) -> Self:
        """Move to a device, change dtype, or both; returns the pipeline.

        Raises:
            ValueError: for a device that is not there.
            TypeError: for a dtype that is no floating point.
        """
        for arg in args:
            if isinstance(arg, torch.dtype):
                check_dtype(arg, "dtype")
            else:
                check_device(arg)
        self.pipe.to(*args)
        return self

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return execution_device(self.pipe)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the networks."""
        return self.pipe.dtype

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Options of the tqdm bar; ``disable=True`` turns it off.

        Raises:
            TypeError: for an option that tqdm does not have.
        """
        unknown = kwargs.keys() - signature(tqdm.__init__).parameters.keys()
        if unknown:
            raise TypeError(f"the progress bar has no option {shown(sorted(unknown)[0])}; expected those of tqdm")
        self._progress = kwargs

    @property
    def progress_bar_config(self) -> dict[str, Any]:
        """The options that `set_progress_bar_config` took."""
        return dict(self._progress)

    def set_encoding_cache(self, max_bytes: int = 2**28, folder: str | Path | None = None) -> None:
        """How encoded images and prompts are kept, so that they are not encoded again; see `EncodingCache`.

        Args:
            max_bytes: bound on what is held in memory (256 MiB, also before this is called); 0 holds nothing.
            folder: keeps them on disk as well, for other runs and processes.

        Raises:
            ValueError: for a negative bound.
        """
        self._cache = EncodingCache(max_bytes, folder)

    def set_precision_check(self, pairs: int = 2) -> None:
        """How many pairs are measured with the network in float32 as well, if it computes in half precision.

        What half precision moves by more than its standard error is remarked on. The first pairs of the first measurement with a plan
        are compared, on the same noise and with the same encodings: it costs their evaluations in float32, once, and room for the
        network's weights in float32.

        Args:
            pairs: 2 before this is called; 0 compares none.

        Raises:
            ValueError: for a negative number.
        """
        self._compared, self._moved = whole(pairs, "pairs", 0), {}

    def release_text_encoders(self, prompts: Sequence[Prompt]) -> None:
        """Encode these prompts, and free the memory of the text encoders. From then on no other prompt can be measured.

        The null prompt is kept as well. The pipeline of diffusers loses its text encoders too.

        Args:
            prompts: all that are still to be measured, contexts and candidates among them.
        """
        from accelerate.utils.memory import clear_device_cache

        asked: list[Prompt] = list(prompts)
        with self.ready():
            kept = KeptPrompts(self.codec, asked)
            _ = self.family.null(lambda more: kept.add(more).encode_prompts(cast("Sequence[str]", more)))
        self._kept = kept
        encoders = [name for name in self.pipe.components if name.startswith("text_encoder")]
        self.pipe.register_modules(**dict.fromkeys(encoders))
        clear_device_cache(garbage_collection=True)

    # ---- the model, as its parts are now ----

    @property
    def codec(self) -> Codec:
        """Turns images and prompts into what the network takes."""
        return self._kept or self.family.codec()

    @property
    def encoder(self) -> Encoder:
        """The codec, with its checks and its cache."""
        return Encoder(self.codec, self._cache)

    @property
    def denoiser(self) -> Adapted:
        """The network and its null condition, as a `Denoiser`.

        Raises:
            ValueError: when the pipeline cannot be measured as it is now.
        """
        family = self.family
        family.check(released=self._released)
        made, networks = family.denoiser(self.encoder.condition), family.networks()
        kept, theirs = self._denoiser or (None, ())
        # The one from before stays while nothing changed: what is known of memory hangs on it.
        if kept is not None and len(networks) == len(theirs) and all(map(is_, networks, theirs)) and _alike(kept, made):
            return kept
        self._denoiser = made, networks
        return made

    def fingerprint(self) -> str | None:
        """A sha256 of all weights that a measurement depends on; ``None`` if they are nowhere in memory."""
        return fingerprint(self._networks())

    def describe(self) -> dict[str, Any]:
        """What the adapter found: family, prediction, levels, null condition, latent, and what is missing."""
        convention = self.family.convention()
        levels = getattr(convention, "levels", None)
        low, high = convention.logsnr_range
        components = self.pipe.components
        return {
            **self._settings(),
            "logsnr_range": [round(low, 4), round(high, 4)],
            "resized": False,
            "prediction": convention.prediction,
            "noise": type(convention).__name__,
            "levels": "any" if levels is None else len(levels),
            "native_size": list(self.codec.native_size),
            "missing": [name for name, part in components.items() if part is None and name not in UNUSED] or "nothing",
            "notes": list(convention.notes) or "none",
        }

    @contextmanager
    def ready(self) -> Iterator[Bench]:
        """The model as its parts are now, in evaluation mode, ready to measure."""
        self.family.check(released=self._released)
        check_switches(self.family.networks())
        with evaluating(self._networks()):
            family = self.family
            yield Bench(
                lambda: self.denoiser,
                family.convention(),
                self.encoder,
                self._settings(),
                self._progress,
                None if family.nulls() or not family.conditional else family.without_null(),
                Weights(self.family.named_networks, self.fingerprint),
            )
        self.pipe.maybe_free_model_hooks()

    @property
    def family(self) -> Family:
        """What the pipeline's class says of its network, convention, codec and null."""
        return family_of(self.pipe, self._null)

    @property
    def _released(self) -> tuple[str, ...]:
        return () if self._kept is None else tuple(n for n in self.pipe.components if n.startswith("text_encoder"))

    def _settings(self) -> dict[str, Any]:
        said = {"pipeline": type(self.pipe).__name__, **self.family.describe(), **self.codec.describe()}
        found = switches(self.pipe.components, said.get("dtype", "float32"))
        return {**self._source, **said, **({"switches": found} if found else {})}

    def _networks(self) -> list[nn.Module]:
        """All networks that a number depends on."""
        origins = (self.codec.origin("image"), self.codec.origin("prompt"))
        encoders = [network for origin in origins if origin is not None for network in origin.networks]
        return [*self.family.networks(), *encoders]


def _alike(one: Adapted, other: Adapted) -> bool:
    """Whether two denoisers tell their networks the same, and have the same null condition."""
    ours, theirs, null, other_null = one.convention, other.convention, one.null or {}, other.null or {}
    low, high = ours.logsnr_range
    if type(ours) is not type(theirs) or theirs.logsnr_range != (low, high) or null.keys() != other_null.keys():
        return False
    pairs = (*zip(as_told(ours), as_told(theirs), strict=True), *((null[key], other_null[key]) for key in null))
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)
