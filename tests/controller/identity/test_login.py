"""Logging in: what the person is told, what the audit log knows, and what happens only once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

import pytest
from argon2 import Parameters, PasswordHasher, extract_parameters
from sqlalchemy import delete, func, select, update

from controller.identity.passwords import Passwords
from controller.identity.rules import BAD_CREDENTIALS
from controller.sessions.rules import Starting
from controller.storage import Change
from controller.storage.models import BackupCode, Session, Totp, User
from tests.controller.perimeter import Perimeter, asked_for, new_csr, proofs
from wire.messages import ListPasskeys, LoginRequest, NewBackupCodes, OfferPasskey, PasskeyRequest, SessionView

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
    assert asked_for(await perimeter.ask_login(machine)) == {"otp", "backup_code"}
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


async def test_who_sets_up_an_authenticator_gets_backup_codes_and_each_counts_once(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    assert len(codes) == 10
    done = await perimeter.ask_login(machine, backup=codes[3].upper().replace("-", " "))
    assert done.status == "done"
    assert done.backup_codes == ()
    assert done.session is not None
    assert done.session.backup_codes == 9
    again = await perimeter.ask_login(machine, backup=codes[3])
    assert (again.status, again.code) == ("refused", "backup_code_used")
    assert [each.left for each in await perimeter.events("backup_code.used")] == [9]
    assert [each.code for each in await perimeter.events("login.refused")] == ["backup_code_used"]
    methods = [each.methods for each in await perimeter.events("login.succeeded")]
    assert methods == [("mfa", "otp", "pwd"), ("backup", "mfa", "pwd")]


@pytest.mark.parametrize(
    ("typed", "code"),
    [("0000-0000-0000-0000", "backup_code_wrong"), ("hello", "backup_code_malformed"), ("", "backup_code_malformed")],
)
async def test_what_is_no_backup_code_of_mine(perimeter: Perimeter, typed: str, code: str) -> None:
    machine, _ = await perimeter.enrolled()
    reply = await perimeter.ask_login(machine, backup=typed)
    assert (reply.status, reply.code) == ("refused", code)
    nothing = await perimeter.ask_login(machine, password=None, backup=typed)
    assert asked_for(nothing) == {"password"}, "nothing is said about codes before the password"


async def test_one_backup_code_from_two_places_at_once_lets_one_in(any_perimeter: Perimeter) -> None:
    machine, codes = await any_perimeter.enrolled()
    other = await any_perimeter.enrol("alice")
    before = await sessions(any_perimeter)
    replies = await asyncio.gather(
        any_perimeter.ask_login(machine, backup=codes[0]),
        any_perimeter.ask_login(other, backup=codes[0], source="203.0.113.5"),
    )
    assert sorted(reply.status for reply in replies) == ["done", "refused"]
    assert {reply.code for reply in replies} == {"ok", "backup_code_used"}
    assert await sessions(any_perimeter) == before + 1


@pytest.mark.parametrize(("seconds", "reason"), [(-90, "otp_late"), (-30, None), (30, None), (90, "otp_early")])
async def test_a_clock_that_is_wrong_is_in_the_audit_log(
    perimeter: Perimeter, seconds: float, reason: str | None
) -> None:
    machine, _ = await perimeter.enrolled()
    perimeter.clock.pass_(seconds=120 + seconds)
    code = await perimeter.code("alice")
    perimeter.clock.pass_(seconds=-seconds)
    reply = await perimeter.ask_login(machine, otp=code)
    if reason is None:
        assert reply.status == "done"
        return
    assert (reply.status, reply.code) == ("refused", "otp_wrong"), "the answer is that of any wrong code"
    assert "check its clock" in reply.fix
    assert [each.code for each in await perimeter.events("login.refused")] == [reason]


async def test_a_password_adds_no_authenticator_beside_another_factor(perimeter: Perimeter) -> None:
    machine, _ = await perimeter.enrolled()
    async with perimeter.storage.change() as change:
        await change.db.delete((await change.db.scalars(select(Totp))).one())
    assert asked_for(await perimeter.ask_login(machine)) == {"backup_code"}
    assert (await perimeter.ask_login(machine, otp="123456")).code == "otp_not_set_up"


async def test_without_a_name_the_devices_owner_is_meant(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    asked = LoginRequest(proofs=proofs(password=PASSWORD, backup=codes[0]), csr=new_csr())
    reply = await perimeter.login_service.login(asked, device=machine.id, source="198.51.100.7")
    assert reply.session is not None
    assert reply.session.user == "alice"


async def test_a_step_up_makes_the_live_session_fresh_and_nothing_else(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    [before] = perimeter.sessions.live()
    perimeter.clock.pass_(minutes=5)
    assert asked_for(await perimeter.ask_step_up(machine)) == {"otp", "backup_code"}
    reply = await perimeter.ask_step_up(machine, backup=codes[0])
    assert reply.status == "done"
    assert reply.session is not None
    assert (reply.session.id, reply.session.certificate) == (before.id, "")
    [after] = perimeter.sessions.live()
    assert after.mfa_at == perimeter.clock()
    assert after.methods == {"backup", "mfa", "otp", "pwd"}
    assert after.valid_until == before.valid_until
    async with perimeter.storage.read() as db:
        row = (await db.scalars(select(Session))).one()
    assert (row.mfa_at, row.methods) == (perimeter.clock(), "backup mfa otp pwd")
    assert (await perimeter.ask_step_up(machine, backup=codes[0])).code == "backup_code_used"


@pytest.mark.parametrize("case", ["no session", "another's", "password", "disabled"])
async def test_a_step_up_needs_a_session_and_a_second_factor(perimeter: Perimeter, case: str) -> None:
    machine, codes = await perimeter.enrolled()
    given = {"backup": codes[0]}
    match case:
        case "no session":
            await perimeter.sessions.end_where(device=machine.id)
        case "another's":
            await perimeter.add_user("bob")
            machine.user = "bob"
        case "password":
            given = {"password": PASSWORD}
        case "disabled":
            await perimeter.disable("alice")
    before = [session.mfa_at for session in perimeter.sessions.live()]
    reply = await perimeter.ask_step_up(machine, **given)
    asked = {"password": {"otp", "backup_code"}, "disabled": {"password"}}
    if case in asked:
        assert asked_for(reply) == asked[case]
    else:
        assert (reply.status, reply.code) == ("refused", "no_session")
    assert [session.mfa_at for session in perimeter.sessions.live()] == before


class Counting(PasswordHasher):
    """Knows the parameters of every hash it was asked to verify."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[Parameters] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - the library's name
        self.verified.append(extract_parameters(str(hash)))
        return super().verify(hash, password)


