"""``python -m mmg_diffusers`` is ``mmg-diffusers``."""

from mmg_diffusers.cli import app

app()
