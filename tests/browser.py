"""Pages in a real browser: chromium without a window, and axe's rules of accessibility; tests that need them say so where there are none."""

import importlib.util
import json
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_AXE = importlib.util.find_spec("axe_core_python")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the path"
)
needs_axe = pytest.mark.skipif(_AXE is None, reason="needs axe-core-python, of the extra dev")
# What may be broken of WCAG 2.1 AA, and what axe calls best practice.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]

# A window without a screen is not narrower than this, but for screenshots; a frame in it is.
_NARROWEST = 500
# The page in a frame; what it has become stands in its place after a while.
_FRAME = (
    "<!doctype html><html><style>:root {{ color-scheme: light dark }}</style><body>"
    '<iframe style="border:0;height:3000px;width:{width}px" srcdoc="{page}"></iframe>'
    "<script>const wait = setInterval(() => {{ const page = document.querySelector('iframe').contentDocument; "
    "if (page.readyState !== 'complete' || page.documentElement.dataset.busy) return; clearInterval(wait); "
    "const inside = page.documentElement.cloneNode(true); inside.querySelectorAll('script').forEach(one => one.remove()); "
    "document.replaceChild(inside, document.documentElement); }}, 200)"
    "</script></body></html>"
)


def chromium(page, *options, width=1280, height=1600, dark=False):
    """What chromium prints of a page."""
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        "--disable-gpu",
        f"--window-size={width},{height}",
    ]
    done = subprocess.run(
        [*command, *scheme, *options, Path(page).as_uri()], check=True, capture_output=True, timeout=120
    )
    return done.stdout.decode()


def seen(page, script="", **options):
    """The page's elements after its scripts, and one more, have run."""
    text = Path(page).read_text("utf-8")
    text = text.replace("</body>", f"<script>{script}</script></body>")
    if options.get("width", _NARROWEST) < _NARROWEST:
        text = _FRAME.format(width=options["width"], page=escape(text))
    page = Path(page).with_name(f"seen_{Path(page).name}")
    page.write_text(text, "utf-8")
    found = Elements()
    found.feed(chromium(page, "--dump-dom", "--virtual-time-budget=60000", **options))
    return found


def shot(page, out, **options):
    """The page's pixels `(H, W, 3)`."""
    chromium(page, f"--screenshot={out}", **options)
    with Image.open(out) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def broken_rules(page, **options):
    """What axe finds wrong with a page: rule, why, and where."""
    axe = (Path(_AXE.origin).parent / "axe.min.js").read_text("utf-8")
    run = (
        "document.documentElement.dataset.busy = 'axe'; "
        f"axe.run({{runOnly: {json.dumps(_RULES)}}}).then(found => {{ const told = document.createElement('pre'); told.id = 'axe'; "
        "told.textContent = JSON.stringify(found.violations.map(one => [one.id, one.help, one.nodes.slice(0, 3).map(node => node.html)])); "
        "document.body.append(told); delete document.documentElement.dataset.busy; });"
    )
    (told,) = seen(page, f"{axe}\n{run}", **options).of("pre", id="axe")
    return json.loads(told.text)


class Element:
    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.text, self.inside = tag, attributes, "", []

    def __getitem__(self, name):
        return self.attributes[name]


class Elements(HTMLParser):
    """All elements of a page, each with its attributes, its text and the elements inside of it."""

    VOID = ("img", "meta", "input", "br", "link", "hr", "use", "path")

    def __init__(self):
        super().__init__()
        self.all, self.open = [], []

    def handle_starttag(self, tag, attrs):
        made = Element(tag, dict(attrs))
        self.all.append(made)
        for outer in self.open:
            outer.inside.append(made)
        if tag not in self.VOID:
            self.open.append(made)

    def handle_startendtag(self, tag, attrs):
        self.all.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.open and any(one.tag == tag for one in self.open) and self.open.pop().tag != tag:
            pass

    def handle_data(self, data):
        for one in self.open:
            one.text += data

    def of(self, tag, **attributes):
        """The elements of a tag whose attributes begin with what is given; `class_` is a class that they have."""
        wanted = attributes.pop("class_", None)
        return [
            one
            for one in self.all
            if one.tag == tag
            and (wanted is None or wanted in (one.attributes.get("class") or "").split())
            and all((one.attributes.get(name) or "").startswith(value) for name, value in attributes.items())
        ]


def first_number(text):
    return float(re.search(r"-?\d+\.\d+", text)[0])
