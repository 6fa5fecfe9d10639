"""What people change about how they prove who they are: only with enough proof, once, and audited."""

import asyncio

import pytest
from sqlalchemy import select, update

from certs import Secret
from controller.identity import totp
from controller.identity.passkey_admin import PasskeyAdmin
from controller.storage.models import BackupCode, NextTotp, Totp, User
from controller.users import UserService
from tests.controller.perimeter import PASSWORD, Machine, Perimeter, asked_for
from wire.messages import AccountReply, ConfirmAuthenticator, NewAuthenticator, NewBackupCodes, NewPassword

NEW = "another battery staple horse"


def secret_in(reply: AccountReply) -> Secret:
    assert reply.totp_uri is not None
    return Secret(reply.totp_uri.partition("secret=")[2].partition("&")[0].encode())


async def code_of(perimeter: Perimeter, secret: Secret) -> str:
    return totp.code_of(secret, totp.step_of(perimeter.clock()))


async def test_a_change_takes_what_a_login_takes(perimeter: Perimeter) -> None:
    machine, _ = await perimeter.enrolled()
    nothing = await perimeter.ask_account(machine, NewBackupCodes())
    assert asked_for(nothing) == {"password"}
    half = await perimeter.ask_account(machine, NewBackupCodes(), password=PASSWORD)
    assert asked_for(half) == {"otp", "backup_code"}
    wrong = await perimeter.ask_account(machine, NewBackupCodes(), password="wrong")
    assert (wrong.status, wrong.code) == ("refused", "bad_credentials")
    [event] = await perimeter.events("account.change_refused")
    assert (event.what, event.code, event.user) == ("backup_codes", "wrong_password", "alice")
    others = await perimeter.ask_account(machine, NewBackupCodes(), user="bob", password=PASSWORD)
    assert (others.status, others.code) == ("refused", "bad_credentials")


async def test_new_backup_codes_take_the_place_of_the_old(perimeter: Perimeter) -> None:
    machine, old = await perimeter.enrolled()
    reply = await perimeter.ask_account(machine, NewBackupCodes(), password=PASSWORD, backup=old[0])
    assert reply.status == "done"
    assert len(reply.backup_codes) == 10
    assert not set(reply.backup_codes) & set(old)
    assert perimeter.sessions.live()[0].backup_codes == 10
    assert (await perimeter.ask_login(machine, backup=old[1])).code == "backup_code_wrong"
    assert (await perimeter.ask_login(machine, backup=reply.backup_codes[0])).status == "done"
    async with perimeter.storage.read() as db:
        rows = (await db.scalars(select(BackupCode))).all()
    assert len(rows) == 10
    stored = b"".join(row.digest for row in rows)
    assert not any(code.encode() in stored for code in reply.backup_codes)


