"""Logging in: what the person is told, what the audit log knows, and what happens only once."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from sqlalchemy import func, select, update

from controller.identity.passwords import Passwords
from controller.identity.rules import BAD_CREDENTIALS
from controller.sessions.rules import Starting
from controller.storage import Change
from controller.storage.models import Session, Totp, User
from tests.controller.perimeter import Perimeter, asked_for, proofs
from wire.messages import LoginRequest, SessionView

PASSWORD = "correct horse"
Within = Callable[[Change, UUID], Awaitable[None]]


async def sessions(perimeter: Perimeter) -> int:
    async with perimeter.storage.read() as db:
        return await db.scalar(select(func.count()).select_from(Session))


async def test_the_first_login_sets_up_an_authenticator_and_the_second_makes_a_session(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    first = await perimeter.ask_login(machine)
    assert asked_for(first) == {"totp_enrolment"}
    again = await perimeter.ask_login(machine)
    assert again.asks == first.asks, "the same secret until it is confirmed"
    wrong = await perimeter.ask_login(machine, otp="000000" if await perimeter.code("alice") != "000000" else "111111")
    assert (wrong.status, wrong.code) == ("refused", "otp_wrong")
    done = await perimeter.ask_login(machine, otp=await perimeter.code("alice"))
    assert done.status == "done"
    assert done.session is not None
    assert done.session.user == "alice"
    perimeter.clock.pass_(seconds=60)
    assert asked_for(await perimeter.ask_login(machine)) == {"otp"}
    assert len(await perimeter.events("totp.enrolled")) == 1
    assert [e.session for e in await perimeter.events("login.succeeded")] == [done.session.id]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong_password", "wrong_password"),
        ("unknown", "user_unknown"),
        ("disabled", "user_disabled"),
        ("no_password", "no_password"),
        ("others_device", "others_device"),
    ],
)
async def test_every_wrong_account_gets_the_one_answer(perimeter: Perimeter, case: str, reason: str) -> None:
    await perimeter.add_user("alice")
    await perimeter.add_user("bob")
    machine = await perimeter.enrol("alice")
    user, password = "alice", PASSWORD
    match case:
        case "wrong_password":
            password = "wrong"
        case "unknown":
            user = "nobody"
        case "disabled":
            await perimeter.disable("alice")
        case "no_password":
            async with perimeter.storage.change() as change:
                await change.db.execute(update(User).where(User.name == "alice").values(password_hash=None))
        case "others_device":
            user = "bob"
    reply = await perimeter.ask_login(machine, user=user, password=password, otp="123456")
    assert reply.status == "refused"
    assert (reply.code, reply.sentence, reply.fix) == (
        BAD_CREDENTIALS.code,
        BAD_CREDENTIALS.sentence,
        BAD_CREDENTIALS.fix,
    )
    [event] = await perimeter.events("login.refused")
    assert (event.code, event.user, event.device) == (reason, user, machine.id)
    assert await sessions(perimeter) == 0


async def test_a_code_counts_once(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    await perimeter.log_in(machine)
    used = await perimeter.ask_login(machine, otp=await perimeter.code("alice"))
    assert (used.status, used.code) == ("refused", "otp_used")
    perimeter.clock.pass_(seconds=30)
    assert (await perimeter.ask_login(machine, otp=await perimeter.code("alice"))).status == "done"


async def test_one_code_on_two_devices_at_once_makes_one_session(any_perimeter: Perimeter) -> None:
    await any_perimeter.add_user("alice")
    machines = [await any_perimeter.enrol("alice") for _ in range(2)]
    await any_perimeter.log_in(machines[0])
    before = await sessions(any_perimeter)
    any_perimeter.clock.pass_(seconds=60)
    code = await any_perimeter.code("alice")
    replies = await asyncio.gather(*(any_perimeter.ask_login(machine, otp=code) for machine in machines))
    assert sorted(reply.status for reply in replies) == ["done", "refused"]
    assert {reply.code for reply in replies} == {"ok", "otp_used"}
    assert await sessions(any_perimeter) == before + 1


async def test_two_first_logins_at_once_set_up_one_authenticator(any_perimeter: Perimeter) -> None:
    await any_perimeter.add_user("alice")
    machines = [await any_perimeter.enrol("alice") for _ in range(2)]
    replies = await asyncio.gather(*(any_perimeter.ask_login(machine) for machine in machines))
    assert replies[0].asks == replies[1].asks
    assert asked_for(replies[0]) == {"totp_enrolment"}


async def test_a_device_guesses_one_at_a_time_and_ever_slower(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    both = await asyncio.gather(*(perimeter.ask_login(machine, password="wrong") for _ in range(2)))
    assert sorted(reply.code for reply in both) == ["bad_credentials", "too_many_attempts"]
    for _ in range(4):
        assert (await perimeter.ask_login(machine, password="wrong")).code == "bad_credentials"
    assert (await perimeter.ask_login(machine)).code == "too_many_attempts"
    perimeter.clock.pass_(seconds=1)
    assert asked_for(await perimeter.ask_login(machine)) == {"totp_enrolment"}


async def test_guessing_codes_is_slowed_as_well(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    await perimeter.log_in(machine)
    for _ in range(5):
        assert (await perimeter.ask_login(machine, otp="12345")).code == "otp_malformed"
    assert (await perimeter.ask_login(machine, otp="12345")).code == "too_many_attempts"


async def test_a_bad_request_for_the_certificate_does_not_use_the_code_up(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    await perimeter.ask_login(machine)
    code = await perimeter.code("alice")
    asked = LoginRequest(user="alice", proofs=proofs(password=PASSWORD, otp=code), csr="nonsense")
    reply = await perimeter.login_service.login(asked, device=machine.id, source="198.51.100.7")
    assert (reply.status, reply.code) == ("refused", "bad_csr")
    assert (await perimeter.ask_login(machine, otp=code)).status == "done"


async def test_a_weaker_hash_is_replaced_at_login(perimeter: Perimeter) -> None:
    weak = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, hash_len=16))
    old = await weak.hash(PASSWORD)
    weak.close()
    await perimeter.add_user("alice")
    async with perimeter.storage.change() as change:
        await change.db.execute(update(User).values(password_hash=old))
    machine = await perimeter.enrol("alice")
    await perimeter.log_in(machine)
    async with perimeter.storage.read() as db:
        stored = await db.scalar(select(User.password_hash))
    assert stored != old
    await perimeter.log_in(machine)


async def test_an_authenticator_that_was_reset_is_set_up_anew(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    first = await perimeter.ask_login(machine)
    async with perimeter.storage.change() as change:
        await change.db.delete((await change.db.scalars(select(Totp))).one())
    second = await perimeter.ask_login(machine)
    assert asked_for(second) == {"totp_enrolment"}
    assert second.asks != first.asks


async def test_a_storm_of_logins_is_told_to_come_again(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    perimeter.passwords._room = 0
    reply = await perimeter.ask_login(machine)
    assert (reply.status, reply.code) == ("refused", "busy")


async def test_a_password_changed_during_the_login_stops_it(perimeter: Perimeter) -> None:
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    await perimeter.ask_login(machine)
    code = await perimeter.code("alice")
    new = await perimeter.passwords.hash("another")
    real = perimeter.sessions.start

    async def start(starting: Starting, within: Within) -> SessionView:
        async with perimeter.storage.change() as change:
            await change.db.execute(update(User).values(password_hash=new))
        return await real(starting, within)

    perimeter.sessions.start = start
    reply = await perimeter.ask_login(machine, otp=code)
    assert (reply.status, reply.code) == ("refused", "login_over")
    assert await sessions(perimeter) == 0
