"""Cedar, guarded: against a model that knows nothing of Cedar, against itself unsliced, and by the clock."""

import json
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from cedarpy import Entities, PolicySet, is_authorized
from hypothesis import given
from hypothesis import strategies as st

from controller.decision import decide
from controller.decision.engine import PoliciesInvalid, PolicyEngine, _entities
from controller.decision.facts import Context, Grant
from controller.decision.grants import compile_grant
from controller.decision.hours import Hours
from controller.decision.policies import BadPolicy, Scope, _scope, read_policy
from controller.decision.schema import SCHEMA
from tests.controller.decision.world import (
    ALICE,
    GROUPS,
    LAB,
    LAPTOP,
    NOW,
    PAYROLL,
    WIKI,
    Resource,
    World,
    session,
)

HOURS = [
    None,
    *map(Hours.parse, ("Mon-Fri 08:00-18:00 Europe/Paris", "Wed 00:00-12:00 UTC", "Sat,Sun 22:00-04:00 Asia/Tokyo")),
]
moments = st.timedeltas(timedelta(0), timedelta(days=9)).map(lambda delta: NOW + delta)
grants = st.builds(
    lambda who, what, number, **rest: Grant(id=UUID(int=number), **who, **what, **rest),
    who=st.sampled_from(
        [{"group": name} for name in ("staff", "everyone", "admins")] + [{"user": "alice"}, {"user": "bob"}]
    ),
    what=st.sampled_from([{"resource": "wiki"}, {"resource": "lab"}, {"segment": "office"}, {"segment": "none"}]),
    number=st.integers(0, 2**128 - 1),
    hours=st.sampled_from(HOURS),
    mfa_within=st.none() | st.integers(1, 7200).map(lambda seconds: timedelta(seconds=seconds)),
    expires_at=st.none() | moments,
    reason=st.text(max_size=20),
)