async def test_a_password_is_changed_if_the_new_one_is_strong(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    weak = await perimeter.ask_account(machine, NewPassword(password="alice1"), password=PASSWORD, backup=codes[0])
    assert (weak.status, weak.code) == ("refused", "weak_password")
    assert "password manager" in weak.fix
    done = await perimeter.ask_account(machine, NewPassword(password=NEW), password=PASSWORD, backup=codes[0])
    assert done.status == "done", "the weak one used no code up"
    assert (await perimeter.ask_login(machine)).code == "bad_credentials"
    assert asked_for(await perimeter.ask_login(machine, password=NEW)) == {"otp", "backup_code"}
    [event] = await perimeter.events("password.changed")
    assert (event.user, event.device) == ("alice", machine.id)
    everything = repr(await perimeter.events())
    assert NEW not in everything
    assert codes[0] not in everything


async def test_a_new_authenticator_counts_once_a_code_of_it_was_seen(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    offered = await perimeter.ask_account(
        machine, NewAuthenticator(), password=PASSWORD, otp=await perimeter.code("alice")
    )
    assert offered.status == "done"
    secret = secret_in(offered)
    old = await perimeter.code("alice")
    perimeter.clock.pass_(seconds=60)
    wrong = await perimeter.ask_account(machine, ConfirmAuthenticator(code=old))
    assert (wrong.status, wrong.code) == ("refused", "otp_wrong")
    assert (await perimeter.ask_login(machine, otp=await perimeter.code("alice"))).status == "done", (
        "the old one counts"
    )
    done = await perimeter.ask_account(machine, ConfirmAuthenticator(code=await code_of(perimeter, secret)))
    assert done.status == "done"
    used = await perimeter.ask_login(machine, otp=await code_of(perimeter, secret))
    assert used.code == "otp_used", "the step that confirmed it is used up"
    perimeter.clock.pass_(seconds=30)
    assert (await perimeter.ask_login(machine, otp=await code_of(perimeter, secret))).status == "done"
    again = await perimeter.ask_account(machine, ConfirmAuthenticator(code=await code_of(perimeter, secret)))
    assert (again.status, again.code) == ("refused", "authenticator_not_offered")
    assert len(await perimeter.events("totp.replaced")) == 1
    assert (await perimeter.ask_login(machine, backup=codes[0])).status == "done", "backup codes are still good"


@pytest.mark.parametrize("case", ["another device", "too late", "never offered"])
async def test_a_new_authenticator_is_confirmed_where_and_when_it_was_shown(perimeter: Perimeter, case: str) -> None:
    machine, codes = await perimeter.enrolled()
    secret = totp.new_secret()
    if case != "never offered":
        offer = await perimeter.ask_account(machine, NewAuthenticator(), password=PASSWORD, backup=codes[0])
        secret = secret_in(offer)
    where: Machine = await perimeter.enrol("alice") if case == "another device" else machine
    if case == "too late":
        perimeter.clock.pass_(minutes=10, seconds=1)
    reply = await perimeter.ask_account(where, ConfirmAuthenticator(code=await code_of(perimeter, secret)))
    assert (reply.status, reply.code) == ("refused", "authenticator_not_offered")
    async with perimeter.storage.read() as db:
        assert (await db.scalars(select(Totp.created_at))).one() < perimeter.clock()
        assert len((await db.scalars(select(NextTotp))).all()) == (case != "never offered")


@pytest.mark.parametrize(
    "case", ["reset", "password", "no password", "disabled", "passkeys", "own password", "service", "revoked", "newer"]
)
async def test_an_authenticator_that_was_offered_is_void_once_the_account_was_taken_back(
    perimeter: Perimeter, case: str
) -> None:
    """A thief with a password and one code begins, and waits; nothing that an administrator does may leave that."""
    machine, codes = await perimeter.enrolled()
    offer = await perimeter.ask_account(machine, NewAuthenticator(), password=PASSWORD, backup=codes[0])
    [offered] = await perimeter.events("totp.offered")
    assert (offered.user, offered.device) == ("alice", machine.id)
    perimeter.clock.pass_(seconds=1)
    users = UserService(perimeter.storage, perimeter.directory, perimeter.passwords.hash_new, perimeter.clock)
    match case:
        case "reset":
            await users.set("alice", reset_totp=True, actor="admin/0")
        case "password":
            await users.set("alice", password=NEW, actor="admin/0")
        case "no password":
            await users.set("alice", no_password=True, actor="admin/0")
        case "disabled":
            await users.disable("alice", actor="admin/0")
            await users.enable("alice", actor="admin/0")
        case "passkeys":
            await PasskeyAdmin(perimeter.storage, perimeter.clock).reset("alice", actor="admin/0")
        case "own password":
            other = await perimeter.enrol("alice")
            change = NewPassword(password=NEW)
            assert (await perimeter.ask_account(other, change, password=PASSWORD, backup=codes[1])).status == "done"
        case "service":
            assert (await users.set("alice", service=True, actor="admin/0")).kind
            assert (await users.set("alice", service=False, actor="admin/0")).kind
        case "revoked":
            await perimeter.devices.revoke(machine.id, actor="admin/0")
        case "newer":
            async with perimeter.storage.change() as change:
                await change.db.execute(update(Totp).values(created_at=perimeter.clock(), sealed_secret=b"another"))
    async with perimeter.storage.read() as db:
        before = (await db.scalars(select(Totp.sealed_secret))).all()
    reply = await perimeter.ask_account(machine, ConfirmAuthenticator(code=await code_of(perimeter, secret_in(offer))))
    assert reply.status == "refused", reply
    async with perimeter.storage.read() as db:
        assert (await db.scalars(select(Totp.sealed_secret))).all() == before
    assert await perimeter.events("totp.replaced") == []


async def test_of_two_changes_with_one_backup_code_at_once_one_is_made(any_perimeter: Perimeter) -> None:
    machine, codes = await any_perimeter.enrolled()
    other = await any_perimeter.enrol("alice")
    proof = {"password": PASSWORD, "backup": codes[0]}
    asked = (any_perimeter.ask_account(each, NewBackupCodes(), **proof) for each in (machine, other))
    replies = await asyncio.gather(*asked)
    assert sorted(reply.status for reply in replies) == ["done", "refused"]


async def test_a_disabled_person_changes_nothing(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    await perimeter.disable("alice")
    for change in (NewBackupCodes(), NewPassword(password=NEW), NewAuthenticator()):
        reply = await perimeter.ask_account(machine, change, password=PASSWORD, backup=codes[0])
        assert (reply.status, reply.code) == ("refused", "bad_credentials")
    assert {each.code for each in await perimeter.events("account.change_refused")} == {"user_disabled"}
    async with perimeter.storage.read() as db:
        assert await db.scalar(select(BackupCode.used_at).where(BackupCode.used_at.is_not(None))) is None
        assert (await db.scalars(select(User.password_hash))).one() is not None


async def test_guessing_at_a_new_authenticator_is_slowed(perimeter: Perimeter) -> None:
    machine, codes = await perimeter.enrolled()
    await perimeter.ask_account(machine, NewAuthenticator(), password=PASSWORD, backup=codes[0])
    for _ in range(5):
        assert (await perimeter.ask_account(machine, ConfirmAuthenticator(code="000000"))).code == "otp_wrong"
    assert (await perimeter.ask_account(machine, ConfirmAuthenticator(code="000000"))).code == "too_many_attempts"
