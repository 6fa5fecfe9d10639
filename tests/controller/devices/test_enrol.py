"""Enrolment: one invite, one device, whatever happens at once; and nothing to learn by asking."""

import asyncio
from ipaddress import ip_address
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from sqlalchemy import func, select

from certs import Name, NameKind, Secret, spki_sha256
from controller.errors import Refused
from controller.storage.models import Base, Device, Gateway, Invite
from spa.packet import Knock, KnockKind, derive_key, encode
from tests.controller.clock import Clock
from tests.controller.perimeter import Perimeter, Rebuild
from wire.invite import InvitePurpose, enrol_proof, invite_knock_secret
from wire.messages import EnrolReply, EnrolRequest, Refusal

BINDING = b"b" * 32
SOURCE = "198.51.100.7"


async def count(perimeter: Perimeter, table: type[Base] = Device) -> int:
    async with perimeter.storage.read() as db:
        return await db.scalar(select(func.count()).select_from(table))


async def enrol(perimeter: Perimeter, request: EnrolRequest) -> EnrolReply | Refusal:
    return await perimeter.enrolment.enrol(request, binding=BINDING, source=SOURCE)


async def test_an_invite_makes_a_device_of_its_user(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    invite = await perimeter.invites.for_user("alice", actor="admin")
    assert (invite.subject, invite.purpose) == ("alice", InvitePurpose.DEVICE)
    assert invite.root_spki_sha256 == perimeter.authority.root_sha256
    reply = await enrol(perimeter, perimeter.request(invite))
    assert isinstance(reply, EnrolReply)
    leaf = x509.load_pem_x509_certificates(reply.certificate.encode())[0]
    async with perimeter.storage.read() as db:
        device = await db.get(Device, UUID(reply.id))
    assert device.key_sha256 == spki_sha256(leaf)
    assert device.approved_at is not None
    assert (reply.user, device.name, device.platform) == ("alice", "laptop", "Linux")
    assert UUID(reply.id) in perimeter.directory.current.devices
    [event] = await perimeter.events("device.enrolled")
    assert (event.user, event.source, event.invite) == ("alice", SOURCE, invite.id)


async def test_two_uses_at_once_make_one_device(any_perimeter: Perimeter) -> None:
    await any_perimeter.add_user("alice")
    invite = await any_perimeter.invites.for_user("alice", actor="admin")
    requests = [any_perimeter.request(invite) for _ in range(8)]
    replies = await asyncio.gather(*(enrol(any_perimeter, request) for request in requests))
    assert sum(isinstance(reply, EnrolReply) for reply in replies) == 1
    assert {reply.code for reply in replies if isinstance(reply, Refusal)} == {"invite_used"}
    assert await count(any_perimeter) == 1
    assert any_perimeter.knockers() == 1


async def test_two_controllers_on_one_database_make_one_device(
    any_perimeter: Perimeter, rebuild: Rebuild, clock: Clock
) -> None:
    other = await rebuild(any_perimeter.storage, clock)
    await any_perimeter.add_user("alice")
    invite = await any_perimeter.invites.for_user("alice", actor="admin")
    replies = await asyncio.gather(
        enrol(any_perimeter, any_perimeter.request(invite)), enrol(other, other.request(invite))
    )
    assert sum(isinstance(reply, EnrolReply) for reply in replies) == 1
    assert await count(any_perimeter) == 1
    other.passwords.close()


@pytest.mark.parametrize(
    ("case", "code", "reason"),
    [
        ("unknown", "invite_refused", "unknown"),
        ("forged", "invite_refused", "forged"),
        ("other_connection", "invite_refused", "forged"),
        ("other_csr", "invite_refused", "forged"),
        ("used", "invite_used", "used"),
        ("expired", "invite_expired", "expired"),
        ("user_disabled", "invite_blocked", "blocked"),
        ("bad_csr", "bad_csr", "bad_csr"),
    ],
)
async def test_what_does_not_count_is_refused_and_audited(
    perimeter: Perimeter, case: str, code: str, reason: str
) -> None:
    await perimeter.add_user("alice")
    invite = await perimeter.invites.for_user("alice", actor="admin")
    request = perimeter.request(invite)
    match case:
        case "unknown":
            request = request.model_copy(update={"invite": uuid4()})
        case "forged":
            request = request.model_copy(update={"proof": bytes(32)})
        case "other_connection":
            proof = enrol_proof(invite.secret, b"c" * 32, request.csr.encode())
            request = request.model_copy(update={"proof": proof})
        case "other_csr":
            request = request.model_copy(update={"csr": perimeter.request(invite).csr})
        case "used":
            await enrol(perimeter, perimeter.request(invite))
        case "expired":
            perimeter.clock.pass_(hours=25)
        case "user_disabled":
            await perimeter.disable("alice")
        case "bad_csr":
            request = perimeter.request(invite, csr="no request at all")
    before = await count(perimeter)
    reply = await enrol(perimeter, request)
    assert isinstance(reply, Refusal)
    assert reply.code == code
    assert await count(perimeter) == before
    [event] = await perimeter.events("invite.refused")
    assert event.code == reason


async def test_strangers_are_told_one_thing(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    invite = await perimeter.invites.for_user("alice", actor="admin")
    forged = perimeter.request(invite, proof=bytes(32))
    answers = [await enrol(perimeter, forged), await enrol(perimeter, forged.model_copy(update={"invite": uuid4()}))]
    perimeter.clock.pass_(hours=25)
    answers.append(await enrol(perimeter, forged))
    assert len({answer.model_dump_json() for answer in answers}) == 1


async def test_a_request_that_cannot_be_signed_leaves_the_invite_good(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    invite = await perimeter.invites.for_user("alice", actor="admin")
    assert isinstance(await enrol(perimeter, perimeter.request(invite, csr="nonsense")), Refusal)
    assert isinstance(await enrol(perimeter, perimeter.request(invite)), EnrolReply)


async def test_a_gateway_joins_and_joins_again_with_another_key(perimeter: Perimeter) -> None:
    await perimeter.add_gateway("edge", enrolled=False)
    secrets = []
    for _ in range(2):
        invite = await perimeter.invites.for_gateway("edge", actor="admin")
        reply = await enrol(perimeter, perimeter.request(invite))
        assert isinstance(reply, EnrolReply)
        assert (reply.id, reply.user) == ("edge", "")
        assert (reply.listen.host, reply.listen.port, reply.knock.port) == ("192.0.2.2", 8443, 62201)
        secrets.append(reply.knock_secret)
        leaf = x509.load_pem_x509_certificates(reply.certificate.encode())[0]
        async with perimeter.storage.read() as db:
            row = (await db.scalars(select(Gateway))).one()
        assert row.key_sha256 == spki_sha256(leaf)
    assert secrets[0] != secrets[1]
    assert perimeter.knockers() == 1
    assert perimeter.directory.current.gateways["edge"].enrolled_at is not None


@pytest.mark.parametrize("name", ["nobody", "disabled"])
async def test_nobody_is_invited_who_cannot_come(perimeter: Perimeter, name: str) -> None:
    await perimeter.add_user("disabled")
    await perimeter.disable("disabled")
    with pytest.raises(Refused):
        await perimeter.invites.for_user(name, actor="admin")
    with pytest.raises(Refused):
        await perimeter.invites.for_gateway(name, actor="admin")
    assert await count(perimeter, Invite) == 0


def knocks(perimeter: Perimeter, secret: Secret, kind: KnockKind) -> bool:
    now_us = int(perimeter.clock.pass_(milliseconds=1).timestamp() * 1_000_000)
    key = derive_key(secret, Name("example.test", NameKind.CONTROLLER, "main"))
    knock = Knock(kind=kind, time_us=now_us, session=None, source=None, port=443)
    answer = perimeter.admission.admit(encode(knock, key, nonce=bytes(12), pad=b""), ip_address(SOURCE), now_us)
    return type(answer).__name__ == "Admit"


async def test_knock_keys_follow_what_is_committed(perimeter: Perimeter, rebuild: Rebuild, clock: Clock) -> None:
    await perimeter.add_user("alice")
    invite = await perimeter.invites.for_user("alice", actor="admin")
    secret = invite_knock_secret(invite.secret)
    assert knocks(perimeter, secret, KnockKind.ENROL)
    assert not knocks(perimeter, secret, KnockKind.CONTROL)
    reply = await enrol(perimeter, perimeter.request(invite))
    device = Secret(reply.knock_secret)
    assert not knocks(perimeter, secret, KnockKind.ENROL)
    assert knocks(perimeter, device, KnockKind.CONTROL)
    assert not knocks(perimeter, device, KnockKind.ENROL)
    later = await perimeter.invites.for_user("alice", actor="admin")
    again = await rebuild(perimeter.storage, clock)
    assert await again.keys.fill(again.storage) == 2
    assert knocks(again, device, KnockKind.CONTROL)
    clock.pass_(hours=25)
    again.keys.expire()
    assert not knocks(again, invite_knock_secret(later.secret), KnockKind.ENROL)
    await perimeter.devices.revoke(UUID(reply.id), actor="admin")
    assert not knocks(perimeter, device, KnockKind.CONTROL)
    third = await rebuild(perimeter.storage, clock)
    assert await third.keys.fill(third.storage) == 0
    for each in (again, third):
        each.passwords.close()


async def test_an_invite_that_was_withdrawn_opens_nothing(any_perimeter: Perimeter) -> None:
    perimeter = any_perimeter
    await perimeter.add_user("alice")
    await perimeter.add_gateway("edge", enrolled=False)
    used = await perimeter.invites.for_user("alice", actor="admin")
    assert isinstance(
        await perimeter.enrolment.enrol(perimeter.request(used), binding=BINDING, source=SOURCE), EnrolReply
    )
    lost = await perimeter.invites.for_user("alice", actor="admin")
    perimeter.clock.pass_(seconds=1)
    joining = await perimeter.invites.for_gateway("edge", actor="admin")
    views = await perimeter.invites.open()
    assert [(each.id, each.user, each.gateway, each.provider) for each in views] == [
        (lost.id, "alice", None, None),
        (joining.id, None, "edge", None),
    ]
    knocks = perimeter.knockers()
    assert await perimeter.invites.withdraw(lost.id, actor="admin")
    assert not await perimeter.invites.withdraw(lost.id, actor="admin")
    assert not await perimeter.invites.withdraw(used.id, actor="admin")
    assert perimeter.knockers() == knocks - 1
    assert [each.id for each in await perimeter.invites.open()] == [joining.id]
    refused = await perimeter.enrolment.enrol(perimeter.request(lost), binding=BINDING, source=SOURCE)
    assert isinstance(refused, Refusal)
    [event] = [each for each in await perimeter.events("change.made") if each.what == "invite.withdrawn"]
    assert event.detail == str(lost.id)


async def test_devices_are_listed_approved_and_revoked_for_good(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    [view] = await perimeter.devices.list()
    assert (view.id, view.user, view.state) == (machine.id, "alice", "approved")
    await perimeter.devices.approve(machine.id, actor="admin")
    await perimeter.devices.revoke(machine.id, actor="admin", reason="stolen")
    again = await perimeter.devices.revoke(machine.id, actor="admin")
    assert again.sessions == frozenset()
    [view] = await perimeter.devices.list()
    assert view.state == "revoked"
    with pytest.raises(Refused) as caught:
        await perimeter.devices.approve(machine.id, actor="admin")
    assert caught.value.code == "device_revoked"
    with pytest.raises(Refused) as caught:
        await perimeter.devices.revoke(uuid4(), actor="admin")
    assert caught.value.code == "no_device"
    assert [event.what for event in await perimeter.events("change.made")] == ["device.revoked"]
