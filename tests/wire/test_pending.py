from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.pending import Pending, source_of


def filled(*hosts: str, total: int = 100, per_source: int = 10) -> tuple[Pending[str], list[str | None]]:
    """One member for each host, named HOST#NUMBER; and what gave way for each."""
    pending: Pending[str] = Pending(total, per_source)
    count: Counter[str] = Counter()
    gone = []
    for host in hosts:
        gone.append(pending.add(f"{host}#{count[host]}", host))
        count[host] += 1
    return pending, gone


def test_everybody_waits_while_there_is_room() -> None:
    pending, gone = filled("192.0.2.1", "192.0.2.2", "192.0.2.1")
    assert gone == [None, None, None]
    assert list(pending) == ["192.0.2.1#0", "192.0.2.2#0", "192.0.2.1#1"]
    pending.discard("192.0.2.2#0")
    pending.discard("192.0.2.2#0")
    assert len(pending) == 2


def test_a_source_that_has_its_fill_gives_up_its_own_oldest() -> None:
    _, gone = filled("192.0.2.9", *["192.0.2.1"] * 5, per_source=3)
    assert gone == [None, None, None, None, "192.0.2.1#0", "192.0.2.1#1"]


def test_when_all_is_full_the_source_with_most_gives_way() -> None:
    few, many, new = "192.0.2.1", "192.0.2.2", "192.0.2.3"
    pending, gone = filled(few, *[many] * 4, new, new, total=5)
    assert gone == [None] * 5 + [f"{many}#0", f"{many}#1"]
    assert list(pending) == [f"{few}#0", f"{many}#2", f"{many}#3", f"{new}#0", f"{new}#1"]


def test_the_silent_go_before_those_who_have_spoken() -> None:
    pending, _ = filled(*["192.0.2.1"] * 3, per_source=3)
    pending.spoke("192.0.2.1#0")
    pending.spoke("192.0.2.1#0")
    pending.spoke("nobody")
    assert pending.add("a", "192.0.2.1") == "192.0.2.1#1"
    assert pending.add("b", "192.0.2.1") == "192.0.2.1#2"
    for each in ("a", "b"):
        pending.spoke(each)
    assert pending.add("c", "192.0.2.1") == "192.0.2.1#0"


def test_between_equals_a_silent_one_gives_way() -> None:
    pending, _ = filled("192.0.2.1", "192.0.2.2", "192.0.2.3", total=3)
    pending.spoke("192.0.2.1#0")
    assert pending.add("new", "192.0.2.4") == "192.0.2.2#0"
    for each in ("192.0.2.3#0", "new"):
        pending.spoke(each)
    assert pending.add("newer", "192.0.2.5") == "192.0.2.1#0"


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


STEPS = st.lists(st.tuples(st.sampled_from(["add", "spoke", "discard"]), st.integers(0, 5), st.integers(0, 40)))


@given(STEPS, st.integers(1, 8), st.integers(1, 4))
def test_the_bounds_hold_whatever_happens(steps: list[tuple[str, int, int]], total: int, per_source: int) -> None:
    pending: Pending[int] = Pending(total, per_source)
    model: dict[int, tuple[int, bool]] = {}  # member -> source, spoken; the oldest first
    for number, (what, source, pick) in enumerate(steps):
        member = list(model)[pick % len(model)] if model else -1
        match what:
            case "add":
                held = Counter(each for each, _ in model.values())
                gone = pending.add(number, f"192.0.2.{source}")
                full = held[source] >= per_source or len(model) >= total
                assert (gone is not None) is full
                if gone is not None:
                    out, spoken = model.pop(gone)
                    own = held[source] >= per_source
                    assert out == source if own else held[out] == max(held.values())
                    silent = [m for m, (s, word) in model.items() if s == out and not word]
                    assert not (spoken and silent), "a silent one was there to give way"
                    assert spoken or all(gone < each for each in silent)
                model[number] = (source, False)
            case "spoke":
                pending.spoke(member)
                if member in model:
                    model[member] = (model[member][0], True)
            case "discard":
                pending.discard(member)
                model.pop(member, None)
        assert sorted(pending) == sorted(model)
        assert len(pending) <= total
        assert all(count <= per_source for count in Counter(s for s, _ in model.values()).values())
    for member in list(model):
        pending.discard(member)
    assert (len(pending), pending._held, pending._levels) == (0, {}, {})
