"""The front door: mutual information of images and prompts under a text-to-image pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmg_diffusers.analysis.classification import Calibration, Classification
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.influence import Influence, influence
from mmg_diffusers.analysis.maps import to_pixels
from mmg_diffusers.checks import file_path, finite, of_type, shown, two_ends, whole
from mmg_diffusers.denoisers.forwards import memory_notes
from mmg_diffusers.measure.batches import Pairs, range_within
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath, measure_candidates
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.moments import Integrand, Keep, check_integrand, check_keep
from mmg_diffusers.measure.proposals import gap_fitted
from mmg_diffusers.measure.quadrature import (
    AtLevels,
    Quadrature,
    StratifiedProfile,
    Trapezoid,
    trapezoid_within,
)
from mmg_diffusers.measure.tolerance import Tolerance
from mmg_diffusers.pairs.images import ImageLike, as_list, load_image
from mmg_diffusers.pairs.marginals import (
    Candidates,
    Marginal,
    Mixture,
    Negatives,
    NullPrompt,
    check_marginal,
)
from mmg_diffusers.pairs.prompts import Masked, Prompt, check_text
from mmg_diffusers.pairs.sources import Row, Source
from mmg_diffusers.pipelines.adapters.base import adapt
from mmg_diffusers.pipelines.caching import EncodingCache, KeptPrompts, fingerprint
from mmg_diffusers.pipelines.encoding import Encoder, ids_for, one_each
from mmg_diffusers.pipelines.loading import UNUSED, check_device, check_dtype, load_pipeline
from mmg_diffusers.runs.distributed import run_everywhere
from mmg_diffusers.runs.shards import Outcome

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

NULL = NullPrompt()
# Chosen by scripts/benchmarks/calls_for_error.py: levels of the trapezoidal rule, each seen with eps and -eps.
LEVELS = 32
# Steps of the path along which candidates are followed.
STEPS = 64
# A path that begins this far above the noisy end, in log-SNR, is remarked on.
LATE = 0.5


class MMGPipeline:
    """Measures what prompts say about images, with a pipeline of diffusers.

    Args:
        pipe: a text-to-image pipeline in memory; its weights are shared, not copied. ``from_pretrained`` loads one.

    It stays at hand as ``pipe.pipe``, and whatever is switched on there holds for measurements: offloading, compilation
    (``pipe.pipe.unet.compile()``), memory formats, attention backends.

    Example::

        pipe = MMGPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5", torch_dtype=torch.float16)
        out = pipe.to("cuda")(images, prompts)
        out.mean()              # mutual information in nats, with its standard error
        out.nats, out.stderr    # for each pair

    The information is that between the prompt and the variable that the model denoises (for latent diffusion the
    VAE latent), under the model's two branches; `Estimate.warnings` tells when these are not to be trusted.

    Raises:
        ValueError: when the pipeline has no adapter, or no honest unconditional branch.
    """

    def __init__(self, pipe: DiffusionPipeline) -> None:
        if isinstance(pipe, type) or not hasattr(pipe, "components"):
            raise TypeError(
                f"expected a pipeline of diffusers, got a {type(pipe).__name__}; MMGPipeline.from_pretrained loads one "
                "from a folder or the hub"
            )
        self.pipe = pipe
        self._source: dict[str, Any] = {"model": str(getattr(pipe.config, "_name_or_path", "")) or "in memory"}
        self._progress: dict[str, Any] = {}
        self.denoiser, self.codec = adapt(pipe)
        self.denoiser.eval()
        self.encoder = Encoder(self.codec)

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
    ) -> MMGPipeline:
        """Load a pipeline folder, or one from the hub. Weights are read from safetensors only.

        Args:
            pretrained_model_name_or_path: a folder in diffusers' format, or an id on the hub.
            torch_dtype: dtype of the networks, float32 by default; sums are always float64.
            variant, revision, cache_dir, local_files_only, token: as in ``DiffusionPipeline.from_pretrained``.

        Raises:
            TypeError: for what is no path, or no floating-point dtype.
            ValueError: when the folder is no pipeline, has no safetensors weights or not all of them, or has no adapter.
        """
        pipe = load_pipeline(
            pretrained_model_name_or_path,
            torch_dtype=torch_dtype,
            variant=variant,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
        made = cls(pipe)
        made._source = {"model": str(pretrained_model_name_or_path), "revision": revision, "variant": variant}
        return made

    # ---- as diffusers users know it ----

    def to(self, *args: torch.device | torch.dtype | str) -> MMGPipeline:
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
        return self.pipe._execution_device if hasattr(self.pipe, "_execution_device") else self.pipe.device

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
        self.encoder = Encoder(self.codec, EncodingCache(max_bytes, folder))

    def fingerprint(self) -> str | None:
        """A sha256 of all weights that a measurement depends on; ``None`` where they are offloaded one by one."""
        origins = (self.codec.origin("image"), self.codec.origin("prompt"))
        encoders = [network for origin in origins if origin is not None for network in origin.networks]
        return fingerprint([self.denoiser, *encoders])

    def release_text_encoders(self, prompts: Sequence[Prompt]) -> None:
        """Encode these prompts, and free the memory of the text encoders. From then on no other prompt can be measured.

        The null prompt is kept as well. The pipeline of diffusers loses its text encoders too.

        Args:
            prompts: all that are still to be measured, contexts and candidates among them.
        """
        from accelerate.utils.memory import clear_device_cache

        self.codec = KeptPrompts(self.codec, prompts)
        self.encoder = Encoder(self.codec, self.encoder.remembering.cache)
        self.pipe.maybe_free_model_hooks()
        encoders = [name for name in self.pipe.components if name.startswith("text_encoder")]
        self.pipe.register_modules(**dict.fromkeys(encoders))
        clear_device_cache(garbage_collection=True)

    def describe(self) -> dict[str, Any]:
        """What the adapter found: family, prediction, levels, null condition, latent, and what is missing."""
        convention = self.denoiser.convention
        levels = getattr(convention, "levels", None)
        low, high = self.denoiser.logsnr_range
        components = self.pipe.components
        return {
            **self._settings(None, False),
            "prediction": convention.prediction,
            "noise": type(convention).__name__,
            "levels": "any" if levels is None else len(levels),
            "logsnr_range": [round(low, 4), round(high, 4)],
            "native_size": list(self.codec.native_size),
            "missing": [name for name, part in components.items() if part is None and name not in UNUSED] or "nothing",
            "notes": list(self.denoiser.notes) or "none",
        }

    # ---- measurements ----

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: Prompt | Sequence[Prompt],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        marginal: Marginal = NULL,
        integrand: Integrand = "auto",
        levels: int | None = None,
        quadrature: Quadrature | None = None,
        draws: int = 1,
        antithetic: bool = True,
        tolerance: Tolerance | float | None = None,
        keep: Keep = "pair",
        seed: int = 0,
        pair_ids: Sequence[int] | None = None,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        resize: bool = False,
    ) -> Estimate:
        """Mutual information of each image with its prompt.

        Args:
            images: PIL images, arrays `(H, W, 3)`, tensors `(3, H, W)` or paths; floats lie in [0, 1].
            prompts: one for each image, or one for all; `Masked` ones among them, where the null prompt is the marginal.
            given: contexts, one for each image or one for all, for i(image; prompt | context); the prompt then holds the
                context too ("a red car" given "a car"). `Masked` prompts make it the information of a word.
            marginal: what the prompt is compared with: the null prompt, or the mixture of `Candidates` or `Negatives` along
                one noise path (`filter` says more of that, above all log q, a bound).
            integrand: ``"gap"``, ``"orthogonal"``, ``"auto"`` or ``"balanced"``, see `MMG`. All come from the same evaluations.
            levels: number of noise levels of the trapezoidal rule, by default 32; against candidates steps of the path, by
                default 64.
            quadrature: another rule, in place of `levels`, such as one that `pilot` fitted.
            draws: noise draws per level.
            antithetic: every draw is used twice, as eps and as -eps, which leaves less error than twice as many levels
                would. It has no meaning against candidates, whose noise is one path.
            tolerance: in place of `draws`: keep drawing for the pairs that need it, until the noise leaves no more than a
                standard error in nats, ``tolerance=0.1``; `Tolerance` says how many draws at least and at most, and
                `Estimate.reached` where it was enough.
            keep: ``"pixel"`` keeps maps as well, ``"level"`` at every level, to read off bands of noise.
            seed: names the noise, together with a pair's id.
            pair_ids: different non-negative integers, by default the pairs' places in the list.
            logsnr_range: a part of the model's range.
            batch_size: rows per forward pass, the one memory knob.
            resize: bring images to the model's own size; otherwise a size it cannot take raises.

        Raises:
            ValueError: for inputs that do not fit, before any network is run where that can be seen.
        """
        check_marginal(marginal)
        check_integrand(integrand)
        if not isinstance(marginal, NullPrompt):
            if given is not None or quadrature is not None or tolerance is not None:
                raise ValueError(
                    "given=, quadrature= and tolerance= belong to the null prompt; with candidates, groups= of `Candidates` makes "
                    "the information conditional, levels= gives the path, and draws= the number of paths"
                )
            against = self.filter(
                images,
                _unmasked(prompts),
                marginal,
                keep=keep,
                levels=STEPS if levels is None else levels,
                draws=draws,
                seed=seed,
                pair_ids=pair_ids,
                logsnr_range=logsnr_range,
                batch_size=batch_size,
                resize=resize,
            )
            return against.against_mixture.using(integrand)
        pictures, texts, contexts, notes = self._pairs(images, prompts, given, resize)
        rule = (
            quadrature
            if quadrature is not None
            else Trapezoid(LEVELS if levels is None else whole(levels, "levels", 2))
        )
        estimator = MMG(integrand, rule, draws, antithetic, Tolerance.of(tolerance))
        ids = ids_for(pair_ids, len(pictures))
        self._check_options(rule, logsnr_range, seed, keep, batch_size)
        settings = self._settings(logsnr_range, resize)
        if any(isinstance(context, Masked) for context in contexts or []):
            settings["given"] = "the prompt with words masked"
        parts: list[Estimate] = []
        # With a tolerance nobody knows beforehand how much there is to do.
        total = None if tolerance is not None else len(pictures) * rule.nodes * draws * (1 + antithetic)
        with self._bar(total, "MMG") as bar:
            for start, x in self.encoder.images(pictures, resize):
                stop = start + len(x)
                parts.append(
                    estimator(
                        self.denoiser,
                        x,
                        self.encoder.condition(texts[start:stop]),
                        None if contexts is None else self.encoder.condition(contexts[start:stop]),
                        seed=seed,
                        keep=keep,
                        pair_ids=ids[start:stop],
                        logsnr_range=logsnr_range,
                        batch_size=batch_size,
                        progress=bar.update,
                        settings=settings,
                    )
                )
        self.pipe.maybe_free_model_hooks()
        merged = Estimate.merge(parts)
        return replace(merged, notes=(*merged.notes, *notes))

    def pilot(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: Prompt | Sequence[Prompt],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        nodes: int = 32,
        seed: int = 0,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        resize: bool = False,
    ) -> StratifiedProfile:
        """Where a few pairs have their information: a rule to measure them and others like them with.

        ``pipe(images, prompts, quadrature=pipe.pilot(images[:16], prompts[:16]))``. It costs 80 evaluations a pair. The rule
        is fixed from then on, so that a pair's numbers do not depend on which others are measured with it.

        Args:
            images, prompts, given, logsnr_range, batch_size, resize: as in ``pipe(images, prompts)``.
            nodes: of the rule.
            seed: of the measurement that follows; the pilot draws noise of its own.

        Raises:
            ValueError: as the measurement does.
        """
        pictures, texts, contexts, _ = self._pairs(images, prompts, given, resize)
        x = torch.cat([part for _, part in self.encoder.images(pictures, resize)])
        rule = gap_fitted(
            self.denoiser,
            x,
            self.encoder.condition(texts),
            None if contexts is None else self.encoder.condition(contexts),
            nodes=nodes,
            pairs=len(x),
            seed=seed,
            logsnr_range=logsnr_range,
            batch_size=batch_size,
        )
        self.pipe.maybe_free_model_hooks()
        return rule

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        candidates: Sequence[str],
        *,
        prior: Sequence[float] | None = None,
        calibration: Calibration | None = None,
        levels: int | Sequence[float] = STEPS,
        draws: int = 1,
        prune: float = 1e-9,
        seed: int = 0,
        pair_ids: Sequence[int] | None = None,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        resize: bool = False,
    ) -> Classification:
        """Compare candidate prompts for each image, without the unconditional branch.

        Every candidate is scored along the same noise path; `Classification.posterior` is q(candidate | image), and
        `Classification.bound` a lower bound on the mutual information whatever the network's errors.

        Args:
            images: as in ``pipe(images, prompts)``.
            candidates: K different prompts.
            prior: their probabilities, uniform by default.
            calibration: from `Classification.calibrate` on other pairs.
            levels: steps of the noise path, even in log-SNR; or the path's levels themselves.
            draws: paths per image. Their evidence is averaged.
            prune: a candidate whose posterior falls below this is not followed further along a path (its probability stays
                as it was), nor along later ones where two paths and the mean of all agree; 0 follows all. What a path's noise
                rules out too soon is lost to that path, so leave room.
            seed, pair_ids, logsnr_range, batch_size, resize: as in ``pipe(images, prompts)``.

        Raises:
            ValueError: for fewer than two candidates, duplicates, a prior that does not fit, or bad images.
        """
        chosen = Candidates(candidates, prior)
        if calibration is not None:
            of_type(calibration, Calibration, "calibration", "what Classification.calibrate returns")
            calibration.check(len(chosen.prompts))
        curve, settings, notes = self._compare(
            images,
            tuple(chosen.prompts),
            None,
            _path(levels, draws, prune, logsnr_range),
            prior=chosen.probability,
            seed=seed,
            pair_ids=pair_ids,
            batch_size=batch_size,
            resize=resize,
        )
        return Classification(
            curve, tuple(chosen.prompts), chosen.probability, calibration or Calibration(), settings, notes=notes
        )

    def filter(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        candidates: Sequence[str] | Candidates | Negatives,
        *,
        keep: Keep = "pair",
        levels: int | Sequence[float] = STEPS,
        draws: int = 1,
        prune: float = 1e-9,
        seed: int = 0,
        pair_ids: Sequence[int] | None = None,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        resize: bool = False,
    ) -> Filtered:
        """Mutual information of each image with its prompt against the mixture of candidates, not the null prompt.

        The noise of a pair is one Brownian path; the candidates' posterior along it makes the marginal. It decays at
        the clean end, and log q(prompt | image) is a bound whatever the network's errors.

        Args:
            images, prompts: as in ``pipe(images, prompts)``.
            candidates: the prompts to compare with, every true one among them; `Candidates` for a prior or groups,
                `Negatives` to sample them from the other pairs.
            keep: ``"pixel"`` keeps maps against the mixture as well, ``"level"`` at every level.
            levels, draws, prune: as in `classify`; but the true prompt is known, and always followed.
            seed, pair_ids, logsnr_range, batch_size, resize: as in ``pipe(images, prompts)``.

        Raises:
            ValueError: as `classify` does, and for a prompt that is not among the candidates.
        """
        check_keep(keep)
        marginal = candidates if isinstance(candidates, Candidates | Negatives) else Candidates(candidates)
        texts = one_each(prompts, len(as_list(images)), "prompts")
        mixture = marginal.mixture(texts, ids_for(pair_ids, len(texts)))
        curve, settings, notes = self._compare(
            images,
            mixture.names,
            mixture,
            _path(levels, draws, prune, logsnr_range),
            prior=mixture.prior,
            seed=seed,
            pair_ids=pair_ids,
            batch_size=batch_size,
            resize=resize,
            keep=keep,
        )
        said = (marginal.note,) if isinstance(marginal, Negatives) else ()
        return Filtered(curve, mixture, {**settings, "marginal": type(marginal).__name__}, notes=(*notes, *said))

    def influence(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        marginal: Marginal = NULL,
        integrand: Integrand = "auto",
        levels: int | None = None,
        draws: int = 1,
        seed: int = 0,
        pair_ids: Sequence[int] | None = None,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        resize: bool = False,
    ) -> Influence:
        """What each prompt still adds at every noise level: I(image; prompt | noisy image) (MINDE, eq. 29).

        Args:
            images, prompts, given, levels, draws, seed, pair_ids, logsnr_range, batch_size, resize: as in
                ``pipe(images, prompts)``.
            marginal: what the prompt is compared with. Against candidates the posterior along the noise path is read (log q).
            integrand: how the comparison with the null prompt is read.

        Raises:
            ValueError: as the measurement does.
        """
        options: dict[str, Any] = {
            "levels": levels,
            "draws": draws,
            "seed": seed,
            "pair_ids": pair_ids,
            "logsnr_range": logsnr_range,
            "batch_size": batch_size,
            "resize": resize,
        }
        check_marginal(marginal)
        check_integrand(integrand)
        convention = self.denoiser.convention
        if isinstance(marginal, NullPrompt):
            return influence(self(images, prompts, given=given, integrand=integrand, **options), convention)
        if given is not None:
            raise ValueError(
                "given= belongs to the null prompt; groups= of `Candidates` makes the information conditional"
            )
        options["levels"] = STEPS if levels is None else levels
        return self.filter(images, prompts, marginal, **options).influence(convention)

    def pixel_map(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        marginal: Marginal = NULL,
        integrand: Literal["gap", "orthogonal"] = "orthogonal",
        band: tuple[float, float] | None = None,
        levels: int | None = None,
        draws: int = 1,
        seed: int = 0,
        pair_ids: Sequence[int] | None = None,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        resize: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Where each prompt speaks: nats per image pixel, and standard errors, `(N, H, W)` each.

        A map sums to the pair's value under the same integrand; maps of adjoining bands add up.

        Args:
            images, prompts, given, levels, draws, seed, pair_ids, logsnr_range, batch_size, resize: as in
                ``pipe(images, prompts)``.
            marginal: what the prompt is compared with.
            integrand: ``"orthogonal"`` is nowhere negative, ``"gap"`` is signed.
            band: of log-SNR, that the map is of. Candidates are followed from the noisy end all the same, which
                `logsnr_range` would not do.

        Raises:
            ValueError: as the measurement does, and for a band outside of its range.
        """
        if integrand not in ("gap", "orthogonal"):
            raise ValueError(f"integrand is {shown(integrand)}; maps are of 'gap' or 'orthogonal'")
        if band is not None:
            ends = range_within(self.denoiser, logsnr_range, Trapezoid(2))
            trapezoid_within(torch.tensor(ends, dtype=torch.float64), *two_ends(band, "band", unbounded=True))
        found = self(
            images,
            prompts,
            given=given,
            marginal=marginal,
            levels=levels,
            draws=draws,
            keep="pixel" if band is None else "level",
            seed=seed,
            pair_ids=pair_ids,
            logsnr_range=logsnr_range,
            batch_size=batch_size,
            resize=resize,
        )
        size = self.codec.native_size if resize else tuple(load_image(as_list(images)[0], 0).shape[1:])
        nats, stderr = found.pixel_map(integrand, band)
        return to_pixels(nats, (size[0], size[1])), to_pixels(stderr, (size[0], size[1]))

    def run(
        self,
        source: str | Path | Iterable[Mapping[str, Any]],
        output: str | Path,
        *,
        prompt: str | None = None,
        integrand: Integrand = "auto",
        levels: int = LEVELS,
        draws: int = 1,
        tolerance: Tolerance | float | None = None,
        keep: Keep = "pair",
        seed: int = 0,
        batch_size: int | None = None,
        resize: bool = False,
        truncate: bool = True,
        strict: bool = False,
        limit: int | None = None,
        progress: bool = True,
    ) -> Outcome | None:
        """Measure every pair of a data set; resumable, and sharded over the processes of one launch: of ``torchrun``, or on GPUs
        of ``accelerate launch``.

        OUTPUT gets one file a chunk of pairs as it is done, then ``pairs.parquet`` and ``estimate.safetensors``;
        `Outcome.load` reads what is there at any time. A pair's numbers depend on the model, the settings, the seed and
        its place in the source: not on the number of processes, nor on interruptions (bit for bit on one device type
        with the same number of threads).

        Args:
            source: a folder or table (see `read_pairs`), a webdataset shard (``.tar``), a `datasets.Dataset`, map-style or
                streaming, or mappings; see `rows_of_dataset` for the columns.
            output: a folder of its own for every combination of data set, model and settings.
            prompt: for all images, where the source has none.
            integrand, levels, draws, tolerance, keep, seed, batch_size, resize: as in ``pipe(images, prompts)``.
            truncate: whether prompts that are too long are cut, with a note; else they are bad pairs.
            strict: stop at the first bad pair; by default it is recorded with its reason.
            limit: only the first pairs.
            progress: whether the main process shows a bar, which counts the pairs of all processes.

        Returns:
            on the main process, the outcome; ``None`` on the others.

        Raises:
            ValueError: for a folder of another run, or a bad pair where `strict`.
            OSError: when the folder cannot be written to; what was finished is kept.
        """
        # An option that no pair can be measured with is no bad pair.
        tolerance = Tolerance.of(tolerance)
        rule = Trapezoid(whole(levels, "levels", 2))
        MMG(integrand, rule, draws, tolerance=tolerance)
        self._check_options(rule, None, seed, keep, batch_size)

        def measure(rows: Sequence[Row]) -> Estimate:
            if not truncate:
                for row in rows:
                    check_text(row.prompt, "the prompt")
                    lost = self.codec.truncated(row.prompt)
                    if lost is not None:
                        raise ValueError(f"the text encoder does not see {shown(lost)}, the end of {shown(row.prompt)}")
            contexts = [row.given for row in rows if row.given is not None]
            if contexts and len(contexts) < len(rows):
                raise ValueError("some pairs of a chunk have a context and some have none; give all or none")
            return self(
                [row.picture() for row in rows],
                [row.prompt for row in rows],
                given=contexts or None,
                integrand=integrand,
                levels=levels,
                draws=draws,
                tolerance=tolerance,
                keep=keep,
                seed=seed,
                pair_ids=[row.place for row in rows],
                batch_size=batch_size,
                resize=resize,
            )

        settings = {
            **self.describe(),
            "weights": self.fingerprint(),
            "integrand": str(integrand),
            "levels": levels,
            "draws": draws,
            "tolerance": None if tolerance is None else asdict(tolerance),
            "keep": keep,
            "seed": seed,
            "resize": resize,
            "truncate": truncate,
            "prompt": prompt,
        }
        bar = self.progress_bar_config
        self.set_progress_bar_config(disable=True)
        try:
            return run_everywhere(
                measure,
                Source(source, prompt),
                file_path(output, "output"),
                settings,
                strict=strict,
                limit=limit,
                progress=progress,
            )
        finally:
            self.set_progress_bar_config(**bar)

    def _pairs(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: Prompt | Sequence[Prompt],
        given: Prompt | Sequence[Prompt] | None,
        resize: bool,
    ) -> tuple[list[ImageLike], list[Prompt], list[Prompt] | None, tuple[str, ...]]:
        """Pictures, a prompt and a context for each, and what the text encoder will not see of them."""
        pictures = self.encoder.check_images(images, resize)
        texts = one_each(prompts, len(pictures), "prompts")
        contexts = None if given is None else one_each(given, len(pictures), "given")
        notes = self.encoder.check_prompts([*texts, *(contexts or [])])
        return pictures, texts, contexts, (*pictures.notes, *notes)

    def _compare(
        self,
        images: ImageLike | Sequence[ImageLike],
        names: tuple[str, ...],
        mixture: Mixture | None,
        path: NoisePath,
        *,
        prior: Tensor,
        seed: int,
        pair_ids: Sequence[int] | None,
        batch_size: int | None,
        resize: bool,
        keep: Keep = "pair",
    ) -> tuple[CandidateCurve, dict[str, Any], tuple[str, ...]]:
        """Scores along the path, the settings of the record, and notes."""
        path.check(prior.shape[-1])
        pictures = self.encoder.check_images(images, resize)
        notes = (*pictures.notes, *self.encoder.check_prompts(names))
        ids = ids_for(pair_ids, len(pictures))
        self._check_options(path.quadrature, path.logsnr_range, seed, keep, batch_size)
        condition = self.encoder.condition(names)
        parts: list[CandidateCurve] = []
        with self._bar(len(pictures) * (path.quadrature.nodes - 1) * path.draws, "classify") as bar:
            for start, x in self.encoder.images(pictures, resize):
                own = slice(start, start + len(x))
                parts.append(
                    measure_candidates(
                        self.denoiser,
                        Pairs.of(x, ids[own]),
                        condition,
                        path,
                        slots=None if mixture is None else mixture.slots[own],
                        truth=None if mixture is None else mixture.truth[own],
                        prior=prior if mixture is None else prior[own],
                        seed=seed,
                        batch_size=batch_size,
                        keep=keep,
                        progress=bar.update,
                    )
                )
        settings = {
            **self._settings(path.logsnr_range, resize),
            "quadrature": repr(path.quadrature),
            "draws": path.draws,
            "seed": seed,
            "prune": path.prune,
        }
        self.pipe.maybe_free_model_hooks()
        remarks = (*self.denoiser.notes, *memory_notes(self.denoiser), *notes, *self._late(path))
        return CandidateCurve.merge(parts), settings, remarks

    def _late(self, path: NoisePath) -> tuple[str, ...]:
        """A remark where candidates are not followed from the noisy end."""
        low, high = self.denoiser.logsnr_range
        begins = path.quadrature.bounds(*(path.logsnr_range or (low, high)))[0]
        if begins <= low + LATE:
            return ()
        return (
            f"the path begins at log-SNR {begins:.2f}, above the noisy end {low:.2f}: the posterior, and the mixture that it "
            "makes, do not know what is told below",
        )

    def _check_options(
        self,
        rule: Quadrature,
        logsnr_range: tuple[float, float] | None,
        seed: int,
        keep: Keep,
        batch_size: int | None,
    ) -> None:
        """Refuse what no pair can be measured with before anything is encoded."""
        whole(seed, "seed", 0)
        check_keep(keep)
        if batch_size is not None:
            whole(batch_size, "batch_size", 1)
        low, high = range_within(self.denoiser, logsnr_range, rule)
        rule.place(low, high, self.denoiser.snap, torch.zeros(1, rule.nodes, dtype=torch.float64))

    def _settings(self, logsnr_range: tuple[float, float] | None, resized: bool) -> dict[str, Any]:
        return {
            **self._source,
            "pipeline": type(self.pipe).__name__,
            **self.codec.describe(),
            "logsnr_range": None if logsnr_range is None else list(logsnr_range),
            "resized": resized,
        }

    def _bar(self, total: int | None, name: str) -> tqdm:
        return tqdm(**{"total": total, "desc": name, "unit": "z", "leave": False, **self._progress})


def _unmasked(prompts: Prompt | Sequence[Prompt]) -> str | Sequence[str]:
    """Prompts that can be candidates.

    Raises:
        ValueError: for a masked one.
    """
    each = prompts if isinstance(prompts, Sequence) and not isinstance(prompts, str) else [prompts]
    if any(isinstance(prompt, Masked) for prompt in each):
        raise ValueError("masked prompts are no candidates; give whole prompts, and groups= of `Candidates` for a word")
    return cast("str | Sequence[str]", prompts)


def _path(
    levels: int | Sequence[float], draws: int, prune: float, logsnr_range: tuple[float, float] | None
) -> NoisePath:  # fmt: skip
    """The noise path that a user's keywords describe."""
    if isinstance(levels, Sequence | Tensor | np.ndarray) and not isinstance(levels, str):
        rule: Quadrature = AtLevels(tuple(finite(level, "a level") for level in levels))
    else:
        rule = Trapezoid(whole(levels, "levels", 1) + 1)
    return NoisePath(rule, draws, prune, logsnr_range)