def model(grant: Grant, resource: Resource, now: object, mfa_at: object) -> bool:
    """A grant, in Python."""
    cut = timedelta(milliseconds=1)
    return (
        (grant.user == "alice" or grant.group in {"staff", "everyone"})
        and (grant.resource == resource.name or grant.segment == (resource.segment or "?"))
        and (grant.hours is None or grant.hours.is_open(now))
        and (grant.mfa_within is None or now - mfa_at <= grant.mfa_within)
        and (grant.expires_at is None or (now - NOW) // cut < (grant.expires_at - NOW) // cut)
    )


@given(
    st.lists(grants, max_size=6, unique_by=lambda grant: grant.id),
    moments,
    st.timedeltas(timedelta(0), timedelta(hours=3)),
)
def test_cedar_answers_as_the_model_of_grants_does(several: list[Grant], now: object, age: timedelta) -> None:
    directory = World(grants=several).directory()
    for resource in (WIKI, PAYROLL, LAB):
        answer = decide(directory, session(mfa_at=now - age), resource.name, now)
        allowing = [grant.policy_id for grant in several if model(grant, resource, now, now - age)]
        assert (answer.kind == "allow") == bool(allowing)
        if allowing:
            assert answer.policies == tuple(sorted(allowing))
        assert (answer.kind == "step_up") == (
            not allowing and any(model(grant, resource, now, now) for grant in several)
        )


@given(grants)
def test_a_grant_survives_being_written_as_a_policy(grant: Grant) -> None:
    policy = read_policy(compile_grant(grant))
    assert policy.id == grant.policy_id
    assert policy.reason == grant.reason
    assert list(policy.windows.values()) == ([] if grant.hours is None else [grant.hours])


SCOPES = {
    "principal": (
        "principal", 'principal == User::"alice"', 'principal in Group::"everyone"', 'principal in Group::"admins"',
        "principal is User", 'principal is User in Group::"staff"', 'principal in User::"alice"',
    ),
    "resource": (
        "resource", 'resource == Resource::"wiki"', 'resource in Segment::"office"', 'resource in Segment::"x"',
        "resource is Resource", 'resource is Resource in Segment::"office"', 'resource in Resource::"wiki"',
    ),
}  # fmt: skip
CONDITIONS = ("true", "context.mfa_age_seconds < 60", "resource.port == 80", 'principal in Group::"staff"',
              "context.mfa_age_seconds + 9223372036854775807 > 0", "context.session_age_seconds > 10")  # fmt: skip
policy_texts = st.lists(
    st.tuples(
        st.sampled_from(("permit", "permit", "forbid")),
        st.sampled_from(SCOPES["principal"]),
        st.sampled_from(SCOPES["resource"]),
        st.sampled_from(CONDITIONS),
    ),
    max_size=6,
)


@given(policy_texts, st.sampled_from([WIKI, PAYROLL, LAB]), st.integers(0, 100))
def test_asking_only_the_policies_whose_scope_holds_changes_nothing(
    several: list[tuple[str, str, str, str]], resource: Resource, age: int
) -> None:
    texts = [
        f'@id("p{index}") {effect} ({who}, action, {what}) when {{ {condition} }};'
        for index, (effect, who, what, condition) in enumerate(several)
    ]
    world = World(policies=texts)
    context = Context.of(session(mfa_at=NOW - timedelta(seconds=age)), LAPTOP, NOW)
    ours = world.directory().engine.verdict(ALICE, resource, context)
    request = {
        "principal": {"type": "User", "id": "alice"},
        "action": {"type": "Action", "id": "connect"},
        "resource": {"type": "Resource", "id": resource.name},
        "context": {**context.as_cedar(), "open_windows": []},
    }
    entities = Entities.from_json_str(json.dumps(_entities(world.users, GROUPS, world.resources)), SCHEMA)
    whole = is_authorized(request, PolicySet.from_str("\n".join(texts)), entities, SCHEMA)
    assert ours.allowed == (whole.allowed and not whole.diagnostics.errors)
    assert ours.policies == tuple(sorted(whole.diagnostics.id_annotations_by_reason.values()))
    assert len(ours.errors) == len(whole.diagnostics.errors)


def test_errors_name_policies_by_id() -> None:
    texts = [
        '@id("fine") permit (principal, action, resource);',
        '@id("wrong") forbid (principal, action, resource) when { context.mfa_age_seconds + 9223372036854775807 > 0 };',
    ]
    context = Context.of(session(mfa_at=NOW - timedelta(seconds=5)), LAPTOP, NOW)
    verdict = World(policies=texts).directory().engine.verdict(ALICE, WIKI, context)
    assert not verdict.allowed
    assert "policy wrong:" in verdict.errors[0]


def test_two_policies_of_one_id_are_refused() -> None:
    policy = read_policy('@id("one") permit (principal, action, resource);')
    with pytest.raises(PoliciesInvalid, match="one"):
        PolicyEngine([policy, policy], users=(), groups=(), resources=())


def test_policies_that_are_not_valid_are_refused_again_together() -> None:
    policy = read_policy('@id("one") permit (principal, action, resource);')
    wrong = replace(policy, text=policy.text.replace(";", " when { context.risk > 1 };"))
    with pytest.raises(PoliciesInvalid, match="risk"):
        PolicyEngine([wrong], users=(), groups=(), resources=())


def test_a_scope_of_another_type_never_holds() -> None:
    assert not Scope(type="Group").holds(("User", "alice"), frozenset({("User", "alice")}))
    assert Scope(type="User").holds(("User", "alice"), frozenset())


def test_a_scope_newer_than_this_code_is_left_to_cedar() -> None:
    assert _scope(object()) == Scope()


@pytest.mark.parametrize("text", ["", "permit (principal, action, resource);" * 2])
def test_one_policy_is_read_at_a_time(text: str) -> None:
    with pytest.raises(BadPolicy, match="not one policy"):
        read_policy(text)


def test_what_no_clock_can_change_is_asked_once() -> None:
    directory = World(grants=[Grant(UUID(int=1), group="staff", resource="wiki")]).directory()
    assert decide(directory, session(), "wiki", NOW) == decide(directory, session(), "wiki", NOW + timedelta(days=1))
    assert len(directory.engine._verdicts) == 1


def test_the_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from controller.decision import engine

    monkeypatch.setattr(engine, "MOST_SLICES", 1)
    monkeypatch.setattr(engine, "MOST_VERDICTS", 1)
    everything = [Grant(UUID(int=number), group="staff", resource=name) for number, name in enumerate(("wiki", "lab"))]
    directory = World(grants=everything).directory()
    for name in ("wiki", "lab", "wiki"):
        assert decide(directory, session(), name, NOW).kind == "allow"
    assert len(directory.engine._slices) == len(directory.engine._verdicts) == 1
