"""``python -m mmg_diffusers`` is ``mmg-diffusers``."""

from mmg_diffusers.commands.entry import main

main()
