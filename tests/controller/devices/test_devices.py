"""Devices as administrators see them: names, when they were last heard of, how many there may be."""

import pytest
from sqlalchemy import select, update

from controller.errors import Refused
from controller.storage.models import Device
from spa.admission import Drop
from spa.errors import DropReason
from spa.packet import KnockKind
from tests.controller.clock import Clock
from tests.controller.knock import knock
from tests.controller.perimeter import BINDING, SOURCE, Perimeter, Rebuild
from tests.controller.served import Served
from wire.messages import EnrolReply, GivenUp, Refusal


async def test_a_device_is_renamed(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    await perimeter.devices.rename(machine.id, "the blue laptop", actor="admin")
    await perimeter.devices.rename(machine.id, "the blue laptop", actor="admin")
    (view,) = await perimeter.devices.list()
    assert (view.name, view.certified_until) == ("the blue laptop", machine.identity.leaf.not_valid_after_utc)
    (event,) = [event for event in await perimeter.events("change.made") if event.what == "device.renamed"]
    assert event.detail == f"{machine.id}: 'laptop' to 'the blue laptop'"


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "two\nlines", "\x1b[31mred"])
async def test_a_name_nobody_can_read_is_refused(perimeter: Perimeter, name: str) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    with pytest.raises(Refused) as refused:
        await perimeter.devices.rename(machine.id, name, actor="admin")
    assert refused.value.code == "bad_name"


async def test_a_person_has_so_many_devices_and_no_more(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machines = [await perimeter.enrol("alice") for _ in range(10)]
    invite = await perimeter.invites.for_user("alice", actor="admin")
    refused = await perimeter.enrolment.enrol(perimeter.request(invite), binding=BINDING, source=SOURCE)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.sentence) == ("too_many_devices", "alice has 10 devices, and more are not allowed")
    (event,) = await perimeter.events("invite.refused")
    assert event.code == "too_many_devices"
    await perimeter.devices.revoke(machines[0].id, actor="admin")
    reply = await perimeter.enrolment.enrol(perimeter.request(invite), binding=BINDING, source=SOURCE)
    assert isinstance(reply, EnrolReply)


async def test_when_a_device_was_last_heard_of_is_known_at_once_and_written_once_a_minute(
    served: Served, clock: Clock
) -> None:
    perimeter = served.perimeter

    async def stored() -> object:
        async with perimeter.storage.read() as db:
            return (await db.scalars(select(Device.last_seen_at))).one()

    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    client = served.client(machine.identity)
    clock.pass_(seconds=30)
    async with client.post("/v1/device/confirm", data=b"{}") as answer:
        assert answer.status == 200
    await perimeter.seen.write()
    assert [each.last_seen_at for each in await perimeter.devices.list()] == [clock.now]
    assert await stored() is None
    first = clock.now
    clock.pass_(seconds=31)
    await perimeter.seen.write()
    assert await stored() == first
    async with client.post("/v1/device/confirm", data=b"{}") as answer:
        assert answer.status == 200
    await perimeter.seen.write()
    assert await stored() == first
    await perimeter.seen.write(now=True)
    assert await stored() == clock.now


async def test_knocks_of_a_revoked_device_open_nothing_and_are_known_for_thirty_days(
    perimeter: Perimeter, rebuild: Rebuild
) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    holder = f"device/{machine.id}"
    knocks = perimeter.knockers()
    assert not perimeter.keys.is_revoked(holder)
    await perimeter.devices.revoke(machine.id, actor="admin")
    again = await rebuild(perimeter.storage, perimeter.clock)
    assert await again.keys.fill(again.storage) == knocks - 1
    for each in (perimeter, again):
        for kind in (KnockKind.CONTROL, KnockKind.ENROL):
            drop = knock(each, machine.reply.knock_secret, kind)
            assert drop == Drop(DropReason.KIND_NOT_ALLOWED, holder)
        assert each.keys.is_revoked(holder)
    perimeter.clock.pass_(days=30)
    for each in (perimeter, again):
        each.keys.expire()
        assert not each.keys.is_revoked(holder)
        assert each.knockers() == knocks - 1
        assert knock(each, machine.reply.knock_secret, KnockKind.CONTROL) == Drop(DropReason.LOCATOR)


async def test_who_is_refused_was_not_seen(served: Served) -> None:
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    await perimeter.devices.revoke(machine.id, actor="admin")
    async with served.client(machine.identity).post("/v1/device/confirm", data=b"{}") as answer:
        assert answer.status == 403
    assert [each.last_seen_at for each in await perimeter.devices.list()] == [None]
    (event,) = await perimeter.events("handshake.refused")
    assert event.code == "device_revoked"


async def test_a_device_that_was_replaced_gives_itself_up(served: Served) -> None:
    """By its own certificate: it is revoked, its session ended, in its owner's name; and its place is free."""
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    machine, other = await perimeter.enrol("alice"), await perimeter.enrol("alice")
    session = (await perimeter.log_in(machine)).id
    async with served.client(machine.identity).post("/v1/device/give-up", data=b"{}") as answer:
        assert answer.status == 200
        assert GivenUp.model_validate_json(await answer.read()).time == perimeter.clock()
    states = {view.id: view.state for view in await perimeter.devices.list()}
    assert states == {machine.id: "revoked", other.id: "approved"}
    assert session not in {each.id for each in perimeter.sessions.live()}
    (event,) = [event for event in await perimeter.events("change.made") if event.what == "device.revoked"]
    assert (event.actor, event.detail) == ("user/alice", f"{machine.id}: replaced")
    async with served.client(machine.identity).post("/v1/device/give-up", data=b"{}") as answer:
        assert answer.status == 403
    async with served.client(other.identity).post("/v1/device/confirm", data=b"{}") as answer:
        assert answer.status == 200


async def test_a_device_of_nobody_gives_itself_up_in_its_own_name(served: Served) -> None:
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    async with perimeter.storage.change() as change:
        await change.db.execute(update(Device).values(user_id=None))
    await perimeter.devices.give_up(machine.id)
    (event,) = [event for event in await perimeter.events("change.made") if event.what == "device.revoked"]
    assert event.actor == f"device/{machine.id}"
