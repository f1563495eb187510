"""What is known of a mean beyond its pairs: a better value in closed form, and errors that pairs do not show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmg_diffusers.measure.value import Value

# What the errors of rows that are no independent draws are called in a record.
DEPENDENT = "rows that depend on each other"


@dataclass(frozen=True)
class Allowance:
    """Errors of a mean that its pairs do not show, and what stands in its place.

    Args:
        errors: in nats, by name, taken as independent of each other: what a training did not learn, rows that depend.
        instead: a value known better than the measured one, which stands in its place; the errors are added to its own.
    """

    errors: Mapping[str, float] = field(default_factory=dict)
    instead: Value | None = None

    def of(self, measured: Value, clustered: Value | None = None) -> Value:
        """The value with all of its error.

        Args:
            measured: over pairs, each on its own.
            clustered: over clusters of them. What its error is larger and what is allowed for rows that depend on each other are the
                same thing seen twice, of which the larger is taken.
        """
        value, errors = self.instead or measured, dict(self.errors)
        if clustered is not None:
            more = math.sqrt(max(clustered.stderr**2 - measured.stderr**2, 0.0))
            errors[DEPENDENT] = max(errors.get(DEPENDENT, 0.0), more)
        return Value(value.value, math.hypot(value.stderr, *errors.values()), measured.unit)

    def record(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"errors": dict(self.errors), "instead": None if self.instead is None else list(self.instead)}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Allowance:
        """From what `record` gave."""
        instead = record["instead"]
        return Allowance(record["errors"], None if instead is None else Value(*instead))
