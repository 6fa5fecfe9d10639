"""The next certificate: two count until the new one is used, whoever stops where; after the end, the key proves it."""

from ipaddress import ip_address
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from certs import Identity, Name, NameKind, Secret, make_csr, new_private_key, private_key_pem
from certs.issue import load_private_key
from certs.verify import spki_sha256
from controller.storage.models import Device
from spa.admission import Admit
from spa.packet import Knock, KnockKind, derive_key, encode
from tests.controller.clock import Clock
from tests.controller.knock import knock
from tests.controller.perimeter import BINDING, MAIN, SOURCE, Machine, Perimeter, Rebuild
from tests.controller.served import Edge, Served
from wire.messages import RecoverRequest, Refusal, RenewReply, RenewRequest
from wire.renewal import Holder, RenewalFailed, confirm, recover, recovery_statement, renew

DAYS = {"days": 31}
"""A day after the end of a certificate."""


def knocks(perimeter: Perimeter, secret: Secret | bytes, kind: KnockKind = KnockKind.CONTROL) -> bool:
    """Whether a knock with that secret is admitted now."""
    return isinstance(knock(perimeter, secret, kind), Admit)


def name_of(machine: Machine) -> Name:
    return machine.identity.name


async def renewed(perimeter: Perimeter, name: Name) -> tuple[Identity, bytes]:
    """A renewal as the service sees it: the new identity and knock secret."""
    key = new_private_key()
    reply = await perimeter.renewals.renew(RenewRequest(csr=make_csr(key).decode()), name, source=SOURCE)
    assert isinstance(reply, RenewReply)
    return Identity.from_pem(private_key_pem(key), reply.certificate.encode()), reply.knock_secret


async def use(perimeter: Perimeter, identity: Identity) -> None:
    await perimeter.renewals.used(identity.name, spki_sha256(identity.leaf), SOURCE)


def recovery(
    identity: Identity, *, csr: str | None = None, binding: bytes = BINDING, **fields: object
) -> RecoverRequest:
    """What the holder of `identity` sends once its certificate has ended."""
    key = load_private_key(identity.key)
    csr = csr or make_csr(new_private_key()).decode()
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    proof = key.sign(recovery_statement(identity.name, binding, csr.encode()), ec.ECDSA(hashes.SHA256()))
    said = {"kind": str(identity.name.kind), "id": identity.name.id, "public_key": public, "proof": proof, "csr": csr}
    return RecoverRequest.model_validate({**said, **fields})


async def test_two_secrets_knock_until_the_new_key_is_used_and_a_while_more(perimeter: Perimeter, clock: Clock) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    old = machine.reply.knock_secret
    identity, new = await renewed(perimeter, name_of(machine))
    assert knocks(perimeter, old)
    assert knocks(perimeter, new)
    clock.pass_(hours=1)
    await perimeter.renewals.settle()
    assert knocks(perimeter, old)  # however long it takes until the new one is used
    await use(perimeter, identity)
    await perimeter.renewals.settle()
    assert knocks(perimeter, old)  # somebody may be knocking with it this moment
    clock.pass_(seconds=11)
    await perimeter.renewals.settle()
    assert not knocks(perimeter, old)
    assert knocks(perimeter, new)
    assert [event.holder for event in await perimeter.events("key.replaced")] == [f"device/{machine.id}"]


async def test_an_answer_that_was_lost_costs_nothing(perimeter: Perimeter, rebuild: Rebuild, clock: Clock) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    lost, lost_secret = await renewed(perimeter, name_of(machine))
    identity, new = await renewed(perimeter, name_of(machine))
    assert not knocks(perimeter, lost_secret)
    await use(perimeter, lost)  # it was replaced before it was used: it is nobody's key
    again = await rebuild(perimeter.storage, clock)
    assert await again.keys.fill(again.storage) == 1
    for each in (perimeter, again):
        assert knocks(each, machine.reply.knock_secret)
        assert knocks(each, new)
    await use(again, identity)
    third = await rebuild(perimeter.storage, clock)
    await third.keys.fill(third.storage)
    assert knocks(third, new)
    assert not knocks(third, machine.reply.knock_secret)
    for each in (again, third):
        each.passwords.close()