@pytest.mark.parametrize("case", ["wrong", "unknown", "another's", "disabled", "no password"])
async def test_whatever_is_wrong_costs_the_work_of_one_password(perimeter: Perimeter, case: str) -> None:
    """The same work takes the same time; a clock would measure the machine."""
    machine, _ = await perimeter.enrolled()
    await perimeter.add_user("bob", None if case == "no password" else PASSWORD)
    perimeter.passwords._hasher = counting = Counting()
    names = {"wrong": "alice", "unknown": "nobody", "disabled": "alice"}
    if case == "disabled":
        await perimeter.disable("alice")
    reply = await perimeter.ask_login(machine, user=names.get(case, "bob"), password="wrong")
    assert (reply.status, reply.code) == ("refused", BAD_CREDENTIALS.code)
    assert counting.verified == [extract_parameters(counting.hash("x"))]


async def test_a_service_logs_in_by_its_certificate_alone_and_policies_can_tell(perimeter: Perimeter) -> None:
    machine, _ = await perimeter.enrolled()
    robot = await perimeter.add_user("robot", None)
    async with perimeter.storage.change() as change:
        await change.db.execute(update(User).where(User.id == robot).values(service=True))
    device = await perimeter.enrol("robot")
    reply = await perimeter.ask_login(device, password=None)
    assert reply.status == "done", reply
    [session] = [each for each in perimeter.sessions.live() if each.user == "robot"]
    assert session.methods == {"cert"}
    assert session.mfa_at.year == 1970
    assert reply.session is not None
    assert reply.session.backup_codes is None, "codes are nothing for a service"
    assert (await perimeter.ask_step_up(device)).code == "not_for_services"
    assert (await perimeter.ask_account(device, NewBackupCodes())).code == "not_for_services"
    others = await perimeter.ask_login(machine, user="robot", password=None)
    assert asked_for(others) == {"password"}, "a person's device is no service's"
    await perimeter.disable("robot")
    assert asked_for(await perimeter.ask_login(device, password=None)) == {"password"}


async def test_a_service_has_no_passkeys(perimeter: Perimeter) -> None:
    robot = await perimeter.add_user("robot", None)
    async with perimeter.storage.change() as change:
        await change.db.execute(update(User).where(User.id == robot).values(service=True))
    device = await perimeter.enrol("robot")
    session = (await perimeter.ask_login(device, password=None)).session
    assert session is not None
    for wish in (ListPasskeys(), OfferPasskey()):
        asked = PasskeyRequest(session=session.id, wish=wish)
        reply = await perimeter.passkey_wishes.answer(asked, device=device.id, source="198.51.100.7")
        assert (reply.status, reply.code) == ("refused", "not_for_services")


async def test_a_step_up_sets_no_authenticator_up(perimeter: Perimeter) -> None:
    """Whoever holds an unlocked device must not gain a second factor because an administrator reset the first."""
    machine, _ = await perimeter.enrolled()
    async with perimeter.storage.change() as change:
        await change.db.execute(delete(Totp))
        await change.db.execute(delete(BackupCode))
    reply = await perimeter.ask_step_up(machine)
    assert (reply.status, asked_for(reply)) == ("more", set())
    assert (await perimeter.ask_step_up(machine, otp="123456")).code == "otp_not_set_up"
    assert asked_for(await perimeter.ask_login(machine)) == {"totp_enrolment"}


async def test_a_step_up_opens_what_asked_for_it(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    [session] = perimeter.sessions.live()
    wiki = await perimeter.add_resource("wiki", await perimeter.add_gateway("edge"))
    await perimeter.add_grant(session.user_id, wiki, mfa_within_seconds=60)
    await perimeter.sessions.reevaluate()
    asked = perimeter.sessions.explain(session.id, "wiki")
    assert asked is not None
    assert (asked.allowed, asked.code, asked.fix) == (False, "mfa_stale", "prove it again: gloam login --step-up")
    reply = await perimeter.ask_step_up(machine, backup=codes[0])
    assert reply.session is not None
    assert [(each.name, each.allowed) for each in reply.session.resources] == [("wiki", True)]
