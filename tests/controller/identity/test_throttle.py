"""Guessing: bounded for whoever holds a device of the person, hopeless for all others, and never a lock-out to aim."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from controller.identity.attempts import FREE
from controller.storage.models import Brake, Device
from controller.users import UserService
from tests.controller.perimeter import Machine, Perimeter, Rebuild

STORM_SECONDS = 2.0
PATIENCE = 60.0
STORM_RATE = 1000


async def counts(perimeter: Perimeter) -> int:
    async with perimeter.storage.read() as db:
        return await db.scalar(select(func.count()).select_from(Brake)) or 0


async def test_a_device_guesses_one_at_a_time_and_ever_slower(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    both = await asyncio.gather(*(perimeter.ask_login(machine, password="wrong") for _ in range(2)))
    assert sorted(reply.code for reply in both) == ["at_work", "bad_credentials"]
    for _ in range(4):
        assert (await perimeter.ask_login(machine, password="wrong")).code == "bad_credentials"
    reply = await perimeter.ask_login(machine)
    assert reply.code == "too_many_attempts"
    assert reply.fix.startswith("wait 1s and try again")
    perimeter.clock.pass_(seconds=1)
    assert (await perimeter.ask_login(machine)).status == "more"


async def test_guessing_codes_is_slowed_as_well_and_a_login_forgets(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    for guess in ("12345", "000000"):
        assert (await perimeter.ask_login(machine, otp=guess)).status == "refused"
    for _ in range(3):
        assert (await perimeter.ask_login(machine, backup="0000-0000-0000-0000")).code == "backup_code_wrong"
    assert (await perimeter.ask_login(machine, backup=codes[0])).code == "too_many_attempts"
    perimeter.clock.pass_(seconds=1)
    assert (await perimeter.ask_login(machine, backup=codes[0])).status == "done"
    assert await counts(perimeter) == 0


async def test_a_restart_forgets_nothing(perimeter: Perimeter, rebuild: Rebuild) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    for _ in range(5):
        await perimeter.ask_login(machine, password="wrong")
    again = await rebuild(perimeter.storage, perimeter.clock)
    assert (await again.ask_login(machine)).code == "too_many_attempts"


async def test_an_administrator_unlocks(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    for _ in range(5):
        await perimeter.ask_login(machine, password="wrong")
    users = UserService(perimeter.storage, perimeter.directory, perimeter.passwords.hash_new, perimeter.clock)
    assert await users.unlock("alice", actor="admin/0") == 1
    assert (await perimeter.ask_login(machine)).status == "more"
    assert [each.what for each in await perimeter.events("change.made")][-1] == "user.unlocked"


@pytest.mark.parametrize("name", ["alice", "nobody"])
async def test_guesses_from_others_devices_are_slowed_alike_whether_the_name_exists(
    perimeter: Perimeter, name: str
) -> None:
    machine, _ = await perimeter.enrolled()
    await perimeter.add_user("mallory")
    first, second = await perimeter.enrol("mallory"), await perimeter.enrol("mallory")
    for _ in range(5):
        assert (await perimeter.ask_login(first, user=name)).code == "bad_credentials"
    assert (await perimeter.ask_login(second, user=name, source="203.0.113.9")).code == "too_many_attempts"
    assert (await perimeter.ask_login(first, user="other")).code == "too_many_attempts"
    # Nobody else is touched: not the one who was aimed at, and not the guesser's own account.
    assert (await perimeter.ask_login(machine)).status == "more"
    assert (await perimeter.ask_login(first)).status == "more"


async def test_old_counts_are_swept_out(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    await perimeter.ask_login(machine, user="nobody")
    assert await counts(perimeter) == 3
    perimeter.clock.pass_(hours=25)
    await perimeter.ask_login(machine, password="wrong")
    assert await counts(perimeter) == 1


async def test_a_thousand_wrong_logins_a_second_do_not_keep_the_right_person_out(perimeter: Perimeter) -> None:
    """Acceptance of issue 4: the storm comes from many devices and sources at once, all at one account."""
    machine, codes = await perimeter.enrolled()
    await perimeter.add_user("mallory")
    attackers = await many_devices(perimeter, "mallory", 200)
    answers: list[str] = []
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def storm(number: int, attacker: Machine) -> None:
        """Each of 200 devices asks five times a second, whatever it is answered."""
        for round_ in range(int(STORM_SECONDS * STORM_RATE / len(attackers))):
            at = began + round_ * len(attackers) / STORM_RATE
            await asyncio.sleep(max(0.0, at - loop.time()))
            source = f"198.51.{number}.{round_}"
            reply = await perimeter.ask_login(attacker, user="alice", source=source, otp="123456")
            answers.append(reply.code)

    async with asyncio.TaskGroup() as group:
        for number, attacker in enumerate(attackers):
            group.create_task(storm(number, attacker))
        for code in codes[:4]:  # four logins of the right person, amid the storm
            await asyncio.sleep(STORM_SECONDS / 5)
            async with asyncio.timeout(PATIENCE):
                reply = await perimeter.ask_login(machine, backup=code)
            assert reply.status == "done", reply
    assert len(answers) == STORM_SECONDS * STORM_RATE
    looked_at = answers.count("bad_credentials")
    # One at a time is looked at, without a password to compare with, and after five only one a wait.
    assert set(answers) <= {"bad_credentials", "too_many_attempts", "busy", "at_work"}
    assert looked_at == FREE
    async with perimeter.storage.read() as db:
        count = await db.scalar(select(Brake.count).where(Brake.key.like("account/%")))
    assert count == looked_at


async def many_devices(perimeter: Perimeter, user: str, number: int) -> list[Machine]:
    """Devices of a person, as rows: enrolling each would take longer than the storm."""
    one = await perimeter.enrol(user)
    async with perimeter.storage.change() as change:
        row = await change.db.get_one(Device, one.id)
        columns = [each.key for each in Device.__table__.columns if each.key not in {"id", "key_sha256"}]
        like = {name: getattr(row, name) for name in columns}
        made = []
        for _ in range(number):
            device = Device(**like, id=uuid4(), key_sha256=uuid4().bytes * 2)
            change.db.add(device)
            made.append(Machine(device.id, user, one.reply, one.identity))
    await perimeter.directory.reload()
    return made
