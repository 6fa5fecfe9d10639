"""Facts and now in, an answer out: the table, and what the sentences say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from controller.decision import Allow, Deny, SessionFacts, StepUp, decide_all, explain, next_change, standing
from controller.decision.facts import Grant
from controller.decision.hours import Hours
from tests.controller.decision.world import ALICE, BOB, LAPTOP, NOW, World, session

STAFF = Grant(UUID(int=100), group="staff", resource="wiki")
EVERYONE = Grant(UUID(int=101), group="everyone", resource="wiki")
HERS = Grant(UUID(int=102), user="alice", resource="wiki")
OFFICE = Grant(UUID(int=103), group="staff", segment="office")
ADMINS = Grant(UUID(int=104), group="admins", resource="wiki")
OFFICE_HOURS = Hours.parse("Mon-Fri 08:00-18:00 Europe/Paris")
NIGHT = Hours.parse("Mon-Fri 22:00-06:00 Europe/Paris")
MINUTE = timedelta(minutes=1)

FORBID = """
@id("no-wiki") @reason("The wiki is being moved.") @fix("Use the old wiki.")
forbid (principal, action, resource == Resource::"wiki");
"""
FORBID_STALE = '@id("stale") forbid (principal, action, resource) when { context.mfa_age_seconds > 60 };'
PERMIT_ALL = '@id("all") permit (principal, action, resource);'
FROM_NET = '@id("net") permit (principal, action, resource) when { context.source.isInRange(ip("192.0.2.0/24")) };'
ON_LINUX = '@id("linux") permit (principal, action, resource) when { context.device.platform == "linux" };'
OVERFLOW = (
    '@id("over") forbid (principal, action, resource) when { context.mfa_age_seconds + 9223372036854775807 < 0 };'
)
BY_PORT = """
@id("web") permit (principal is User, action, resource is Resource in Segment::"office") when { resource.port == 443 };
"""

TABLE = {
    "nothing": ([], [], {}, "deny", "no_grant"),
    "a grant to her group": ([STAFF], [], {}, "allow", "ok"),
    "a grant to a group her group is in": ([EVERYONE], [], {}, "allow", "ok"),
    "a grant to her": ([HERS], [], {}, "allow", "ok"),
    "a grant on the segment": ([OFFICE], [], {}, "allow", "ok"),
    "a grant to others": ([ADMINS], [], {}, "deny", "no_grant"),
    "a grant on something else": ([replace(STAFF, resource="lab")], [], {}, "deny", "no_grant"),
    "a segment it is not in": ([replace(OFFICE, segment="lab")], [], {}, "deny", "no_grant"),
    "in its hours": ([replace(STAFF, hours=OFFICE_HOURS)], [], {}, "allow", "ok"),
    "outside its hours": ([replace(STAFF, hours=NIGHT)], [], {}, "deny", "outside_hours"),
    "outside its hours, with a stale factor": (
        [replace(STAFF, hours=NIGHT, mfa_within=MINUTE)], [], {"mfa_at": NOW - 2 * MINUTE}, "deny", "outside_hours",
    ),
    "hours that open after the grant ends": (
        [replace(STAFF, hours=NIGHT, expires_at=NOW + MINUTE)], [], {}, "deny", "grant_expired",
    ),
    "a fresh factor": ([replace(STAFF, mfa_within=MINUTE)], [], {"mfa_at": NOW - MINUTE}, "allow", "ok"),
    "a factor a microsecond too old": (
        [replace(STAFF, mfa_within=MINUTE)], [], {"mfa_at": NOW - MINUTE - timedelta(microseconds=1)},
        "step_up", "mfa_stale",
    ),
    "a factor proved by a replica's clock that is ahead": (
        [replace(STAFF, mfa_within=MINUTE)], [], {"mfa_at": NOW + MINUTE}, "allow", "ok",
    ),
    "before the end": ([replace(STAFF, expires_at=NOW + timedelta(milliseconds=1))], [], {}, "allow", "ok"),
    "at the end": ([replace(STAFF, expires_at=NOW)], [], {}, "deny", "grant_expired"),
    "one grant ended, another holds": ([replace(STAFF, expires_at=NOW), HERS], [], {}, "allow", "ok"),
    "a policy forbids": ([STAFF], [FORBID], {}, "deny", "forbidden"),
    "a policy forbids a stale factor": ([STAFF], [FORBID_STALE], {"mfa_at": NOW - 2 * MINUTE}, "step_up", "mfa_stale"),
    "forbidden twice, once for a stale factor": (
        [STAFF], [FORBID, FORBID_STALE], {"mfa_at": NOW - 2 * MINUTE}, "deny", "forbidden",
    ),
    "a policy permits all": ([], [PERMIT_ALL], {}, "allow", "ok"),
    "a policy permits her network": ([], [FROM_NET], {}, "allow", "ok"),
    "her network, as an IPv6 socket sees it": ([], [FROM_NET], {"source": "::ffff:192.0.2.9"}, "allow", "ok"),
    "another network": ([], [FROM_NET], {"source": "198.51.100.1"}, "deny", "no_grant"),
    "a link-local source": ([], [FROM_NET], {"source": "fe80::1%eth0"}, "deny", "no_grant"),
    "a source that is no address": ([STAFF], [], {"source": "elsewhere"}, "deny", "policy_error"),
    "a policy permits her platform": ([], [ON_LINUX], {}, "allow", "ok"),
    "a forbid that errors": ([STAFF], [OVERFLOW], {"mfa_at": NOW - MINUTE}, "deny", "policy_error"),
    "a policy by port": ([], [BY_PORT], {}, "deny", "no_grant"),
    "somebody else's device": ([STAFF], [], {"user_id": BOB.id}, "deny", "device_unknown"),
    "an unknown user": ([STAFF], [PERMIT_ALL], {"user_id": UUID(int=9)}, "deny", "user_unknown"),
    "an unknown device": ([STAFF], [PERMIT_ALL], {"device_id": UUID(int=9)}, "deny", "device_unknown"),
}  # fmt: skip


@pytest.mark.parametrize(("grants", "policies", "facts", "kind", "code"), TABLE.values(), ids=TABLE)
def test_the_table(grants: list[Grant], policies: list[str], facts: dict[str, object], kind: str, code: str) -> None:
    answer = World(grants=grants, policies=policies).ask(**facts)
    assert (answer.kind, answer.code) == (kind, code)
    assert isinstance(answer, Allow) == (kind == "allow")
    if kind != "allow":
        assert answer.sentence.endswith((".", ")"))
        assert answer.fix


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"revoked_at": NOW}, "device_revoked"),
        ({"approved_at": None}, "device_pending"),
        ({"approved_at": None, "revoked_at": NOW}, "device_revoked"),
    ],
)
def test_no_policy_lets_a_device_in_that_may_not_be_used(change: dict[str, object], code: str) -> None:
    world = World(policies=[PERMIT_ALL], devices=(replace(LAPTOP, **change),))
    assert world.ask().code == code
    refusal = standing(world.directory(), ALICE.id, LAPTOP.id)
    assert refusal is not None
    assert refusal.code == code


def test_no_policy_lets_a_disabled_user_in() -> None:
    world = World(policies=[PERMIT_ALL], users=(replace(ALICE, disabled_at=NOW),))
    assert world.ask().code == "user_disabled"
    assert explain(world.directory(), "alice", "wiki", NOW).answer.code == "user_disabled"


def test_nothing_stands_against_an_approved_device_of_an_enabled_user() -> None:
    assert standing(World().directory(), ALICE.id, LAPTOP.id) is None


def test_unusable_policies_deny_everything() -> None:
    answer = World(grants=[STAFF], problem="old.cedar:1:1: attribute `trust` not found").ask()
    assert (answer.kind, answer.code) == ("deny", "policy_error")


def test_a_resource_that_is_not_there() -> None:
    assert World(policies=[PERMIT_ALL]).ask("nothing").code == "resource_unknown"


def test_an_answer_names_the_policies_that_decided() -> None:
    assert World(grants=[STAFF, HERS, ADMINS]).ask().policies == (STAFF.policy_id, HERS.policy_id)
    assert World(grants=[STAFF], policies=[FORBID]).ask().policies == ("no-wiki",)
    assert World(grants=[ADMINS]).ask().policies == ()
    assert World(grants=[STAFF], policies=[OVERFLOW]).ask(mfa_at=NOW - MINUTE).policies == (STAFF.policy_id,)


def test_who_is_forbidden_reads_the_rule_and_its_fix() -> None:
    answer = World(grants=[STAFF], policies=[FORBID]).ask()
    assert answer == Deny("forbidden", "The wiki is being moved. (policy no-wiki)", "Use the old wiki.", ("no-wiki",))


def test_a_forbid_without_a_reason_is_named() -> None:
    bare = '@id("bare") forbid (principal, action, resource);'
    answer = World(grants=[STAFF], policies=[bare]).ask()
    assert answer.sentence == "The policy bare forbids it."
    assert "bare" in answer.fix


def test_who_is_denied_does_not_learn_who_else_is_allowed() -> None:
    secret = replace(ADMINS, reason="the board reads this")
    answer = World(grants=[secret, replace(secret, id=UUID(int=105), user="bob", group=None)]).ask()
    said = f"{answer.sentence} {answer.fix} {answer.policies}"
    assert not any(word in said for word in ("admins", "bob", "board", str(secret.id)))


def test_a_step_up_says_how_fresh() -> None:
    wanted = [replace(STAFF, mfa_within=timedelta(minutes=15)), replace(HERS, mfa_within=timedelta(minutes=5))]
    answer = World(grants=wanted).ask(mfa_at=NOW - timedelta(minutes=42))
    assert isinstance(answer, StepUp)
    assert answer.sentence == "wiki asks for a second factor no older than 15m; yours is 42m old."
    assert answer.policies == (STAFF.policy_id, HERS.policy_id)
    assert "gloam login" in answer.fix


def test_a_step_up_by_a_policy_says_what_it_can() -> None:
    answer = World(grants=[STAFF], policies=[FORBID_STALE]).ask(mfa_at=NOW - timedelta(minutes=42))
    assert answer.sentence == "wiki asks for a second factor fresher than yours; yours is 42m old."


def test_outside_hours_says_when_it_opens() -> None:
    late = datetime(2026, 1, 9, 20, 0, tzinfo=UTC)  # Friday evening
    later = replace(HERS, hours=Hours.parse("Wed 09:00-10:00 UTC"))
    answer = World(grants=[later, replace(STAFF, hours=OFFICE_HOURS)]).ask(now=late)
    assert answer == Deny(
        "outside_hours",
        "wiki is closed to you now: it opens on Mon 2026-01-12 08:00 Europe/Paris (Mon-Fri 08:00-18:00 Europe/Paris).",
        "try again then, or ask an administrator of the perimeter for other hours",
        (STAFF.policy_id,),
    )


def test_hours_that_open_to_a_forbid_are_not_promised() -> None:
    until = '@id("soon") forbid (principal, action, resource) when { context.now > datetime("2026-01-07T20:00:00Z") };'
    answer = World(grants=[replace(STAFF, hours=NIGHT)], policies=[until]).ask()
    assert answer.code == "no_grant"


def test_hours_of_a_policy_open_too() -> None:
    when = 'context.open_windows.contains("Wed 18:00-19:00 UTC")'
    evening = f'@id("evening") permit (principal, action, resource) when {{ {when} }};'
    assert World(policies=[evening]).ask().code == "outside_hours"
    assert World(policies=[evening]).ask(now=NOW + timedelta(hours=8)).kind == "allow"


def test_an_ended_grant_says_when() -> None:
    answer = World(grants=[replace(STAFF, expires_at=NOW - timedelta(days=1)), replace(HERS, expires_at=NOW)]).ask()
    assert answer.sentence == "Your grant on wiki ended on 2026-01-07 10:00 UTC."
    assert answer.policies == (HERS.policy_id,)


def test_explain_is_what_happens() -> None:
    for grants, policies, facts, *_ in TABLE.values():
        if "user_id" in facts:
            continue
        world = World(grants=grants, policies=policies)
        told = explain(world.directory(), "alice", "wiki", NOW, session(**facts))
        assert told.answer == world.ask(**facts)
        assert told.assumed == ""


def test_explain_without_a_session_says_what_it_assumes() -> None:
    stale = World(grants=[replace(STAFF, mfa_within=MINUTE)])
    told = explain(stale.directory(), "alice", "wiki", NOW)
    assert told.answer.kind == "allow"
    assert told.assumed == "device laptop, password and code proved just now, source address 0.0.0.0"
    no_device = World(grants=[STAFF], devices=())
    assert explain(no_device.directory(), "alice", "wiki", NOW).assumed.startswith("an approved device")
    assert explain(no_device.directory(), "nobody", "wiki", NOW).answer.code == "user_unknown"


def test_every_resource_has_an_answer() -> None:
    answers = decide_all(World(grants=[OFFICE]).directory(), session(), NOW)
    assert {name: answer.kind for name, answer in answers.items()} == {
        "lab": "deny",
        "payroll": "allow",
        "wiki": "allow",
    }


def test_the_next_change_is_the_earliest_of_hours_end_and_factor() -> None:
    hours, ends = replace(STAFF, hours=OFFICE_HOURS), replace(HERS, expires_at=NOW + timedelta(hours=2))
    factor = replace(OFFICE, mfa_within=timedelta(hours=1))
    directory = World(grants=[hours, ends, factor, ADMINS]).directory()
    stale = NOW + timedelta(hours=1, microseconds=1)
    assert next_change(directory, session(), NOW) == stale
    assert next_change(directory, session(), stale) == NOW + timedelta(hours=2)
    assert next_change(directory, session(), NOW + timedelta(hours=2)) == datetime(2026, 1, 7, 17, tzinfo=UTC)


def test_clocks_in_policies_are_not_known_beforehand_but_their_hours_are() -> None:
    clock = '@id("clock") permit (principal, action, resource) when { context.now > datetime("2027-01-01") };'
    hours = 'context.open_windows.contains("Wed 18:00-19:00 UTC")'
    evening = f'@id("evening") permit (principal, action, resource) when {{ {hours} }};'
    assert next_change(World(policies=[clock]).directory(), session(), NOW) is None
    assert next_change(World(policies=[clock, evening]).directory(), session(), NOW) == NOW + timedelta(hours=8)


def test_nothing_changes_by_itself_for_those_without_conditions() -> None:
    assert next_change(World(grants=[STAFF]).directory(), session(), NOW) is None
    strange = SessionFacts(UUID(int=9), LAPTOP.id, NOW, "192.0.2.1", NOW)
    assert next_change(World(grants=[STAFF]).directory(), strange, NOW) is None


PASSKEYS = '@id("passkeys") forbid (principal, action, resource) unless { context.methods.contains("webauthn") };'
SERVICES = '@id("people") forbid (principal, action, resource) when { context.methods.contains("cert") };'
CERT = frozenset({"cert"})


@pytest.mark.parametrize(
    ("policies", "grant", "methods", "kind", "code"),
    [
        ([PASSKEYS], STAFF, {"mfa", "otp", "pwd"}, "step_up", "passkey_missing"),
        ([PASSKEYS], STAFF, {"mfa", "webauthn"}, "allow", "ok"),
        ([PASSKEYS], STAFF, CERT, "deny", "forbidden"),
        ([PASSKEYS, FORBID], STAFF, {"mfa", "otp", "pwd"}, "deny", "forbidden"),
        ([SERVICES], STAFF, CERT, "deny", "forbidden"),
        ([SERVICES], STAFF, {"mfa", "otp", "pwd"}, "allow", "ok"),
        ([], STAFF, CERT, "allow", "ok"),
        ([], replace(STAFF, mfa_within=MINUTE), CERT, "step_up", "mfa_missing"),
    ],
)
def test_what_was_used_to_log_in_decides(
    policies: list[str], grant: Grant, methods: set[str], kind: str, code: str
) -> None:
    mfa_at = NOW if "mfa" in methods else datetime(1970, 1, 1, tzinfo=UTC)
    answer = World(grants=[grant], policies=policies).ask(methods=frozenset(methods), mfa_at=mfa_at)
    assert (answer.kind, answer.code) == (kind, code)
