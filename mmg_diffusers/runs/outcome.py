"""What a run has: numbers, bad pairs, and what happened to it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmg_diffusers.checks import Brief, file_path, needs
from mmg_diffusers.measure.ceiling import surprise_of_labels
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.pairs.rows import Label
from mmg_diffusers.runs.parts import Expected
from mmg_diffusers.runs.shard_files import Failure, Result, Shard, Shards, merged, write_or_say

if TYPE_CHECKING:
    import datasets
    import pandas
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Outcome(Brief):
    """What a run has.

    Args:
        estimate: over the good pairs: an `Estimate` against the null prompt, a `Filtered` against candidates; ``None`` if there is
            none.
        failures: the bad ones.
        rows: all pairs that were seen, by place.
        notes: what happened to the run, such as shards that were damaged and measured again.
    """

    estimate: Result | None
    failures: tuple[Failure, ...]
    rows: Mapping[int, Label]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        bad, said = len(self.failures), len(self.notes)
        seen = f"{len(self.rows)} pairs, {bad or 'none'} of them bad{' (.failures)' if bad else ''}"
        seen += f"; {said} note{'s' * (said > 1)} (.notes)" if said else ""
        # The verdict and the mean; its warnings are the estimate's.
        return "\n".join([seen, *([] if self.estimate is None else str(self.estimate).split("\n")[:2])])

    @classmethod
    def load(cls, folder: str | Path) -> Outcome:
        """What a run has kept so far, finished or not; nothing is measured or changed, and no model is needed.

        Raises:
            FileNotFoundError: when the folder is not of a run, or has no whole shard yet.
        """
        place = file_path(folder, "the folder of a run")
        shards = Shards(place / "shards")
        if not shards.folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder of a run: it has no shards")
        read = {number: shards.read(paths) for number, paths in shards.listed().items()}
        there = {number: shard for number, shard in read.items() if shard is not None}
        whole = list(there.values())
        bad = len(read) - len(whole)
        if not whole:
            raise FileNotFoundError(f"the run in {folder} has not finished a shard yet; wait, or run it again")
        notes = [f"{bad} shard(s) in {shards.folder} are damaged; run again to measure their pairs anew"] if bad else []
        expected = Expected.load(place)
        lacks = None if expected is None else expected.lacks(there, sum(len(shard.labels) for shard in whole))
        return cls.join(whole, (*([] if lacks is None else [lacks]), *notes, *mended(shards)))

    @classmethod
    def join(cls, shards: Sequence[Shard], notes: tuple[str, ...] = ()) -> Outcome:
        """The outcome of several shards, in their order; what happened to them is added to the notes."""
        parts = [shard.estimate for shard in shards if shard.estimate is not None]
        rows = {place: label for shard in shards for place, label in shard.labels.items()}
        failures = tuple(failure for shard in shards for failure in shard.failures)
        bad = {failure.place for failure in failures}
        good = {place: label for place, label in rows.items() if place not in bad}
        said = [
            _about(shards, "changed", "had another picture when they were first measured, and were measured again"),
            _about(shards, "retried", "were bad before, and were tried again"),
            _about_repeated(good),
        ]
        notes = (*notes, *(note for note in said if note))
        estimate = merged(parts) if parts else None
        if isinstance(estimate, Estimate) and estimate.ceiling is None:
            estimate = replace(estimate, ceiling=_ceiling([rows[place] for place in estimate.pair_ids.tolist()]))
        return cls(estimate, failures, rows, notes)

    def clusters(self) -> list[str]:
        """For each pair of the estimate, in its order, a name of its image: the same for pairs of the same picture.

        A standard error over pairs that takes them as independent is too small if an image stands in several; see
        `Estimate.mean`. The name is the digest in the column ``image_digest`` of ``pairs.parquet``, or that of the pair alone
        if its digest is not known.

        Raises:
            ValueError: for a run without a good pair.
        """
        if self.estimate is None:
            raise ValueError("the run has no good pair; expected at least one to cluster")
        places = self.estimate.pair_ids.tolist()
        return [self.rows[place].digest or f"pair {place}" for place in places]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair, good or bad, in the order of the source.

        Columns: ``pair``, its place; ``image``, the path of its picture; ``image_digest``, the `Identity` of the picture's file,
        or of its pixels if it came without one, the same for pairs of the same picture; ``prompt``; ``given``, if there are
        contexts; ``error``, what was wrong with a bad pair; then those of `Estimate.to_pandas`, and ``verdict``, that on the mean of all pairs.
        """
        needs("pandas", "data")
        import pandas

        table = pandas.DataFrame({"pair": sorted(self.rows)})
        labels = [self.rows[place] for place in table["pair"]]
        table["image"] = [label.image for label in labels]
        table["image_digest"] = [label.digest for label in labels]
        table["prompt"] = [str(label.prompt) for label in labels]
        if any(label.given is not None for label in labels):
            table["given"] = [label.given for label in labels]
        reasons = dict(self.failures)
        table["error"] = [reasons.get(place, "") for place in table["pair"]]
        if self.estimate is not None:
            table = table.merge(self.estimate.to_pandas(), on="pair", how="left")
            table["verdict"] = str(self.estimate.verdict)
        return table

    def to_dataset(self) -> datasets.Dataset:
        """`to_pandas` as a `datasets.Dataset`.

        Raises:
            ImportError: when `datasets` is not installed.
        """
        needs("datasets", "data")
        import datasets

        return datasets.Dataset.from_pandas(self.to_pandas(), preserve_index=False)

    def save(self, folder: Path) -> None:
        """Write ``estimate.safetensors``, if a pair was good, and ``pairs.parquet``, one row a pair.

        Raises:
            OSError: when they cannot be written.
        """
        if self.estimate is not None:
            write_or_say(folder / "estimate.safetensors", self.estimate.to_bytes())
        table = io.BytesIO()
        self.to_pandas().to_parquet(table, index=False)
        write_or_say(folder / "pairs.parquet", table.getvalue())


def _ceiling(labels: Sequence[Label]) -> Tensor | None:
    """The most that prompts can tell that are labels: repeated, and of no context."""
    contexts = any(label.given is not None for label in labels)
    return None if contexts else surprise_of_labels([str(label.prompt) for label in labels])


def mended(shards: Shards) -> tuple[str, ...]:
    """What there is to say of damaged shards that were measured again."""
    return tuple(f"a shard was damaged, and its pairs measured again: {path.name}" for path in shards.damaged())


def _about(shards: Sequence[Shard], which: str, what: str) -> str:
    places = sorted(place for shard in shards for place in getattr(shard, which))
    return f"{len(places)} pair(s) {what}: {_some(places)}" if places else ""


def _about_repeated(labels: Mapping[int, Label]) -> str:
    times = Counter(label.digest for label in labels.values() if label.digest)
    several = {digest: count for digest, count in times.items() if count > 1}
    if not several:
        return ""
    return (
        f"{len(several)} image(s) stand in {sum(several.values())} pairs: a standard error that takes pairs as independent is too "
        "small; use mean(cluster=outcome.clusters())"
    )


def _some(places: Sequence[int]) -> str:
    return ", ".join(map(str, places[:8])) + (f" and {len(places) - 8} more" if len(places) > 8 else "")
