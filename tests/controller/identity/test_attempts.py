from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.identity.attempts import FORGET, FREE, LONGEST, Refusals, account, after_another, keys, own, wait

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
DEVICE, OTHER = UUID(int=1), UUID(int=2)


def after(count: int) -> Refusals | None:
    refusals = None
    for _ in range(count):
        refusals = after_another(refusals, NOW)
    return refusals


@pytest.mark.parametrize(
    ("refusals", "seconds"), [(0, 0), (FREE - 1, 0), (FREE, 1), (FREE + 1, 2), (FREE + 2, 4), (FREE + 50, 900)]
)
def test_waits_double_up_to_a_bound(refusals: int, seconds: int) -> None:
    assert wait(after(refusals), NOW) == timedelta(seconds=seconds)


def test_the_wait_passes() -> None:
    assert wait(after(FREE + 2), NOW + timedelta(seconds=3)) == timedelta(seconds=1)
    assert wait(after(FREE + 2), NOW + timedelta(seconds=4)) == timedelta(0)


def test_time_forgets() -> None:
    later = NOW + FORGET + timedelta(seconds=1)
    assert wait(after(FREE + 50), later) == timedelta(0)
    assert after_another(after(FREE + 50), later) == Refusals(1, later)


@pytest.mark.parametrize("back", [timedelta(seconds=1), timedelta(days=400)])
def test_a_clock_set_back_neither_ends_nor_stretches_the_wait(back: timedelta) -> None:
    assert wait(after(FREE + 50), NOW - back) == LONGEST


@pytest.mark.parametrize(("day", "most"), [(1, 111), (2, 97), (3, 97)])
def test_the_guesses_of_a_day_are_those_the_documents_say(day: int, most: int) -> None:
    at, refusals, guesses = NOW, None, [0, 0, 0, 0]
    while at - NOW < timedelta(days=3):
        refusals = after_another(refusals, at)
        guesses[(at - NOW).days] += 1
        at += wait(refusals, at)
    assert guesses[day - 1] <= most


ids, names = st.integers(0, 9).map(lambda number: UUID(int=number)), st.sampled_from(["alice", "bob", "nobody"])
sources = st.ip_addresses().map(str)


@given(st.tuples(ids, ids), st.tuples(names, names), st.tuples(sources, sources))
def test_no_device_of_others_ever_makes_an_own_device_wait(
    devices: tuple[UUID, UUID], called: tuple[str, str], places: tuple[str, str]
) -> None:
    (mine, other), (name, another), (here, there) = devices, called, places
    own_keys = keys(device=mine, owner=True, name=name, source=here)
    assert own_keys == (own(mine),)
    assert not set(own_keys) & set(keys(device=other, owner=False, name=another, source=there))
    if mine != other:
        assert not set(own_keys) & set(keys(device=other, owner=True, name=name, source=there))


def test_others_guesses_are_counted_by_device_account_and_source() -> None:
    several = keys(device=DEVICE, owner=False, name="alice", source="2001:db8::1")
    assert several == (f"device/{DEVICE}", account("alice"), "source/2001:db8::/64")
    same_site = keys(device=OTHER, owner=False, name="bob", source="2001:db8::ffff")
    assert set(several) & set(same_site) == {"source/2001:db8::/64"}
    assert all(len(key) <= 96 for key in several)
