"""From samples to rows.

1. A row compares one figure of ours with a peer's, or with a fixed bar, or with nothing.
2. `met` is None exactly where there is no bar, or no figure to hold against it; `aim_met` says the same of the aim.
3. Percentiles are samples that were really measured (nearest rank), never interpolations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any


class Sense(StrEnum):
    """Which way is better."""

    AT_MOST = "≤"
    AT_LEAST = "≥"

    def holds(self, value: float, bound: float) -> bool:
        """Whether `value` is on the right side of `bound`, or on it."""
        return value <= bound if self is Sense.AT_MOST else value >= bound


@dataclass(frozen=True, slots=True)
class Bar:
    """What a row has to reach (its bar) or should (its aim): a figure, or a ratio to the peer (`of_peer`)."""

    sense: Sense
    bound: float
    of_peer: bool = False

    def text(self, unit: str = "") -> str:
        """As people read it."""
        return (
            f"{self.sense} {self.bound:g} x peer" if self.of_peer else f"{self.sense} {self.bound:,g} {unit}".rstrip()
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `peer` is the peer's figure in the same unit; `note` says what did not fit elsewhere."""

    name: str
    unit: str
    ours: float | None
    peer: float | None = None
    peer_name: str = ""
    bar: Bar | None = None
    aim: Bar | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to theirs."""
        return self.ours / self.peer if self.ours is not None and self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached."""
        return self._reaches(self.bar)

    @property
    def aim_met(self) -> bool | None:
        """Whether the aim is reached."""
        return self._reaches(self.aim)

    def measured_as(self, bar: Bar) -> float | None:
        """What is held against this bar: the ratio or the figure."""
        return self.ratio if bar.of_peer else self.ours

    def _reaches(self, bar: Bar | None) -> bool | None:
        value = None if bar is None else self.measured_as(bar)
        return None if bar is None or value is None else bar.sense.holds(value, bar.bound)

    def document(self) -> dict[str, Any]:
        """As it is kept in JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": rounded(self.ours),
            "peer": rounded(self.peer),
            "peer_name": self.peer_name or None,
            "ratio": rounded(self.ratio),
            "bar": self.bar.text(self.unit) if self.bar else None,
            "met": self.met,
            "aim": self.aim.text(self.unit) if self.aim else None,
            "aim_met": self.aim_met,
            "note": self.note or None,
        }


def middle(samples: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return median(samples) if samples else None


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """The smallest sample that `percent` of them do not exceed; None of nothing."""
    if not samples:
        return None
    return sorted(samples)[max(math.ceil(len(samples) * percent / 100), 1) - 1]


def rounded(value: float | None) -> float | None:
    """Four significant digits: more would be noise."""
    if value is None or value == 0 or not math.isfinite(value):
        return value
    return round(value, 3 - math.floor(math.log10(abs(value))))


def shown(value: float | None) -> str:
    """A figure as people read it: three significant digits, thousands apart; a dash for none."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"
