"""The look of pages, light and dark, wide and narrow, and the script that sorts tables and moves along noise levels."""

from __future__ import annotations

from mmg_diffusers.commands.figures.base import COLOURS, CYCLE, GREY, INK, QUIET

# Words of a prompt that can be chosen.
MOST_WORDS = 60

# What a drawn colour is called in the style, which has it lighter on dark paper: contrasts of 4.5 or more on either (WCAG 2.1).
_DARK_FORMS = {"gap": "#8db8f0", "orthogonal": "#f0985f"}
_DARK_CYCLE = ("#56b4e9", "#ff9a4d", "#3fd0a4", "#e9a3c9", "#f0b940", "#8fd0f5", "#f2f2f2")
INKS = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    GREY: "var(--grey)",
    **{colour: f"var(--{name})" for name, colour in COLOURS.items()},
    **{colour: f"var(--c{k})" for k, colour in enumerate(CYCLE) if colour != INK},
}

_LIGHT_INKS = {**COLOURS, **{f"c{k}": colour for k, colour in enumerate(CYCLE)}, "grey": GREY}
_DARK_INKS = {**_DARK_FORMS, **{f"c{k}": colour for k, colour in enumerate(_DARK_CYCLE)}, "grey": "#a0a0a0"}


def _variables(inks: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in inks.items())


_CHOSEN = "".join(
    f'.words:has(input[value="{k}"]:checked){{--frame:{k}}}.words:has(input[value="{k}"]:checked) .told{k}{{display:block}}'
    for k in range(MOST_WORDS)
)

STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --line: #c9c9c9; --quiet: #595959; --warn: #b3440f;
{_variables(_LIGHT_INKS)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #ececec; --paper: #161618; --line: #4a4a4e; --quiet: #b0b0b0; --warn: #f0985f;
{_variables(_DARK_INKS)} }} }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; overflow-wrap: anywhere; color: var(--ink);
background: var(--paper); }}
h1 {{ font-size: 1.4rem; line-height: 1.25; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }} h3 {{ font-size: 1rem; margin: 1rem 0 .5rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
caption {{ text-align: left; color: var(--quiet); padding: .3rem .5rem; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: right; vertical-align: middle; }}
td.value {{ white-space: nowrap; overflow-wrap: normal; }} tbody th {{ font-weight: 400; }}
.text {{ text-align: left; }} td.text, tbody th.text {{ min-width: 7rem; }}
th button {{ font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; text-decoration: underline dotted; }}
th[aria-sort="ascending"] button::after {{ content: " \\2191"; }} th[aria-sort="descending"] button::after {{ content: " \\2193"; }}
svg {{ display: block; width: 100%; height: auto; }} svg * {{ stroke-linejoin: round; }} svg text {{ fill: currentColor; font-family: system-ui, sans-serif !important; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} figcaption {{ font-size: .85rem; line-height: 1.35; }}
.views {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem; }}
.stack {{ position: relative; display: block; }} .stack img {{ display: block; width: 100%; height: auto; filter: grayscale(1); image-rendering: pixelated; }}
.over {{ position: absolute; inset: 0; background-size: calc(100% * var(--count)) 100%; background-repeat: no-repeat;
background-position-x: calc(100% * var(--frame, 0) / max(1, var(--count) - 1)); }}
.axis {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(4.5rem, 1fr)); gap: .4rem; }}
.axis img {{ width: 100%; image-rendering: pixelated; display: block; }} .axis .here {{ outline: 3px solid var(--warn); outline-offset: 2px; }}
.slider {{ display: flex; flex-wrap: wrap; gap: .3rem .8rem; align-items: center; margin: .6rem 0; }} .slider input {{ flex: 1 1 12rem; }}
.slider output {{ flex: 1 1 16rem; }} [hidden] {{ display: none !important; }}
img.thumb {{ width: 3rem; min-width: 3rem; display: block; image-rendering: pixelated; }}
.prompts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1.2rem; }}
.words {{ border: 0; margin: 0; padding: 0; min-width: 0; }} .words .stack {{ width: min(100%, 14rem); }}
.words label {{ cursor: pointer; }} .words input {{ position: absolute; opacity: 0; width: 1px; height: 1px; }}
.words label span {{ border-radius: 3px; padding: .1rem .2rem; border-bottom: 2px solid transparent; }}
.words input:checked + span {{ border-bottom-color: currentColor; }} .words input:focus-visible + span {{ outline: 2px solid currentColor; }}
.words sub {{ font-size: .72em; white-space: nowrap; }} .told {{ display: none; font-size: .85rem; }} .words p {{ line-height: 2; margin: .3rem 0; }}
{_CHOSEN}
.verdict {{ font-size: 1.2rem; font-weight: 600; margin: .5rem 0 0; border-left: .5rem solid; padding-left: .7rem; }}
.good {{ border-color: #2a8a4a; }} .fair {{ border-color: #c9a227; }} .bad {{ border-color: var(--warn); }}
.number {{ font-size: 1.8rem; margin: .5rem 0; }} .quiet {{ color: var(--quiet); }}
.warn {{ border-left: 4px solid var(--warn); padding-left: .7rem; }}
details {{ margin: .5rem 0; }} summary {{ cursor: pointer; }} a {{ color: inherit; }}
@media (max-width: 40rem) {{
table {{ font-size: .82rem; }} th, td {{ padding: .3rem .25rem; }} td.text, tbody th.text {{ min-width: 4rem; }}
table.cards thead tr {{ display: flex; flex-wrap: wrap; gap: 0 .8rem; }} table.cards thead th {{ border: 0; padding: .2rem 0; }}
table.cards, table.cards thead, table.cards tbody {{ display: block; }}
table.cards tbody tr {{ display: grid; grid-template-columns: 3.6rem 1fr; border-bottom: 1px solid var(--line); padding: .4rem 0; }}
table.cards tbody td, table.cards tbody th {{ display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0; grid-column: 2; }}
table.cards tbody .picture {{ grid-column: 1; grid-row: 1 / span 9; }} table.cards tbody td.value::before {{ content: attr(data-name); color: var(--quiet); }} }}
"""

# Sorting by a column, and the slider; both are of the keyboard too, since they are a button and an input. Without it all is there, in one order.
SCRIPT = """
for (const table of document.querySelectorAll("table.cards")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    if (head.classList.contains("picture")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.title = "Sort by " + head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const text = head.classList.contains("text");
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !text;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const of = row => text ? row.cells[column].textContent : Number(row.cells[column].dataset.number);
      const order = (a, b) => text ? of(a).localeCompare(of(b)) : of(a) - of(b);
      body.append(...[...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)));
    });
  });
}
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input"), output = slider.querySelector("output");
  const section = slider.parentElement, bands = JSON.parse(slider.dataset.bands);
  slider.hidden = false;
  input.addEventListener("input", () => {
    const frame = Number(input.value);
    section.style.setProperty("--frame", frame);
    output.textContent = bands[frame];
    input.setAttribute("aria-valuetext", bands[frame]);
    section.querySelectorAll("[data-nats]").forEach(told => { told.textContent = JSON.parse(told.dataset.nats)[frame]; });
    section.querySelectorAll(".axis figure").forEach((one, k) => one.classList.toggle("here", k + 1 === frame));
  });
}
"""
