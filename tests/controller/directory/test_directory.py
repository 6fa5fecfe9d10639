"""The directory: what is transitive, what is found, and what may not be."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decision.facts import Grant
from controller.directory.directory import CycleError, ancestors
from tests.controller.decision.world import ALICE, BOB, WIKI, World


def test_a_group_is_in_all_that_its_group_is_in() -> None:
    found = ancestors({"c": "b", "b": "a", "a": None, "x": None})
    assert found == {"a": frozenset(), "b": {"a"}, "c": {"a", "b"}, "x": frozenset()}


@pytest.mark.parametrize("parents", [{"a": "a"}, {"a": "b", "b": "a"}, {"x": "a", "a": "b", "b": "c", "c": "a"}])
def test_a_cycle_is_refused(parents: dict[str, str | None]) -> None:
    with pytest.raises(CycleError, match="→"):
        ancestors(parents)


@given(st.integers(1, 40), st.randoms())
def test_ancestors_are_what_walking_up_meets(count: int, random: object) -> None:
    parents = {str(n): random.choice([None, *map(str, range(n))]) for n in range(count)}
    shuffled = dict(random.sample(sorted(parents.items()), count))
    found = ancestors(shuffled)
    for name, parent in parents.items():
        met, at = set(), parent
        while at is not None:
            met.add(at)
            at = parents[at]
        assert found[name] == met


def test_people_are_found_by_name() -> None:
    directory = World().directory()
    assert directory.user_named("alice") == ALICE
    assert directory.user_named("nobody") is None


def test_grants_are_found_for_those_they_are_about() -> None:
    grants = [
        Grant(UUID(int=1), group="staff", resource="wiki"),
        Grant(UUID(int=2), group="everyone", segment="office"),
        Grant(UUID(int=3), user="bob", resource="lab"),
    ]
    directory = World(grants=grants).directory()
    assert {grant.id for grant in directory.grants_for(ALICE, WIKI)} == {UUID(int=1), UUID(int=2)}
    assert {grant.id for grant in directory.grants_for(BOB, WIKI)} == {UUID(int=2)}


def test_a_gateway_serves_its_resources() -> None:
    assert World().directory().served_by("edge") is None
