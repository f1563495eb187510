"""What a card does with networks of the sizes of SD 1.5, SDXL and SD3-medium: rows and pairs a second, beside the card's peak.

python scripts/benchmarks/gpu.py            # on a GPU; bfloat16, compiled, random weights
python scripts/benchmarks/gpu.py --count    # FLOP of a row, and the share of the text's keys and values; a minute, no GPU
python scripts/benchmarks/gpu.py --tiny     # the same layouts as small as they run, anywhere
"""

import typer

from mmg_diffusers.commands.studies.benchmarks.gpu import main

if __name__ == "__main__":
    typer.run(main)
