"""One self-contained HTML page about an estimate: table, curves, maps, settings, certificates."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmg_diffusers.influence import influence
from mmg_diffusers.plotting import plot_curves, plot_influence, plot_maps, plot_mmse
from mmg_diffusers.result import FORMS, Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pairs beyond these are counted, not shown: a page should open on a phone.
MOST_ROWS, MOST_MAPS = 200, 12

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; --warn: #c4581c; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: right; vertical-align: middle; }
th:first-child, td:first-child, td.text, th.text { text-align: left; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } img { max-width: 100%; height: auto; background: #fff; }
img.thumb { width: 3rem; image-rendering: pixelated; }
.number { font-size: 1.8rem; } .quiet { color: var(--quiet); } .warn { border-left: 4px solid var(--warn); padding-left: .7rem; }
"""


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _drawn(figure: Figure, about: str) -> str:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="{source}" alt="{escape(about)}">'


def _rows(pairs: Mapping[str, Any]) -> str:
    cells = (f'<tr><td>{escape(str(k))}</td><td class="text">{escape(str(v))}</td></tr>' for k, v in pairs.items())
    return f'<div class="scroll"><table>{"".join(cells)}</table></div>'


def build_report(
    estimate: Estimate,
    images: Sequence[NDArray[np.floating]],
    prompts: Sequence[str],
    *,
    title: str = "What prompts say",
) -> str:
    """The page, as text. It holds its figures and styles, runs no script and loads nothing.

    Args:
        estimate: measured with ``keep="pixel"`` and the trapezoidal rule, for maps and influence.
        images: `(H, W, 3)` in [0, 1], one a pair.
        prompts: one a pair; they are escaped.
        title: of the page.

    Raises:
        ValueError: when images or prompts do not fit the estimate.
    """
    if not len(images) == len(prompts) == len(estimate):
        raise ValueError(
            f"got {len(images)} images and {len(prompts)} prompts for an estimate of {len(estimate)} pairs; expected one each"
        )
    low, high = estimate.logsnr_range
    forms = "".join(
        f"<tr><td>{form}</td><td>{value.value:.4f}</td><td>{value.stderr:.4f}</td><td>{value.bits().value:.4f}</td></tr>"
        for form, value in ((form, estimate.using(form).mean()) for form in FORMS)
    )
    certificate, edge = estimate.certificate, estimate.boundary
    warnings = "".join(f'<p class="warn">{escape(text)}</p>' for text in estimate.warnings())
    gap, orthogonal = estimate.using("gap").nats.tolist(), estimate.using("orthogonal").nats.tolist()
    rows: list[str] = []
    for k in range(min(len(estimate), MOST_ROWS)):
        picture = Image.fromarray((np.asarray(images[k]) * 255).round().astype(np.uint8))
        picture.thumbnail((96, 96))
        rows.append(
            f'<tr><td><img class="thumb" src="{_png(picture)}" alt=""></td><td class="text">{escape(prompts[k])}</td>'
            f"<td>{float(estimate.nats[k]):.3f}</td><td>{float(estimate.stderr[k]):.3f}</td><td>{gap[k]:.3f}</td>"
            f"<td>{orthogonal[k]:.3f}</td></tr>"
        )
    left_out = f"<p>{len(estimate) - MOST_ROWS} more pairs are in the record.</p>" if len(estimate) > MOST_ROWS else ""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="number">{estimate.mean().value:.3f} ± {estimate.mean().stderr:.3f} nats</p>',
        f'<p class="quiet">mean over {len(estimate)} pairs, {escape(str(estimate.integrand))} form, log-SNR {low:.2f} to '
        f"{high:.2f}, {estimate.evaluations:,} evaluations</p>",
        warnings,
        '<div class="scroll"><table><tr><th>form</th><th>nats</th><th>± stderr</th><th>bits</th></tr>'
        f"{forms}</table></div>",
        f"<p>Certificate (gap - orthogonal, 0 for ideal networks): {certificate.value:.4f} ± {certificate.stderr:.4f} nats. "
        f"Estimated beyond the range: {edge.low.value:.4f} below, {edge.high.value:.4f} above.</p>",
        "<h2>Curves</h2>",
        _drawn(plot_mmse(estimate), "denoising errors with and without the prompt"),
        _drawn(plot_curves(estimate), "gap and orthogonal along log-SNR"),
        _drawn(
            plot_influence({str(estimate.integrand): influence(estimate)}), "what the prompt still adds by noise level"
        ),
    ]
    if estimate.curve.maps:
        few = min(len(estimate), MOST_MAPS)
        shown = np.stack([np.asarray(image) for image in images[:few]])
        figure = plot_maps(shown, estimate.pixel_map("orthogonal")[0][:few], titles=[p[:40] for p in prompts[:few]])
        parts += ["<h2>Where</h2>", _drawn(figure, "orthogonal information by latent pixel")]
    parts += [
        "<h2>Pairs</h2>",
        '<div class="scroll"><table><tr><th>image</th><th class="text">prompt</th><th>nats</th><th>± stderr</th><th>gap</th>'
        f"<th>orthogonal</th></tr>{''.join(rows)}</table></div>{left_out}",
        "<h2>Settings</h2>",
        _rows({**estimate.settings, **{f"{name} version": v for name, v in estimate.versions.items()}}),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
