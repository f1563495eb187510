"""What does each word of a prompt say about the image, given the rest, and what do two words share?

    python scripts/word_information.py                       # Shapes pairs, all 48 captions, the shipped model; bars and a table
    python scripts/word_information.py pairs.csv --model FOLDER --marginal candidates.txt
    python scripts/word_information.py pictures/ --model FOLDER --prompt "a red circle" --word red --word circle --marginal null

Among candidates that differ word by word, one comparison holds the information of every word, of every two, and their
redundancy, uniqueness and synergy given the rest (`mmg_diffusers.analysis.words.Decomposition` has the formulas, and what can be
negative). With the null prompt a word is masked (or replaced, --replace-by): of two words there is then what they say
together, and the interaction of the two, without a split into redundancy and synergy, which needs a prior of the words.

The same as ``mmg-diffusers words``.
"""

import typer

from mmg_diffusers.commands.fronts.uses import words

if __name__ == "__main__":
    typer.run(words)
