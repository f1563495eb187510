"""Words on a page: text coloured by nats, whose words can be chosen, and the chosen word's map over its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.analysis.coloured import background
from mmg_diffusers.commands.figures.maps import strip
from mmg_diffusers.commands.page.html import document, warned
from mmg_diffusers.commands.page.look import MOST_WORDS
from mmg_diffusers.commands.page.views import stack
from mmg_diffusers.commands.texts import plus_minus

# Pairs whose words are drawn over their pictures: a page should open on a phone.
MOST_PAIRS = 12


def word_section(words: Words, images: Mapping[int, NDArray[np.floating]], places: Sequence[int] | None = None) -> str:
    """Each prompt with its words coloured by nats, one scale for all; choosing a word shows its map over the picture, without a script.

    Args:
        words: with maps, for maps.
        images: of the prompts that are shown, by their place, `(H, W, 3)` in [0, 1], or videos `(F, H, W, 3)`, of which some frames are shown.
        places: of the prompts that are shown; the first, by default.

    Raises:
        ValueError: for fewer images than are shown, or more than prompts.
    """
    chosen = list(range(min(len(words.prompts), MOST_PAIRS))) if places is None else list(places)
    missing = [place for place in chosen if place not in images]
    if missing or len(images) > len(words.prompts):
        raise ValueError(f"got {len(images)} images for {len(words.prompts)} prompts; expected one each")
    maps = None if words.maps is None else words.maps.double().numpy()
    # Up to the 99.5th percentile, so that one bright pixel does not fade all others.
    top = 1.0 if maps is None else max(float(np.quantile(np.abs(maps), 0.995)), 1e-12)
    most = max(float(words.nats.abs().max()), 1e-9)
    said = (
        f"<p>{escape(words.how.capitalize())}, given the rest of the prompt. Orange tells, blue misinforms; numbers are nats, up to "
        f"{most:.2f} in the strongest colour of text"
        + ("" if maps is None else f" and {top:.3f} nats a pixel in that of maps; choose a word to see its map")
        + ".</p>"
    )
    parts = [_prompt(words, place, images[place], maps, top, most) for place in chosen]
    left = len(words.prompts) - len(chosen)
    return "".join(
        [
            said,
            warned(words.verdict.told),
            f'<div class="prompts">{"".join(parts)}</div>',
            f"<p>{left} more pairs are in the record.</p>" if left else "",
        ]
    )


def _prompt(
    words: Words,
    place: int,
    image: NDArray[np.floating],
    maps: NDArray[np.float64] | None,
    top: float,
    most: float,
) -> str:
    """A prompt whose words are radio buttons, the strongest of them chosen, and the maps of all of them in one strip."""
    prompt = words.prompts[place]
    own = [k for k, owner in enumerate(words.owner.tolist()) if owner == place]
    own = sorted(own, key=lambda k: words.span[k].tolist())[:MOST_WORDS]
    strongest = max(own, key=lambda k: float(words.nats[k]), default=-1)
    at, parts, told = 0, [], []
    for frame, k in enumerate(own):
        start, end = words.span[k].tolist()
        text, nats = words.words[k], float(words.nats[k])
        error = float(words.stderr[k])
        number = plus_minus((nats, error), 2) if error == error else f"{nats:.2f}"
        about = f"{text or words.labels[k]}: {number} nats, {words.verdicts[k]}"
        if maps is not None:
            about += f"; its map adds up to {float(maps[k].sum()):.2f}"
        told.append(f'<span class="told told{frame}" data-word="{escape(text)}">{escape(about)}</span>')
        if start < at or end <= start:  # said within another word, or not in words of its own
            continue
        label = f'<span style="background:{background(nats, most)}" title="{escape(about)}">{escape(text)}<sub>{nats:.2f}</sub></span>'
        if maps is not None:
            chosen = " checked" if k == strongest else ""
            label = f'<label><input type="radio" name="w{place}" value="{frame}"{chosen}>{label}</label>'
        parts += [escape(prompt[at:start]), label]
        at = end
    text = f"<p>{''.join(parts)}{escape(prompt[at:])}</p>"
    if maps is None or not own:
        return text
    frames = [maps[k] if image.ndim == 3 else strip(image, maps[k])[1] for k in own]
    shown = image if image.ndim == 3 else strip(image, maps[own[0]])[0]
    view = stack(shown, frames, [top] * len(frames), prompt, f"Map of the chosen word over the picture: {prompt}")
    return f'<fieldset class="words"><legend class="quiet">Words of pair {place}</legend>{text}{view}{"".join(told)}</fieldset>'


def word_page(words: Words, images: Sequence[NDArray[np.floating]], title: str) -> str:
    """A page of its own of `word_section`: one file that loads nothing."""
    return document(title, word_section(words, dict(enumerate(images))))