async def test_replay_is_refused_with_either_secret(perimeter: Perimeter, clock: Clock) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    name, secret = name_of(machine), machine.reply.knock_secret
    identity, new = await renewed(perimeter, name)
    for each in (secret, new):
        now_us = int(clock.pass_(seconds=1).timestamp() * 1_000_000)
        knock = Knock(KnockKind.CONTROL, now_us, None, None, 443)
        datagram = encode(knock, derive_key(Secret(each), perimeter.name), nonce=bytes(12), pad=b"")
        answers = [perimeter.admission.admit(datagram, ip_address(SOURCE), now_us) for _ in range(2)]
        await use(perimeter, identity)
        clock.pass_(seconds=11)
        await perimeter.renewals.settle()  # which puts the keys in anew, and takes the old one out
        await renewed(perimeter, name)
        answers.append(perimeter.admission.admit(datagram, ip_address(SOURCE), now_us))
        assert [type(answer).__name__ for answer in answers] == ["Admit", "Drop", "Drop"]


async def test_gateways_know_the_new_knock_key_before_the_device_does(served: Served, edge: Edge, clock: Clock) -> None:
    perimeter = served.perimeter
    alice = await perimeter.add_user("alice")
    gateway = perimeter.directory.current.gateways["edge"].id
    await perimeter.add_grant(alice, await perimeter.add_resource("wiki", gateway))
    machine = await perimeter.enrol("alice")
    session = await perimeter.log_in(machine)

    def at_edge(secret: bytes) -> bytes:
        return derive_key(Secret(secret), Name("example.test", NameKind.GATEWAY, "edge")).to_bytes()

    old = machine.reply.knock_secret
    assert edge.leases[session.id].knock_keys == (at_edge(old),)
    identity, new = await renewed(perimeter, name_of(machine))
    assert edge.leases[session.id].knock_keys == (at_edge(new), at_edge(old))
    puts = edge.puts
    await use(perimeter, identity)
    assert edge.puts == puts  # nothing changes for gateways until the old one is out of use
    clock.pass_(seconds=11)
    await perimeter.renewals.settle()
    assert edge.leases[session.id].knock_keys == (at_edge(new),)
    assert not edge.dropped


async def test_a_session_that_begins_meanwhile_has_both_keys(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    alice = await perimeter.add_user("alice")
    gateway = perimeter.directory.current.gateways["edge"].id
    await perimeter.add_grant(alice, await perimeter.add_resource("wiki", gateway))
    machine = await perimeter.enrol("alice")
    await renewed(perimeter, name_of(machine))
    session = await perimeter.log_in(machine)
    assert len(edge.leases[session.id].knock_keys) == 2


async def test_while_a_gateway_could_not_learn_the_new_key_the_old_one_stays(
    served: Served, edge: Edge, clock: Clock
) -> None:
    perimeter = served.perimeter
    alice = await perimeter.add_user("alice")
    gateway = perimeter.directory.current.gateways["edge"].id
    await perimeter.add_grant(alice, await perimeter.add_resource("wiki", gateway))
    machine = await perimeter.enrol("alice")
    await perimeter.log_in(machine)
    await perimeter.links.disconnect("edge")
    request = RenewRequest(csr=make_csr(new_private_key()).decode())
    reply = await perimeter.renewals.renew(request, name_of(machine), source=SOURCE)
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.sentence) == (
        "not_now", "gateway edge has no link, and would not know the new knock key",
    )  # fmt: skip
    assert perimeter.knockers() == 2  # the gateway and the device, with one key each
    clock.pass_(days=25, minutes=1)  # its session is over by now: nobody knocks at that gateway
    await perimeter.sessions.expire()
    await renewed(perimeter, name_of(machine))


