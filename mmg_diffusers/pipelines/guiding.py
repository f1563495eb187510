"""A guider of diffusers that records what the prompt does while another one guides."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import guiders, schedulers
from diffusers.guiders.guider_utils import BaseGuidance

from mmg_diffusers.analysis.path_influence import PathInfluence, PathRecorder
from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.pipelines.schedulers import convention_from_config

# Of dynamic shifts, which move the levels that a sampler visits, and not what a timestep means.
_ANY_TOKENS = 256


class InformationGuider(BaseGuidance):
    """Wraps a guider, returns what it returns, and records |e_c - e_u|^2 of every step, image and pixel, at no extra call.

    ``guider = InformationGuider(ClassifierFreeGuidance(7.5), pipe.scheduler)``, then ``pipe.update_components(guider=guider)`` of a modular
    pipeline, or ``guider=`` of one that takes it; ``guider.read()`` after a run. Everything else is the inner guider's: its steps,
    its scale, what it asks of the network. It is saved and loaded with a pipeline's components. Pipelines without guiders
    have `MMGPipeline.watch`.

    Args:
        inner: a guider of diffusers, or the record of one that this was saved with. It has to run the network with and without
            the prompt.
        scheduler: the pipeline's, or the record of it: what its timesteps mean.

    Raises:
        TypeError: for something that is no guider, or no scheduler of diffusers.
        ValueError: for a guider that does not leave the prompt out, a scheduler whose noise is not known, or a class that diffusers
            does not have.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # noqa: RUF012 - as the base has it
    config_name = BaseGuidance.config_name

    def __init__(self, inner: BaseGuidance | dict[str, Any], scheduler: Any) -> None:
        # The base's own state would hide the inner guider's.
        guider = _made(inner, guiders, "a guider") if isinstance(inner, dict) else inner
        of_type(guider, BaseGuidance, "inner", "a guider of diffusers, such as ClassifierFreeGuidance(7.5)")
        if isinstance(guider, InformationGuider):
            raise ValueError("inner is an InformationGuider itself; give the guider that it wraps")
        if isinstance(guider, guiders.AutoGuidance):
            raise ValueError(
                "AutoGuidance compares with a weaker network, and not with the prompt left out; give a guider that does, such as "
                "ClassifierFreeGuidance"
            )
        made = _made(scheduler, schedulers, "a scheduler") if isinstance(scheduler, dict) else scheduler
        if not hasattr(made, "config") or not hasattr(made, "set_timesteps"):
            raise TypeError(f"scheduler is {shown(scheduler)}; expected the pipeline's, such as pipe.scheduler")
        kind = type(made).__name__
        self.__dict__["inner"] = guider
        self.recorder = PathRecorder(convention_from_config(kind, made.config, tokens=_ANY_TOKENS))
        self.register_to_config(inner=_record(guider), scheduler=_record(made))

    def read(self) -> PathInfluence:
        """What the last run says.

        Raises:
            ValueError: if no two steps ran with and without the prompt.
        """
        return self.recorder.read()

    # ---- as the inner guider ----

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("inner")
        if inner is None or name == "_internal_dict":
            raise AttributeError(name)
        return getattr(inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Pipelines and people set options of a guider; on the wrapper alone they would change nothing.
        own = name in ("recorder", "_internal_dict")
        object.__setattr__(self if own else self.inner, name, value)

    def new(self, **kwargs: Any) -> InformationGuider:
        """A copy, around a copy of the inner guider with some of its options changed."""
        # From its record: diffusers' own `new` takes what was given by position for a default, and leaves it out.
        return InformationGuider({**_record(self.inner), **kwargs}, dict(self.config["scheduler"]))

    def enable(self) -> None:
        self.inner.enable()

    def disable(self) -> None:
        self.inner.disable()

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        self.inner.set_state(step=step, num_inference_steps=num_inference_steps, timestep=timestep)

    def get_state(self) -> dict[str, Any]:
        return self.inner.get_state()

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        self.inner.prepare_models(denoiser)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        self.inner.cleanup_models(denoiser)

    def prepare_inputs(self, data: Any) -> list[Any]:
        return self.inner.prepare_inputs(data)

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
        return self.inner.prepare_inputs_from_block_state(data, input_fields)

    @property
    def is_conditional(self) -> bool:
        return self.inner.is_conditional

    @property
    def num_conditions(self) -> int:
        return self.inner.num_conditions

    def __call__(self, data: list[Any]) -> Any:
        out = self.inner(data)
        held = {getattr(part, self._identifier_key): part.noise_pred for part in data}
        conditional, other = held.get("pred_cond"), held.get("pred_uncond")
        told = torch.as_tensor(self.inner._timestep).double().cpu().flatten()[0]
        logsnr = float(self.recorder.convention.at_timestep(told))
        if conditional is None or other is None:
            self.recorder.skip(logsnr)
            return out
        self.recorder.add(logsnr, conditional, other, not torch.equal(out[0], conditional))
        return out

    def __repr__(self) -> str:
        return f"InformationGuider({type(self.inner).__name__}, {len(self.recorder.levels)} steps recorded)"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.forward(*args, **kwargs)


def _record(part: Any) -> dict[str, Any]:
    """What makes a part of diffusers again, as JSON can hold it."""
    config = {key: _plain(value) for key, value in part.config.items() if not key.startswith("_")}
    return {"_class_name": type(part).__name__, **config}


def _plain(value: Any) -> Any:
    """What JSON can hold: records of what has them, such as which layers a guider skips, and lists of arrays."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    made = getattr(value, "to_dict", None) or getattr(value, "tolist", None)
    return value if made is None else made()


def _made(record: dict[str, Any], among: Any, noun: str) -> Any:
    """A part of diffusers from its record; only classes of its own are looked up."""
    name = record.get("_class_name")
    kind = getattr(among, name, None) if isinstance(name, str) else None
    if not isinstance(kind, type) or not hasattr(kind, "from_config"):
        raise ValueError(f"the record names {shown(name)}, which is not {noun} of the diffusers that is installed")
    return kind.from_config({key: value for key, value in record.items() if key != "_class_name"})
