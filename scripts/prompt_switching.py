"""Draw with one prompt until tau, with another after it: which one does the picture follow? (MINDE, figure 10)

    python scripts/prompt_switching.py
    python scripts/prompt_switching.py --first "a small red circle on the left" --second "a small blue circle on the left"
    python scripts/prompt_switching.py --marginal shapes          # pictures may also follow any other caption

The posterior of the final pictures over the candidates (the two prompts by default), beside the information about which of
the two it is that has arrived at each noise level, in pictures that were drawn with one prompt throughout.

The same as ``mmg-diffusers switch``.
"""

import typer

from mmg_diffusers.commands.fronts.studies import switch

if __name__ == "__main__":
    typer.run(switch)
