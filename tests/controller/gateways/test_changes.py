"""The laws of controller/gateways/changes.py."""

from typing import Any
from uuid import UUID

import pytest

from controller.gateways.changes import Changes
from wire.messages import LeaseDrop

STREAM, OTHER = UUID(int=1), UUID(int=2)


def changes(count: int, capacity: int = 4) -> Changes:
    made = Changes(STREAM, capacity)
    for _ in range(count):
        made.settle(append(made))
    return made


def append(to: Changes) -> int:
    return to.append(lambda seq: LeaseDrop(seq=seq, session=UUID(int=seq), code="over")).seq


@pytest.mark.parametrize(
    ("count", "after", "numbers"),
    [
        (0, 0, []),
        (0, 1, None),
        (3, 0, [1, 2, 3]),
        (3, 2, [3]),
        (3, 3, []),
        (3, 4, None),
        (6, 2, [3, 4, 5, 6]),
        (6, 1, None),
        (6, 0, None),
    ],
)
def test_the_newest_changes_are_kept_and_nothing_is_ever_skipped(count: Any, after: Any, numbers: Any) -> None:
    found = changes(count).after(after)
    assert (None if found is None else [each.seq for each in found]) == numbers
    assert changes(count).resumes(STREAM, after) is (numbers is not None)
    assert not changes(count).resumes(OTHER, after)
    assert not changes(count).resumes(None, after)


def test_a_snapshot_counts_only_what_came_before_the_changes_in_flight() -> None:
    made = changes(2)
    assert made.snapshot_point == 2
    third, fourth = append(made), append(made)
    assert made.snapshot_point == 2
    made.settle(third)
    assert made.snapshot_point == 3
    made.settle(fourth)
    assert made.snapshot_point == 4
