"""What a session may reach, as gateways and the person are told."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from certs import Name, NameKind, Secret
from console.address import HostPort
from controller.decision.facts import Device, Gateway, Grant, Resource, User
from controller.decision.policies import read_policy
from controller.directory.directory import Directory
from controller.sessions import outlook
from controller.sessions.rules import LiveSession
from spa.packet import derive_key

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
ALICE = User(UUID(int=1), "alice")
LAPTOP = Device(UUID(int=11), ALICE.id, "laptop", "linux", approved_at=NOW)
EDGE, WEST, NEW = (
    Gateway(
        UUID(int=number),
        name,
        HostPort("192.0.2.2", 8443),
        HostPort("192.0.2.2", 62201),
        HostPort(f"{name}.example.test", 443),
        enrolled_at=None if name == "new" else NOW,
    )
    for number, name in enumerate(("edge", "west", "new"), 21)
)
WIKI = Resource(UUID(int=31), "wiki", HostPort("10.0.0.5", 80), 80, gateways=("edge", "new"))
VAULT = Resource(UUID(int=32), "vault", HostPort("10.0.0.6", 443), 443, gateways=("west",))
SECRET = Secret(b"k" * 32)
SESSION = LiveSession(
    id=UUID(int=9),
    user_id=ALICE.id,
    user="alice",
    device_id=LAPTOP.id,
    source="198.51.100.7",
    started_at=NOW,
    mfa_at=NOW,
    methods=frozenset({"mfa", "otp", "pwd"}),
    valid_until=NOW + timedelta(minutes=10),
)


def directory(*grants: Grant, policies: tuple[str, ...] = (), device: Device = LAPTOP) -> Directory:
    return Directory.of(
        revision=7,
        users=[ALICE],
        devices=[device],
        gateways=[EDGE, WEST, NEW],
        resources=[WIKI, VAULT],
        grants=grants,
        policies=[read_policy(text) for text in policies],
    )


def grant(resource: str = "wiki", **conditions: object) -> Grant:
    return Grant(UUID(int=41), user="alice", resource=resource, **conditions)


def made(*grants: Grant, now: datetime = NOW, session: LiveSession = SESSION, **rest: object) -> outlook.Outlook:
    return outlook.make(directory(*grants, **rest), session, [SECRET], "example.test", now)


def test_a_grant_becomes_a_lease_at_the_gateways_that_serve_it_and_nowhere_else() -> None:
    found = made(grant())
    assert set(found.leases) == {"edge"}, "a gateway that has not joined has nobody to tell"
    lease = found.leases["edge"]
    [permit] = lease.permits
    assert (permit.resource, permit.target.host, permit.policies) == ("wiki", "10.0.0.5", (grant().policy_id,))
    assert lease.knock_keys == (derive_key(SECRET, Name("example.test", NameKind.GATEWAY, "edge")).to_bytes(),)
    assert (lease.valid_until, lease.policy_revision) == (SESSION.valid_until, 7)
    [view] = found.resources
    assert (view.name, view.allowed, view.gateways) == ("wiki", True, ("edge",))
    [gateway] = found.gateways
    assert (gateway.tls.host, gateway.tls.port, gateway.knock.host, gateway.knock.port) == (
        "edge.example.test",
        443,
        "edge.example.test",
        62201,
    )


def test_without_a_grant_there_is_nothing_to_see() -> None:
    found = made()
    assert (found.leases, found.resources, found.gateways, found.answers) == ({}, (), (), {})


def test_what_is_refused_for_a_reason_is_told_with_the_fix() -> None:
    found = made(grant(mfa_within=timedelta(minutes=1)), now=NOW + timedelta(minutes=5))
    [view] = found.resources
    assert (view.allowed, view.code) == (False, "mfa_stale")
    assert view.fix
    assert found.leases["edge"].permits == ()
    assert [denial.code for denial in found.leases["edge"].denials] == ["mfa_stale"]
    assert found.gateways == ()


def test_a_sentence_that_only_got_older_is_no_news() -> None:
    from dataclasses import replace

    old = grant(mfa_within=timedelta(minutes=1))
    first = made(old, now=NOW + timedelta(minutes=5))
    second = made(old, now=NOW + timedelta(minutes=9), session=replace(SESSION, outlook=first))
    assert second == first


def test_a_forbid_for_all_does_not_tell_names_to_those_without_a_grant() -> None:
    closed = '@id("closed") forbid (principal, action, resource);'
    found = made(grant(), policies=(closed,))
    assert [(view.name, view.code) for view in found.resources] == [("wiki", "forbidden")]


@pytest.mark.parametrize("name", ["vault", "nonsense"])
def test_asking_for_what_is_not_yours_tells_nothing(name: str) -> None:
    view, answer = outlook.explain(directory(), SESSION, name, NOW)
    other, _ = outlook.explain(directory(), SESSION, "other", NOW)
    assert view.model_dump_json().replace(name, "other") == other.model_dump_json()
    assert answer.code == {"vault": "no_grant", "nonsense": "resource_unknown"}[name]


def test_asking_for_what_is_yours_tells_the_answer() -> None:
    view, answer = outlook.explain(directory(grant()), SESSION, "wiki", NOW)
    assert view.allowed
    assert answer.policies == (grant().policy_id,)


@pytest.mark.parametrize(
    ("device", "code"),
    [
        (LAPTOP, None),
        (Device(LAPTOP.id, ALICE.id, "laptop", "linux", approved_at=None), None),
        (Device(LAPTOP.id, ALICE.id, "laptop", "linux", approved_at=NOW, revoked_at=NOW), "device_revoked"),
        (Device(LAPTOP.id, UUID(int=2), "laptop", "linux", approved_at=NOW), "device_unknown"),
    ],
)
def test_who_is_shut_out(device: Device, code: str | None) -> None:
    denial = outlook.why_shut_out(directory(device=device), SESSION)
    assert (None if denial is None else denial.code) == code


def test_a_device_that_waits_sees_its_grants_and_why_they_do_not_help() -> None:
    found = made(grant(), device=Device(LAPTOP.id, ALICE.id, "laptop", "linux", approved_at=None))
    assert [(view.name, view.code) for view in found.resources] == [("wiki", "device_pending")]
