"""What a run costs as pairs and processes become more: seconds, pairs per second, and peak memory.

    python scripts/benchmarks/scaling.py compare                              # 10 to 10,000 pairs; then one and two processes
    python scripts/benchmarks/scaling.py compare --pairs 10 --pairs 100 --shared 200

Each line is a run in a process of its own, with one thread, of a Stable Diffusion folder with tiny random networks, so that what
is around the networks weighs as much as it can. Pictures are drawn as they are asked for; none is held.
"""

from mmg_diffusers.commands.studies.benchmarks.scaling import app

if __name__ == "__main__":
    app()
