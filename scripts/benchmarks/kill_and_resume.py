"""Runs that are killed with SIGKILL at random moments, resumed, and compared with an undisturbed one.

    python scripts/benchmarks/kill_and_resume.py                         # 25 runs in one process, 25 in two
    python scripts/benchmarks/kill_and_resume.py --runs 2 --pairs 96     # a look

Every run is the command that users call, on a Stable Diffusion folder with tiny random networks. It is killed after a random
number of shards and a random part of the time that one takes. In one process the command is killed; in two, the whole launch
or one of its workers, by turns of a coin. What is done is kept in the output folder, and is not done again.
"""

import typer

from mmg_diffusers.commands.studies.benchmarks.kill_and_resume import main

if __name__ == "__main__":
    typer.run(main)
