"""Every private attribute of diffusers, transformers and accelerate that the library reads, each in a function of its own.

`tests/test_internals.py` holds each of them against the installed versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn


def execution_device(pipe: Any) -> torch.device:
    """Where the networks of a pipeline run, also if hooks bring them there from elsewhere."""
    networks = (part for part in pipe.components.values() if isinstance(part, nn.Module))
    # diffusers looks for hooks in slow walks over all modules, some times as long as to encode a small image.
    if not any(map(_hooked, networks)) or not hasattr(type(pipe), "_execution_device"):
        return pipe.device
    return pipe._execution_device


def _hooked(network: nn.Module) -> bool:
    """Whether accelerate or diffusers hooked a module, so that it may run elsewhere than where its weights are."""
    left = [network]
    while left:
        module = left.pop()
        if "_hf_hook" in module.__dict__ or "_diffusers_hook" in module.__dict__:
            return True
        left.extend(child for child in module._modules.values() if child is not None)
    return False


def changeable_inputs(pipe: Any) -> tuple[str, ...]:
    """Names of the tensors that a pipeline's callback may change between steps."""
    return tuple(getattr(pipe, "_callback_tensor_inputs", ()))


def progress_options(pipe: Any) -> dict[str, Any]:
    """The options that ``set_progress_bar_config`` took."""
    return dict(getattr(pipe, "_progress_bar_config", {}))


def loaded_from(pipe: Any) -> str:
    """The folder or id that a pipeline was loaded from; empty if it was built in memory."""
    return str(getattr(pipe.config, "_name_or_path", None) or "")


def preprocessed(pipe: Any, prompt: str, clean: bool) -> str:
    """What a pipeline makes of a prompt before it is tokenized: lower case, and cleaned of markup and links if asked to."""
    return pipe._text_preprocessing(prompt, clean_caption=clean)[0]


def mended(pipe: Any, prompt: str) -> str | None:
    """What a pipeline of Wan's kin makes of a prompt before it is tokenized; ``None`` if it cannot, since ftfy is not installed."""
    clean = type(pipe)._get_t5_prompt_embeds.__globals__["prompt_clean"]
    try:
        return clean(prompt)
    except NameError:
        return None


def without_private(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without its private entries, which say where it was loaded from."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def came_from_file(weight: Tensor) -> bool:
    """Whether transformers loaded a weight from a file; it marks those that it did."""
    return bool(getattr(weight, "_is_hf_initialized", False))


def execution_device_of_hook(module: nn.Module) -> torch.device | None:
    """Where accelerate's hook brings the weights of a module when it is called; ``None`` without one."""
    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return None if device is None else torch.device(device)


def offloaded_weights(module: nn.Module) -> Mapping[str, Tensor] | None:
    """The weights that accelerate's hook on a module brings in when it is called, by their names; ``None`` without one."""
    hook = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        weights = getattr(each, "weights_map", None)
        if weights is not None:
            return weights
    return None


def named_weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, read from where sequential offload keeps those that have no storage of their own.

    A tensor that is nowhere to be had comes as it is, without storage.
    """
    for place, module in network.named_modules():
        kept = offloaded_weights(module)
        own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for name, tensor in own:
            if tensor.is_meta and kept is not None:
                with suppress(KeyError):
                    tensor = torch.as_tensor(kept[name])
            yield f"{place}.{name}" if place else name, tensor
