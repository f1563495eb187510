"""Break the library on purpose, one edit at a time, and see that a test fails each time.

    python scripts/mutants.py                  # all of them, in a copy of the tree
    python scripts/mutants.py --only jackknife # those whose name, or file, holds a word

A mutant that survives is a test that is missing. The list is below; `tests/test_mutants.py` holds that every edit still fits the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "mmg_diffusers",
    "scripts",
    "tests",
    "examples",
    "docs",
    "pyproject.toml",
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
)


@dataclass(frozen=True)
class Mutant:
    """An edit of one file, and the tests of which one has to fail.

    Args:
        name: what is wrong with the edited code.
        file: in the package.
        old: text that stands in the file exactly once.
        new: what takes its place.
        tests: files, or tests in them, in tests/.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str

    def apply(self, root: Path) -> None:
        """Edit the file under a root.

        Raises:
            ValueError: unless the old text stands there exactly once.
        """
        path = root / "mmg_diffusers" / self.file
        text = path.read_text("utf-8")
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: the text to edit stands {text.count(self.old)} times in {self.file}, expected once"
            )
        path.write_text(text.replace(self.old, self.new), "utf-8")


MUTANTS: tuple[Mutant, ...] = (
    # ---- denoisers ----
    Mutant(
        "signal and noise change places",
        "denoisers/levels.py",
        "per_event(a, x) * x + per_event(s, x) * eps",
        "per_event(s, x) * x + per_event(a, x) * eps",
        "denoisers measure/test_estimators.py",
    ),
    Mutant(
        "a reference without its variance",
        "denoisers/levels.py",
        "s / (a**2 * sigma**2 + s**2)",
        "s / (a**2 * sigma + s**2)",
        "measure/test_divergence.py denoisers",
    ),
    Mutant(
        "v with the other sign",
        "denoisers/predictions.py",
        '"v_prediction": lambda a, s: (-s, a)',
        '"v_prediction": lambda a, s: (s, -a)',
        "denoisers/test_conventions.py",
    ),
    Mutant(
        "the nearest level is the one below",
        "denoisers/conventions.py",
        "(logsnr - rising[left]).abs() <= (rising[right] - logsnr).abs()",
        "(logsnr - rising[left]).abs() <= 9e9",
        "denoisers/test_conventions.py",
    ),
    Mutant(
        "the skip is lost",
        "denoisers/base.py",
        "return per_event(c_skip, z) * z + per_event(c_out, z) * out",
        "return per_event(c_out, z) * out",
        "denoisers/test_conventions.py",
    ),
    Mutant(
        "a scale moves the level by half of what it does",
        "denoisers/base.py",
        "self._step = 2 * math.log(scale)",
        "self._step = math.log(scale)",
        "denoisers measure",
    ),
    Mutant(
        "branches change places",
        "denoisers/base.py",
        "joined).chunk(copies)",
        "joined).chunk(copies)[::-1]",
        "measure pipelines/test_pipeline.py",
    ),
    # ---- measure ----
    Mutant(
        "nats are twice what they are",
        "measure/noise.py",
        "widths = weight.view(*weight.shape, *(1,) * (values.ndim - 3)) / 2",
        "widths = weight.view(*weight.shape, *(1,) * (values.ndim - 3))",
        "measure/test_estimators.py",
    ),
    Mutant(
        "the spread of draws for the error of their mean",
        "measure/noise.py",
        "return _variance(values) / (~values.isnan()).sum(1)",
        "return _variance(values)",
        "measure",
    ),
    Mutant(
        "the scatter of one draw without its factor",
        "measure/noise.py",
        "/ 2).square() * (2 / 3)\n    return torch.cat",
        "/ 2).square()\n    return torch.cat",
        "measure",
    ),
    Mutant(
        "a variance of n in place of n - 1",
        "measure/noise.py",
        ".square().nansum(1) / (count - 1)",
        ".square().nansum(1) / count",
        "measure",
    ),
    Mutant(
        "the cross term once",
        "measure/curve.py",
        '"gap": orthogonal + 2 * wrong * difference',
        '"gap": orthogonal + wrong * difference',
        "measure/test_estimators.py",
    ),
    Mutant(
        "the gap with the other sign",
        "measure/curve.py",
        "wrong = widened(eps - conditional)",
        "wrong = widened(conditional - eps)",
        "measure/test_estimators.py",
    ),
    Mutant(
        "a copy of the noise counts as a draw of its own",
        "measure/curve.py",
        "total.index_put_(seen.where, values / self.copies, accumulate=True)",
        "total.index_put_(seen.where, values, accumulate=True)",
        "measure",
    ),
    Mutant(
        "evaluations of one branch",
        "measure/curve.py",
        "evaluations=self.branches * self.copies",
        "evaluations=self.copies",
        "measure pipelines/test_pipeline.py",
    ),
    Mutant(
        "a path whose steps are independent",
        "measure/draws.py",
        "eps = keep[level] * eps + fresh[level] * innovation",
        "eps = innovation",
        "measure",
    ),
    Mutant(
        "one stream of noise for all pairs",
        "measure/draws.py",
        'whole(pair, "pair id", 0)], dtype=np.uint64)',
        '0 * whole(pair, "pair id", 0)], dtype=np.uint64)',
        "measure",
    ),
    Mutant(
        "a step's score without its half",
        "measure/paths.py",
        "return -growth * square / 2 + innovation",
        "return -growth * square + innovation",
        "measure analysis",
    ),
    Mutant(
        "innovations with the other sign",
        "measure/paths.py",
        "return -growth.sqrt() * widened(xi * predicted)",
        "return growth.sqrt() * widened(xi * predicted)",
        "measure analysis",
    ),
    Mutant(
        "one path rules a candidate out",
        "measure/paths.py",
        "AGREED = 2",
        "AGREED = 1",
        "measure analysis pipelines/test_pipeline.py",
    ),
    Mutant(
        "the mixture forgets the prior",
        "measure/paths.py",
        "total = slots.log_prior\n",
        "total = torch.where(slots.log_prior.isfinite(), 0.0, slots.log_prior)\n",
        "measure analysis",
    ),
    # ---- analysis ----
    Mutant(
        "a jackknife without its (n - 1) / n",
        "measure/influence.py",
        "return ((count - 1) / count * (left_out",
        "return (1.0 * (left_out",
        "analysis measure",
    ),
    Mutant(
        "a calibration without its prior",
        "analysis/classification.py",
        "value = value + held / len(index)",
        "value = value + 0 * held / len(index)",
        "analysis measure",
    ),
    Mutant(
        "a bound without the prior's entropy",
        "analysis/classification.py",
        "return Value(self.entropy + value, stderr)",
        "return Value(value, stderr)",
        "analysis measure",
    ),
    Mutant(
        "a posterior without the prior",
        "analysis/classification.py",
        "return torch.log_softmax(self.prior.log() + evidence, dim=1)",
        "return torch.log_softmax(evidence, dim=1)",
        "analysis measure",
    ),
    Mutant(
        "a share that is what is left",
        "measure/influence.py",
        "share = 1 - total / total[0]",
        "share = total / total[0]",
        "analysis measure",
    ),
    Mutant(
        "maps that lose what lies at edges",
        "analysis/maps.py",
        "return weight / weight.sum(0)",
        "return weight / weight.sum(0).max()",
        "analysis/test_maps.py",
    ),
    Mutant(
        "ties count as below",
        "analysis/maps.py",
        "(below + upto).double().mean() / (2 * len(order))",
        "(2 * below).double().mean() / (2 * len(order))",
        "analysis/test_maps.py",
    ),
    # ---- pairs ----
    Mutant(
        "one stream for the negatives of all pairs",
        "pairs/marginals.py",
        "np.random.default_rng([self.seed, own])",
        "np.random.default_rng([self.seed, 0])",
        "pairs/test_marginals.py",
    ),
    Mutant(
        "negatives may be the pair itself",
        "pairs/marginals.py",
        "others = np.delete(np.arange(len(prompts)), row)",
        "others = np.arange(len(prompts))",
        "pairs/test_marginals.py",
    ),
    Mutant(
        "a ceiling with the other sign",
        "pairs/mixture.py",
        "return -self.log_prior.gather",
        "return self.log_prior.gather",
        "pairs/test_marginals.py analysis",
    ),
    Mutant(
        "a group's prior is not normalised by the group",
        "pairs/marginals.py",
        "self.probability[own] / self.probability[own].sum()",
        "self.probability[own]",
        "pairs/test_marginals.py",
    ),
    # ---- pipelines ----
    Mutant(
        "latents without the VAE's scale",
        "pipelines/adapters/codecs.py",
        "return (latents - shift) * factor",
        "return latents - shift",
        "pipelines/test_pipeline.py pipelines/families/test_families.py",
    ),
    Mutant(
        "latents without the VAE's shift",
        "pipelines/adapters/codecs.py",
        "return (latents - shift) * factor",
        "return latents * factor",
        "pipelines/test_pipeline.py pipelines/families/test_families.py",
    ),
    Mutant(
        "images in [0, 1] for a VAE of [-1, 1]",
        "pipelines/adapters/codecs.py",
        "self.read((2 * images - 1).to(",
        "self.read((1 * images).to(",
        "pipelines/test_pipeline.py pipelines/families/test_families.py",
    ),
    Mutant(
        "the null prompt is a prompt",
        "pipelines/adapters/base.py",
        'empty = self.encode_prompts([""])',
        'empty = self.encode_prompts(["a"])',
        "pipelines/test_pipeline.py pipelines/families/test_families.py",
    ),
    Mutant(
        "networks stay in training mode",
        "pipelines/bench.py",
        "        module.training = False\n",
        "        pass\n",
        "pipelines/test_parts.py",
    ),
    Mutant(
        "a denoiser that is kept for ever",
        "pipelines/model.py",
        "all(map(is_, networks, theirs)) and _alike(kept, made)",
        "True",
        "pipelines/test_parts.py",
    ),
    Mutant(
        "a switch counts steps",
        "pipelines/drawing.py",
        "calls = convention.tau(levels_used), len(scheduler.timesteps)",
        "calls = convention.tau(levels_used), steps",
        "pipelines/test_drawing.py",
    ),
    Mutant(
        "a table that ends with signal though it should not",
        "pipelines/schedulers.py",
        "root = (root - root[-1]) * root[0] / (root[0] - root[-1])",
        "root = root",
        "denoisers/test_conventions.py",
    ),
    Mutant("a path prunes ten times as much", "pairs/plan.py", "PRUNE = 1e-9", "PRUNE = 1e-2", "pairs/test_plan.py"),
    # ---- likelihood ----
    Mutant(
        "a density without the half of its integral",
        "measure/likelihood.py",
        "return integrate(self.values, self.curve.weight, self.curve.independent)[0] - self.terms.surprise",
        "return 2 * integrate(self.values, self.curve.weight, self.curve.independent)[0] - self.terms.surprise",
        "measure/test_density.py",
    ),
    Mutant(
        "a reference's surprise with the other sign",
        "denoisers/references.py",
        "return (square / variance + count * (2 * math.pi * variance).log()).sum(1) / 2",
        "return -(square / variance + count * (2 * math.pi * variance).log()).sum(1) / 2",
        "denoisers/test_references.py",
    ),
    Mutant(
        "a certificate of the noisy end that forgets x",
        "denoisers/references.py",
        "below = count * torch.nn.functional.softplus(at) + (square / variance - count) * torch.sigmoid(at)",
        "below = count * torch.nn.functional.softplus(at)",
        "denoisers/test_references.py",
    ),
    Mutant(
        "a ceiling whose bias is taken off",
        "measure/ceiling.py",
        "return torch.tensor([bias - math.log(",
        "return torch.tensor([-bias - math.log(",
        "measure/test_ceiling.py",
    ),
    Mutant(
        "an audit of the mixture held against the null",
        "measure/paths.py",
        "null.add(moments(*(part.to(home) for part in (noise, z, step.null, step.mixture))))",
        "null.add(moments(*(part.to(home) for part in (noise, z, step.mixture, step.null))))",
        "analysis/test_audit.py",
    ),
    Mutant(
        "a share of own variance that is not shared out",
        "measure/noise.py",
        "return min(1.0, max(0.0, common / spread)) if spread > 0 else 0.0",
        "return 1.0",
        "measure/test_density.py measure/test_estimators.py",
    ),
    Mutant(
        "a ratio of two measurements with different noise",
        "measure/likelihood.py",
        "if not torch.equal(one.pair_ids, other.pair_ids):",
        "if False:",
        "measure/test_density.py",
    ),
    Mutant(
        "a video's first latent spread over a whole group",
        "pipelines/media.py",
        "return [1] + [self.group] * ((frames - 1) // self.group)",
        "return [self.group] * ((frames - 1) // self.group) + [1]",
        "pipelines/test_videos.py",
    ),
    # ---- files ----
    Mutant(
        "an identity that forgets shapes",
        "files/identity.py",
        'total.update(kind + f"{dtype} {shape} ".encode())',
        'total.update(kind + f"{dtype} ".encode())',
        "files",
    ),
    Mutant(
        "a folder of other settings is taken", "files/whole.py", "    if differ:\n", "    if False:\n", "files runs"
    ),
    # ---- runs ----
    Mutant(
        "a changed picture keeps its number",
        "runs/shards.py",
        "elif not kept.matches(now) or (now.digest and not kept.digest):",
        "elif False:",
        "runs",
    ),
    Mutant("bad pairs are for ever", "runs/shards.py", "retried += [place] if again else []", "retried += []", "runs"),
    Mutant(
        "names count and contents do not",
        "pairs/rows.py",
        "return self.same_texts(other) and self.digest == other.digest",
        "return self.same_texts(other)",
        "pairs runs",
    ),
    # ---- worlds ----
    Mutant(
        "a pointwise truth without the caption's probability",
        "worlds/shapes/world.py",
        "return np.log(chosen) - np.log(self.caption_probability[caption])",
        "return np.log(chosen)",
        "worlds",
    ),
    Mutant(
        "an entropy with the other sign",
        "worlds/shapes/world.py",
        "return float(-(self.caption_probability * np.log(self.caption_probability)).sum())",
        "return float((self.caption_probability * np.log(self.caption_probability)).sum())",
        "worlds",
    ),
    Mutant(
        "two objects that are always named in the order in which they are called",
        "worlds/pairs/world.py",
        "joint = _likelihood(factors) + _likelihood(factors.turned())",
        "joint = _likelihood(factors) + 1e-300",
        "worlds/test_pairs.py",
    ),
    Mutant(
        "a caption reworded with the same relation",
        "worlds/pairs/world.py",
        "words[..., 2] = (words[..., 2] + 2) % len(WORDS",
        "words[..., 2] = (words[..., 2] + 0) % len(WORDS",
        "worlds/test_pairs.py",
    ),
    Mutant(
        "a text that ties with others counted as right",
        "commands/studies/uses/binding.py",
        "tied = 1 + (false == true).sum(0)",
        "tied = 1 + 0 * (false == true).sum(0)",
        "commands/test_binding.py",
    ),
    Mutant(
        "pictures of ARO without their boxes",
        "commands/studies/uses/aro.py",
        "return whole.crop(within)",
        "return whole",
        "commands/test_binding.py",
    ),
    # ---- arrays ----
    Mutant(
        "the linear part without the noise's scale",
        "arrays/networks.py",
        "_Started(hidden, s * scaled * deviation,",
        "_Started(hidden, scaled * deviation,",
        "arrays/test_networks.py arrays/test_estimate.py",
    ),
    Mutant(
        "a rate twice as high",
        "arrays/checkpoints.py",
        "warmup) * 0.5 * (1 + math.cos",
        "warmup) * 1.0 * (1 + math.cos",
        "arrays/test_trainer.py arrays/test_checkpoints.py",
    ),
    Mutant(
        "an angle that what it turns decides, without an inverse",
        "arrays/turns.py",
        "0.3 * (radii - 2), norm",
        "0.3 * (radii - 2) + 0.3 * turned[..., 0], norm",
        "arrays/test_turns.py",
    ),
    # ---- tuning, verdicts, counts, captions ----
    Mutant(
        "what was tuned on a picture may measure it",
        "tuning/tuned.py",
        "among = int(torch.isin(row_marks(x), self.rows).sum())",
        "among = 0",
        "tuning",
    ),
    Mutant(
        "a verdict is its best finding",
        "measure/verdict.py",
        "return GRADES[max((GRADES.index(grade)",
        "return GRADES[min((GRADES.index(grade)",
        "measure/test_verdict.py",
    ),
    Mutant(
        "every picture has the same of its captions at random",
        "pairs/captions.py",
        "np.random.default_rng([self.seed, place])",
        "np.random.default_rng([self.seed])",
        "pairs/test_brought.py",
    ),
    # ---- uses ----
    Mutant(
        "odds whose innovation has the other sign",
        "measure/odds.py",
        "- growth[level].sqrt() * widened(xi.to(home)) * difference",
        "+ growth[level].sqrt() * widened(xi.to(home)) * difference",
        "measure/test_odds.py",
    ),
    Mutant(
        "captions in play that take all of the posterior",
        "analysis/ranking.py",
        "later + own.logsumexp(1, keepdim=True)",
        "later",
        "analysis/test_ranking.py",
    ),
    Mutant(
        "a window from the wrong end",
        "measure/influence.py",
        "return self._crossing(total, 1 - rest), self._crossing(total, rest)",
        "return self._crossing(total, rest), self._crossing(total, 1 - rest)",
        "pipelines/test_guiding.py",
    ),
    Mutant(
        "path influence of raw predictions",
        "analysis/path_influence.py",
        "square = scale * (conditional.detach()",
        "square = (conditional.detach()",
        "pipelines/families/test_watching.py",
    ),
    Mutant(
        "two words without what each says alone",
        "pipelines/wording.py",
        "nats.append(value - gathered.gap[one] - gathered.gap[other])",
        "nats.append(value)",
        "pipelines/test_uses.py",
    ),
    Mutant(
        "an excess of the wrong sign",
        "analysis/excess.py",
        "return self.model - self.other",
        "return self.other - self.model",
        "analysis/test_excess.py",
    ),
)


def killed(mutant: Mutant) -> bool:
    """Whether a test fails on the edited code."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        mutant.apply(copy)
        tests = [f"tests/{each}" for each in mutant.tests.split()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}, capture_output=True
        )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name}: pytest ended with {done.returncode}\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 1


def main(
    only: Annotated[str, typer.Option(help="Only mutants whose name or file holds this.")] = "",
    processes: Annotated[int, typer.Option(min=1, help="How many run side by side.")] = 2,
) -> None:
    """Run the mutants, print which survive, and exit with 1 if any does."""
    chosen = [mutant for mutant in MUTANTS if only in mutant.name or only in mutant.file]
    survivors = 0
    with ThreadPoolExecutor(processes) as pool:
        for mutant, dead in zip(chosen, pool.map(killed, chosen), strict=True):
            survivors += not dead
            typer.echo(f"{'killed' if dead else 'SURVIVED'}  {mutant.file}: {mutant.name}")
    typer.echo(f"{len(chosen) - survivors} of {len(chosen)} mutants were killed")
    raise typer.Exit(1 if survivors else 0)


if __name__ == "__main__":
    typer.run(main)
