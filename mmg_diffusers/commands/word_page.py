"""Words on a page: text coloured by nats, and each word's map over its picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.analysis.coloured import coloured
from mmg_diffusers.commands.figures.maps import strip
from mmg_diffusers.commands.figures.overlays import tint

# Pairs whose words are drawn over their pictures: a page should open on a phone.
MOST_PAIRS = 12
_FIGURE = "display:inline-block;margin:0 .5rem .5rem 0;text-align:center;font-size:.8rem"
_PICTURE = "width:8rem;image-rendering:pixelated;display:block"
_STYLE = "body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;color-scheme:light dark}"


def _figure(pixels: NDArray[np.floating], caption: str, about: str) -> str:
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    picture.thumbnail((256, 256))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return f'<figure style="{_FIGURE}"><img src="{source}" alt="{escape(about)}" style="{_PICTURE}"><figcaption>{escape(caption)}</figcaption></figure>'


def word_section(words: Words, images: Sequence[NDArray[np.floating]]) -> str:
    """Each prompt with its words coloured by nats, one scale for all, and below it each word's map over the picture.

    Args:
        words: with maps, for maps.
        images: of the prompts, `(H, W, 3)` in [0, 1], or videos `(F, H, W, 3)`, of which some frames are shown.

    Raises:
        ValueError: for fewer images than are shown, or more than prompts.
    """
    if not min(len(words.prompts), MOST_PAIRS) <= len(images) <= len(words.prompts):
        raise ValueError(f"got {len(images)} images for {len(words.prompts)} prompts; expected one each")
    texts, owners = words.words, words.owner.tolist()
    maps = None if words.maps is None else words.maps.double().numpy()
    # Up to the 99.5th percentile, so that one bright pixel does not fade all others.
    top = 1.0 if maps is None else max(float(np.quantile(np.abs(maps), 0.995)), 1e-12)
    most = max(float(words.nats.abs().max()), 1e-9)
    parts = [
        f"<p>{escape(words.how.capitalize())}, given the rest of the prompt. Orange tells, blue misinforms; numbers are nats, up to "
        f"{most:.2f} in the strongest colour of text"
        + ("" if maps is None else f" and {top:.3f} nats a pixel in that of maps")
        + ".</p>",
        *(f'<p class="warn">{escape(text)}</p>' for text in words.warnings()),
    ]
    for place, image in enumerate(images[:MOST_PAIRS]):
        own = [k for k, owner in enumerate(owners) if owner == place]
        told = [(*words.span[k].tolist(), float(words.nats[k]), float(words.stderr[k]), words.grades[k]) for k in own]
        parts.append(coloured(words.prompts[place], told, most))
        if maps is None:
            continue
        shown = image if image.ndim == 3 else strip(image, maps[own[0]])[0] if own else image[0]
        figures = [_figure(shown, "picture", words.prompts[place])]
        for k in own:
            over = maps[k] if image.ndim == 3 else strip(image, maps[k])[1]
            caption = f"{texts[k]}: {float(words.nats[k]):.2f} nats"
            figures.append(_figure(tint(shown, over, top), caption, f"Map of {texts[k]}"))
        parts.append(f"<div>{''.join(figures)}</div>")
    if len(words.prompts) > MOST_PAIRS:
        parts.append(f"<p>{len(words.prompts) - MOST_PAIRS} more pairs are in the record.</p>")
    return "".join(parts)


def word_page(words: Words, images: Sequence[NDArray[np.floating]], title: str) -> str:
    """A page of its own of `word_section`: it runs no script and loads nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{word_section(words, images)}"
        "</body></html>\n"
    )
