"""Encoded images and prompts, kept so that none is encoded twice: in memory under a bound, on request on disk.

An encoding is named by a hash of all that it is a function of: the pixels or the text, the weights, dtypes and settings of
the networks, the kind of device, and the versions of the packages beneath. So nothing is stale, and nothing has to be
cleared, when a model changes.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mmg_diffusers.checks import file_path, shown, warn, whole
from mmg_diffusers.files.records import versions
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.internals import named_weights
from mmg_diffusers.pairs.prompts import Masked, Prompt
from mmg_diffusers.pipelines.adapters.base import Codec, Null, Origin, stack
from mmg_diffusers.pipelines.media import Medium

if TYPE_CHECKING:
    from mmg_diffusers.pipelines.adapters.classes import Classes

Encoding = dict[str, Tensor]

_FORMAT = "mmg_diffusers.Encoding/1"
# How words are masked, so that what was kept when they were masked otherwise is not taken for it.
_MASKING = "each token replaced/2"
# Elements of a tensor that are looked at to tell whether it was changed since it was hashed.
_PROBED = 16


# ---- what weights and tokenizers are ----


def fingerprint(networks: Iterable[nn.Module]) -> str | None:
    """A sha256 of the parameters and buffers of networks: names, dtypes, shapes and values, wherever they are.

    It is computed once, and again when a network was changed: by an operation in place, by loading weights, by adapters that
    are loaded, scaled or switched, by a change of dtype. Changes that bypass autograd's bookkeeping (``parameter.data``) are
    noticed by a few elements of every tensor.

    Weights that sequential offload keeps elsewhere are read from there.

    Returns:
        ``None`` if weights are nowhere in memory.
    """
    total = hashlib.sha256()
    for network in networks:
        own = _network_digest(network)
        if own is None:
            return None
        total.update(own.encode())
    return total.hexdigest()


_networks: WeakKeyDictionary[nn.Module, tuple[list[object], str]] = WeakKeyDictionary()
_tokenizers: WeakKeyDictionary[Any, tuple[object, str]] = WeakKeyDictionary()


@torch.inference_mode()
def _network_digest(network: nn.Module) -> str | None:
    tensors = list(named_weights(network))
    if any(tensor.is_meta for _, tensor in tensors):
        return None
    switches = _switches(network)
    tables = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Embedding)}
    seen = [switches, *(_glance(name, tensor, name in tables) for name, tensor in tensors)]
    known = _networks.get(network)
    if known is None or known[0] != seen:
        digest = hashlib.sha256(f"{switches} {_digest(tensors)}".encode()).hexdigest()
        known = _networks[network] = (seen, digest)
    return known[1]


def _switches(network: nn.Module) -> str:
    """Which adapters of peft are on in a network, and how strong they are: state that is in no tensor."""
    found = [
        (name, [str(getattr(module, switch, None)) for switch in ("disable_adapters", "active_adapters", "scaling")])
        for name, module in network.named_modules()
        if hasattr(module, "active_adapters") and hasattr(module, "scaling")
    ]
    return repr(found)


def _glance(name: str, tensor: Tensor, rows: bool) -> object:
    """What changes with a tensor's values, without looking at all of them; with `rows`, a sum of the bits of each row."""
    version = 0 if tensor.is_inference() else tensor._version
    if rows:
        bits = getattr(torch, f"int{8 * tensor.element_size()}")
        sums = tensor.detach().contiguous().view(bits).sum(1, dtype=torch.int64)
        return name, version, tensor.dtype, tensor.shape, sums.cpu().numpy().tobytes()
    places = torch.arange(0, tensor.numel(), max(1, tensor.numel() // _PROBED), device=tensor.device)
    return name, version, tensor.dtype, tensor.shape, tensor.take(places).cpu().double().numpy().tobytes()


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _versions() -> dict[str, str]:
    """Of the packages that encode."""
    return {name: version for name, version in versions().items() if name != "python"}


def vocabulary(tokenizer: Any) -> str:
    """A sha256 of what a tokenizer makes of text."""
    known, seen = _tokenizers.get(tokenizer), (tokenizer.model_max_length, sorted(tokenizer.get_added_vocab().items()))
    if known is None or known[0] != seen:
        fast = getattr(tokenizer, "backend_tokenizer", None)
        words = tokenizer.get_vocab() if fast is None else json.loads(fast.to_str())
        if fast is not None:
            # How the last call padded and cut is kept there too, and is nothing that an encoding depends on.
            words = {key: value for key, value in words.items() if key not in ("padding", "truncation")}
        text = f"{type(tokenizer).__name__} {tokenizer.model_max_length} {json.dumps(words, sort_keys=True)}"
        known = _tokenizers[tokenizer] = (seen, hashlib.sha256(text.encode()).hexdigest())
    return known[1]


# ---- where encodings are kept ----


class EncodingCache:
    """Encodings by their keys. Those used least recently leave the memory first; files stay.

    Args:
        max_bytes: bound on the tensors in memory.
        folder: keeps encodings for other runs and processes too, one safetensors file each, until its owner removes them.
            What was damaged is encoded again. When the disk is full, work goes on without it, with a RuntimeWarning.

    Raises:
        ValueError, TypeError: for a bound that is no whole number of bytes.
        OSError: when the folder cannot be made.
    """

    def __init__(self, max_bytes: int = 2**28, folder: str | Path | None = None) -> None:
        self.max_bytes = whole(max_bytes, "max_bytes", 0, ", the size of the memory that may be used")
        self.folder = None if folder is None else file_path(folder, "the folder of a cache")
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(f"cannot make a cache in {folder} ({error}); choose a folder that can be made") from error
        self._held: OrderedDict[str, Encoding] = OrderedDict()
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        """Bytes of the tensors in memory."""
        return self._bytes

    def get(self, key: str) -> Encoding | None:
        """What was put under a key, on the CPU."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
            return found
        if self.folder is not None:
            found = _read(self._path(self.folder, key))
            if found is not None:
                self._hold(key, found)
        return found

    def put(self, key: str, encoding: Encoding) -> None:
        """Keep an encoding, which is on the CPU."""
        self._hold(key, encoding)
        if self.folder is None:
            return
        ready = {name: value.contiguous().clone() for name, value in encoding.items()}
        header = {"format": _FORMAT, "digest": _digest(sorted(ready.items()))}
        try:
            write_whole(self._path(self.folder, key), safetensors.torch.save(ready, metadata=header))
        except OSError as error:
            warn(
                f"encodings are not kept in {self.folder} any more ({error}); make room, and those that are missing will be "
                "kept the next time",
                RuntimeWarning,
            )
            self.folder = None

    def _hold(self, key: str, encoding: Encoding) -> None:
        size = sum(value.nbytes for value in encoding.values())
        if key in self._held or size > self.max_bytes:
            return
        self._held[key] = encoding
        self._bytes += size
        while self._bytes > self.max_bytes:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= sum(value.nbytes for value in dropped.values())

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.safetensors"


def _read(path: Path) -> Encoding | None:
    try:
        body = path.read_bytes()
        found = safetensors.torch.load(body)
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    good = header.get("format") == _FORMAT and header.get("digest") == _digest(sorted(found.items()))
    return found if good else None


# ---- a codec that remembers ----


class RememberingCodec:
    """Encodes with a codec what its cache does not have. Codecs that do not say what they depend on are asked every time.

    Args:
        codec: does the work.
        cache: remembers it.
    """

    def __init__(self, codec: Codec, cache: EncodingCache) -> None:
        self.codec, self.cache = codec, cache

    def images(self, images: Sequence[Tensor]) -> Tensor:
        """Images `(3, H, W)`, or videos `(F, 3, H, W)`, in [0, 1], of one size, to `(N, *event)`.

        One by one: a batch rounds differently from its parts, and the clean end magnifies that; so an image's latent, like
        its noise, does not depend on the images beside it.
        """
        device = self.codec.device
        maker = self._maker("image", device)

        def encode(image: Tensor) -> Encoding:
            content = f"{tuple(image.shape)} {image.dtype} ".encode() + image.contiguous().numpy().tobytes()
            return self._recall(maker, content, lambda: {"x": self.codec.encode_images(image[None])})

        return torch.cat([encode(image)["x"] for image in images]).to(device)

    def prompts(self, prompts: Sequence[Prompt | Null]) -> list[Encoding]:
        """Prompts, or the null, to conditions of one row each."""
        device = self.codec.device
        maker = self._maker("prompt", device)

        def encode(prompt: Prompt | Null) -> Encoding:
            # A masked prompt is encoded by code of our own, whose version is part of what made it.
            way = f"{_MASKING} " if isinstance(prompt, Masked) else ""
            return self._recall(maker, (way + repr(prompt)).encode(), lambda: self.codec.encode(prompt))

        return [{name: value.to(device) for name, value in encode(prompt).items()} for prompt in prompts]

    def _maker(self, kind: Literal["image", "prompt"], device: torch.device) -> str | None:
        """A hash of what makes encodings of a kind; nothing where that is not known."""
        origin: Origin | None = self.codec.origin(kind)
        weights = None if origin is None else fingerprint(origin.networks)
        if origin is None or weights is None:
            return None
        parts = {
            "kind": kind,
            "codec": type(self.codec).__name__,
            "weights": weights,
            "tokenizers": [vocabulary(tokenizer) for tokenizer in origin.tokenizers],
            "settings": dict(origin.settings),
            "device": device.type,
            "versions": _versions(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _recall(self, maker: str | None, content: bytes, encode: Callable[[], Encoding]) -> Encoding:
        if maker is None:
            return {name: value.cpu() for name, value in encode().items()}
        key = hashlib.sha256(maker.encode() + content).hexdigest()
        found = self.cache.get(key)
        if found is None:
            found = {name: value.cpu() for name, value in encode().items()}
            self.cache.put(key, found)
        return found


class KeptPrompts(Codec):
    """A codec whose text encoders were released: it knows the prompts that were encoded before, and no others.

    Args:
        codec: encodes the prompts now, and images later.
        prompts: those that are kept, on the CPU.
    """

    def __init__(self, codec: Codec, prompts: Iterable[Prompt | Null]) -> None:
        self._codec = codec
        self._kept: dict[Prompt | Null, Encoding] = {}
        self.add(prompts)

    def add(self, prompts: Iterable[Prompt | Null]) -> KeptPrompts:
        """Encode more prompts, while the encoders are there; returns the codec."""
        different = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._kept]
        encoded = RememberingCodec(self._codec, EncodingCache(0)).prompts(different)
        for prompt, row in zip(different, encoded, strict=True):
            self._kept[prompt] = {name: value.cpu() for name, value in row.items()}
        return self

    @property
    def device(self) -> torch.device:
        return self._codec.device

    def origin(self, kind: Literal["image", "prompt"]) -> Origin | None:
        return self._codec.origin(kind) if kind == "image" else None

    @property
    def native_size(self) -> tuple[int, int]:
        return self._codec.native_size

    @property
    def medium(self) -> Medium:
        return self._codec.medium

    @property
    def multiple(self) -> int:
        return self._codec.multiple

    def check_size(self, height: int, width: int) -> None:
        self._codec.check_size(height, width)

    def encode_images(self, images: Tensor) -> Tensor:
        return self._codec.encode_images(images)

    def encode_prompts(self, prompts: Sequence[str]) -> Encoding:
        return stack([self._row(prompt) for prompt in prompts])

    def encode_null(self, kind: str) -> Encoding:
        return self._row(Null(kind))

    def check_prompt(self, prompt: str) -> None:
        self._codec.check_prompt(prompt)

    def check_different(self, prompts: Sequence[str]) -> None:
        self._codec.check_different(prompts)

    @property
    def classes(self) -> Classes | None:
        return self._codec.classes

    def asked(self, prompts: Sequence[str]) -> dict[str, Any]:
        return self._codec.asked(prompts)

    def check_masked(self, prompt: Masked) -> None:
        self._row(prompt)

    def encode_masked(self, prompt: Masked) -> Encoding:
        return self._row(prompt)

    def truncated(self, prompt: str) -> str | None:
        return self._codec.truncated(prompt)

    def cut(self, prompt: str) -> dict[str, str]:
        return self._codec.cut(prompt)

    def describe(self) -> dict[str, Any]:
        return self._codec.describe()

    def _row(self, prompt: Prompt | Null) -> Encoding:
        if prompt not in self._kept:
            raise ValueError(
                f"the text encoders were released, and {shown(str(prompt))} is not among the {len(self._kept)} prompts that were "
                "kept; load the pipeline again, or release them with all prompts that you need"
            )
        return self._kept[prompt]
