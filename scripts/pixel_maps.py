"""Where in an image does a prompt speak, and each of its words? Maps in nats per pixel, whose sum is the image's value.

    python scripts/pixel_maps.py                                       # a few images of the Shapes world, the shipped model
    python scripts/pixel_maps.py --word colour --word shape --word size --word side --no-whole --no-gap
    python scripts/pixel_maps.py pictures/ --model FOLDER --prompt "a red circle" --word red
    python scripts/pixel_maps.py pairs.csv --model FOLDER --marginal candidates.txt --band -5:-1 --band -1:3
    python scripts/pixel_maps.py --together colour,shape               # redundancy, uniqueness and synergy as maps

A word is named by its text, or by its place in the prompts, from @0; of Shapes captions also by its kind. Its map is given
the rest of the prompt: with the null prompt against the prompt in which the word is masked (or replaced, --replace-by),
with candidates against the mixture of those that differ in the word alone. Orthogonal maps are nowhere negative, gap maps
are signed; bands are of log-SNR. scripts/measure_analyses.py judges the maps of the shipped model by the objects' masks.

The same as ``mmg-diffusers maps``.
"""

import typer

from mmg_diffusers.commands.fronts.studies import maps

if __name__ == "__main__":
    typer.run(maps)
