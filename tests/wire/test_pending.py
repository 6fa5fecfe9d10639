from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.pending import Bounds, Pending, Room, source_of


def filled(*sources: str, total: int = 100, per_source: int = 10) -> tuple[Room[str], list[str | None]]:
    """One member for each source, named SOURCE#NUMBER; and what gave way for each."""
    room: Room[str] = Room(Bounds(total, per_source))
    count: Counter[str] = Counter()
    gone = []
    for source in sources:
        gone.append(room.enter(f"{source}#{count[source]}", source))
        count[source] += 1
    return room, gone


def test_everybody_is_let_in_while_there_is_room() -> None:
    room, gone = filled("a", "b", "a")
    assert gone == [None, None, None]
    assert list(room) == ["a#0", "b#0", "a#1"]
    assert (room.source("b#0"), room.source("c#0")) == ("b", None)
    room.leave("b#0")
    room.leave("b#0")
    assert len(room) == 2


def test_a_source_that_has_its_fill_gives_up_its_own_oldest() -> None:
    _, gone = filled("b", *["a"] * 5, per_source=3)
    assert gone == [None, None, None, None, "a#0", "a#1"]


def test_when_all_is_full_the_source_with_most_gives_way() -> None:
    room, gone = filled("few", *["many"] * 4, "new", "new", total=5)
    assert gone == [None] * 5 + ["many#0", "many#1"]
    assert list(room) == ["few#0", "many#2", "many#3", "new#0", "new#1"]


def test_between_equals_the_oldest_gives_way() -> None:
    _, gone = filled("a", "b", "c", "d", "e", total=3)
    assert gone == [None, None, None, "a#0", "b#0"]


def test_whoever_speaks_moves_from_one_room_to_the_other() -> None:
    pending: Pending[str] = Pending(Bounds(2, 2), Bounds(1, 1))
    assert [pending.add("a", "192.0.2.1"), pending.add("b", "192.0.2.2")] == [None, None]
    assert pending.spoke("a") is None
    assert pending.add("c", "192.0.2.3") is None, "a has left the first room"
    assert pending.spoke("b") == "a"
    assert [pending.spoke(each) for each in ("a", "b", "nobody")] == [None, None, None]
    assert (list(pending), len(pending)) == (["c", "b"], 2)
    for each in ("b", "c", "nobody"):
        pending.discard(each)
    assert len(pending) == 0


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a socket's path", "a socket's path"),
    ],
)
def test_what_counts_as_one_source(host: str, source: str) -> None:
    assert source_of(host) == source


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 40)))


@given(STEPS, st.integers(1, 8), st.integers(1, 4))
def test_the_bounds_hold_whatever_happens(steps: list[tuple[bool, int, int]], total: int, per_source: int) -> None:
    room: Room[int] = Room(Bounds(total, per_source))
    model: dict[int, str] = {}  # member -> source; the oldest first
    for number, (enters, source_number, pick) in enumerate(steps):
        source = f"source {source_number}"
        if not enters:
            member = list(model)[pick % len(model)] if model else -1
            room.leave(member)
            model.pop(member, None)
            continue
        held = Counter(model.values())
        gone = room.enter(number, source)
        assert (gone is not None) is (held[source] >= per_source or len(model) >= total)
        if gone is not None:
            out = model.pop(gone)
            assert out == source if held[source] >= per_source else held[out] == max(held.values())
            assert all(gone < member for member, each in model.items() if each == out)
        model[number] = source
        assert list(room) == list(model)
        assert len(room) <= total
        assert max(Counter(model.values()).values()) <= per_source
    for member in list(model):
        room.leave(member)
    assert (len(room), room._held, room._levels) == (0, {}, {})
