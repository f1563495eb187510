"""What a prompt still adds at each noise level: I(A; B | X_tau) against diffusion time, log-SNR or timestep (MINDE, eq. 29).

    python scripts/prompt_influence.py                     # Shapes images and captions, the shipped model
    python scripts/prompt_influence.py --generated         # images that the model draws itself, at guidance 1
    python scripts/prompt_influence.py --word colour --word shape --word size --word side --marginal shapes
    python scripts/prompt_influence.py pictures/ --model FOLDER --prompt "a red circle" --prompt "a blue square"
    python scripts/prompt_influence.py pairs.csv --model ONE --model OTHER --marginal candidates.txt

Models, prompts, words and marginals that are named several times are compared in one figure. A word is named by its text,
or by its place in the prompts, from @0; of Shapes captions also by its kind. Its information is given the rest of the
prompt: with the null prompt against the prompt in which the word is masked (or replaced, --replace-by), with candidates
against those that differ in the word alone. The null prompt is read as gap, orthogonal (which is MINDE-C) and C(sigma);
candidates by the posterior along the noise path (log q).

The same as ``mmg-diffusers influence``.
"""

import typer

from mmg_diffusers.commands.fronts.studies import influence

if __name__ == "__main__":
    typer.run(influence)