async def test_the_wire_renews_and_the_old_key_is_refused_once_the_new_one_was_used(served: Served) -> None:
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    await perimeter.add_gateway("edge", enrolled=False)
    for identity in ((await perimeter.enrol("alice")).identity, await perimeter.join("edge")):
        old = Holder(identity, perimeter.authority.trust, "Linux 7")
        found = await renew(old, MAIN, served.dial)
        assert found.identity.name == identity.name
        assert found.identity.leaf.public_key() != identity.leaf.public_key()
        assert found.trust == perimeter.authority.trust
        await confirm(old, MAIN, served.dial)  # the old one counts, and does not become the new one by it
        new = Holder(found.identity, found.trust)
        assert (await confirm(new, MAIN, served.dial)).certified_until == found.identity.leaf.not_valid_after_utc
        with pytest.raises(RenewalFailed) as refused:
            await confirm(old, MAIN, served.dial)
        assert (refused.value.step, refused.value.reason) == ("refused", "not_welcome")
        await confirm(new, MAIN, served.dial)
    assert {event.code for event in await perimeter.events("handshake.refused")} == {"key_replaced"}
    async with perimeter.storage.read() as db:
        assert (await db.scalars(select(Device.platform))).one() == "Linux 7"


@pytest.mark.parametrize("case", ["revoked", "disabled"])
async def test_who_is_shut_out_is_not_renewed(perimeter: Perimeter, case: str) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    if case == "revoked":
        await perimeter.devices.revoke(machine.id, actor="admin")
    else:
        await perimeter.disable("alice")
    request = RenewRequest(csr=make_csr(new_private_key()).decode())
    reply = await perimeter.renewals.renew(request, name_of(machine), source=SOURCE)
    assert isinstance(reply, Refusal)
    assert reply.code == "not_welcome"
    (event,) = await perimeter.events("renewal.refused")
    assert event.code == {"revoked": "device_revoked", "disabled": "user_disabled"}[case]


async def test_a_bad_signing_request_changes_nothing(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    reply = await perimeter.renewals.renew(RenewRequest(csr="nonsense"), name_of(machine), source=SOURCE)
    assert isinstance(reply, Refusal)
    assert reply.code == "bad_csr"
    assert perimeter.knockers() == 1


async def test_after_its_end_a_key_recovers_over_the_wire_and_one_proof_is_good_once(
    served: Served, clock: Clock
) -> None:
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    await perimeter.add_gateway("edge", enrolled=False)
    machine, gateway = await perimeter.enrol("alice"), await perimeter.join("edge")
    secret = machine.reply.knock_secret
    assert not knocks(perimeter, secret, KnockKind.ENROL)
    clock.pass_(**DAYS)
    perimeter.keys.expire()
    assert knocks(perimeter, secret, KnockKind.ENROL)
    for identity in (machine.identity, gateway):
        found = await recover(Holder(identity, perimeter.authority.trust), MAIN, served.dial)
        assert found.identity.name == identity.name
        await recover(Holder(identity, perimeter.authority.trust), MAIN, served.dial)  # had the answer been lost
    found = await recover(Holder(machine.identity, perimeter.authority.trust), MAIN, served.dial)
    await use(perimeter, found.identity)
    assert not knocks(perimeter, found.knock_secret, KnockKind.ENROL)  # it has a certificate again
    with pytest.raises(RenewalFailed, match="not accepted here any more"):
        await recover(Holder(machine.identity, perimeter.authority.trust), MAIN, served.dial)
    events = await perimeter.events("certificate.renewed")
    assert [event.recovered for event in events] == [True] * 5
    # The proof is of one connection, and the connection of one request.
    client = served.client(None)
    body = recovery(gateway).model_dump_json()
    async with client.post("/v1/recover", data=body) as first:
        assert first.status == 403
        assert first.headers["Connection"] == "close"


async def test_whoever_stored_the_next_identity_and_never_used_it_recovers_with_that(
    perimeter: Perimeter, clock: Clock
) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    identity, _ = await renewed(perimeter, name_of(machine))
    clock.pass_(**DAYS)
    reply = await perimeter.renewals.recover(recovery(identity), binding=BINDING, source=SOURCE)
    assert isinstance(reply, RenewReply)
    again = await perimeter.renewals.recover(recovery(machine.identity), binding=BINDING, source=SOURCE)
    assert isinstance(again, Refusal)  # the next key has been used


def spoilt(case: str, machine: Machine, other: Machine) -> RecoverRequest:
    """The request of a machine, with what the case says is wrong in it, if anything."""
    good = recovery(machine.identity)
    changed: dict[str, dict[str, object]] = {
        "unknown": {"id": str(uuid4())},
        "not a device": {"id": "\x00'; DROP TABLE device"},
        "another request": {"csr": make_csr(new_private_key()).decode()},
        "no signature": {"proof": b"\x30\x00"},
        "another name": {"kind": "gateway"},
    }
    match case:
        case "another's key":
            return recovery(other.identity, id=str(machine.id))
        case "another connection":
            return recovery(machine.identity, binding=b"c" * 32)
        case "bad request":
            return recovery(machine.identity, csr="nonsense")
    return good.model_copy(update=changed.get(case, {}))


@pytest.mark.parametrize(
    ("case", "told", "reason"),
    [
        ("unknown", "not_welcome", "unknown"),
        ("not a device", "not_welcome", "unknown"),
        ("another's key", "not_welcome", "key_replaced"),
        ("a replaced key", "not_welcome", "key_replaced"),
        ("another connection", "not_welcome", "forged"),
        ("another request", "not_welcome", "forged"),
        ("no signature", "not_welcome", "forged"),
        ("another name", "not_welcome", "unknown"),
        ("revoked", "not_welcome", "device_revoked"),
        ("disabled", "not_welcome", "user_disabled"),
        ("not ended", "not_ended", "not_ended"),
        ("too late", "too_late", "too_late"),
        ("bad request", "bad_csr", "bad_csr"),
    ],
)
async def test_a_recovery_that_does_not_count_is_refused_and_audited(
    perimeter: Perimeter, clock: Clock, case: str, told: str, reason: str
) -> None:
    await perimeter.add_user("alice")
    machine, other = await perimeter.enrol("alice"), await perimeter.enrol("alice")
    if case == "a replaced key":
        await use(perimeter, (await renewed(perimeter, name_of(machine)))[0])
    if case != "not ended":
        clock.pass_(days=61 if case == "too late" else 31)
    if case == "disabled":
        await perimeter.disable("alice")
    if case == "revoked":
        await perimeter.devices.revoke(machine.id, actor="admin")
    request = spoilt(case, machine, other)
    answer = await perimeter.renewals.recover(request, binding=BINDING, source=SOURCE)
    assert isinstance(answer, Refusal)
    assert answer.code == told
    (event,) = await perimeter.events("renewal.refused")
    assert (event.code, event.recovery, event.source) == (reason, True, SOURCE)
    if case == "too late":
        assert answer.sentence == "the certificate of this device ended more than 30 days ago"
        assert "new invite" in answer.fix
    assert not await perimeter.events("certificate.renewed") or case == "a replaced key"


async def test_a_revoked_device_gets_no_key_back(perimeter: Perimeter, clock: Clock) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    identity, new = await renewed(perimeter, name_of(machine))
    await use(perimeter, identity)
    await perimeter.devices.revoke(UUID(identity.name.id), actor="admin")
    clock.pass_(seconds=11)
    await perimeter.renewals.settle()
    clock.pass_(**DAYS)
    perimeter.keys.expire()
    assert not any(knocks(perimeter, new, kind) for kind in (KnockKind.CONTROL, KnockKind.ENROL))
    assert perimeter.knockers() == 0


async def test_a_gateway_that_joins_again_is_rid_of_what_it_was_about_to_be(perimeter: Perimeter) -> None:
    await perimeter.add_gateway("edge", enrolled=False)
    old = await perimeter.join("edge")
    following, secret = await renewed(perimeter, old.name)
    new = await perimeter.join("edge")
    await use(perimeter, following)
    assert not knocks(perimeter, secret)
    identity, _ = await renewed(perimeter, new.name)
    assert not await perimeter.events("key.replaced")
    await use(perimeter, identity)
    assert await perimeter.events("key.replaced")
