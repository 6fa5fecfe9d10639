"""Logging in by passkey: what counts, what each bad answer is refused for, what the person and an attacker are told."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from controller.identity.by_passkey import LATE, NOT_ACCEPTED, UNVERIFIED
from controller.identity.challenges import LIFETIME
from controller.identity.passkeys import rows_of
from controller.identity.rules import BAD_CREDENTIALS, Told
from controller.storage.models import Passkey, Session, User
from tests.controller.identity.authenticator import BE, UP, UV, Authenticator
from tests.controller.perimeter import PASSWORD, SOURCE, Machine, Perimeter, asked_for, new_csr
from wire.messages import LoginReply, LoginRequest, PasskeyAsk, PasskeyProof, PasswordProof, Proof

PORT = 40_001


@dataclass
class Person:
    """Somebody with a passkey on a machine of theirs."""

    perimeter: Perimeter
    machine: Machine
    user_id: UUID
    passkey: UUID
    authenticator: Authenticator = field(default_factory=Authenticator)

    async def ask(self, *proofs: Proof) -> LoginReply:
        asked = LoginRequest(user=self.machine.user, proofs=proofs, csr=new_csr())
        return await self.perimeter.login.login(asked, device=self.machine.id, source=SOURCE)

    async def challenge(self) -> bytes:
        (ask,) = [each for each in (await self.ask()).asks if isinstance(each, PasskeyAsk)]
        assert self.authenticator.credential in [each.id for each in ask.credentials]
        return ask.challenge

    async def prove(self, challenge: bytes | None = None, **wrong: Any) -> LoginReply:
        changed = wrong.pop("fields", {})
        response = self.authenticator.response(challenge or await self.challenge(), PORT, **wrong)
        return await self.ask(PasskeyProof(**{**response, **changed}))

    async def row(self) -> Passkey:
        async with self.perimeter.storage.read() as db:
            return (await db.scalars(select(Passkey).where(Passkey.id == self.passkey))).one()


async def person(perimeter: Perimeter, name: str, authenticator: Authenticator | None = None) -> Person:
    user = await perimeter.add_user(name)
    made = Person(perimeter, await perimeter.enrol(name), user, uuid4(), authenticator or Authenticator())
    async with perimeter.storage.change() as change:
        change.db.add(
            Passkey(
                id=made.passkey,
                user_id=user,
                name="key",
                credential=made.authenticator.credential,
                public_key=made.authenticator.public_key(),
                sign_count=made.authenticator.count,
                synced=False,
                transports="usb",
                aaguid="",
                created_at=perimeter.clock(),
            )
        )
    return made


async def refused(alice: Person, reply: LoginReply, reason: str, told: Told) -> None:
    """The person is told `told` and nothing else; the audit log has the true reason; nobody is in."""
    assert (reply.status, reply.session, reply.asks) == ("refused", None, ())
    assert Told(reply.code, reply.sentence, reply.fix) == told
    assert (await alice.perimeter.events("login.refused"))[-1].code == reason
    async with alice.perimeter.storage.read() as db:
        assert (await db.scalars(select(Session))).all() == []


async def test_a_passkey_is_two_factors(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    reply = await alice.ask()
    assert asked_for(reply) == {"password", "passkey"}
    done = await alice.prove()
    assert done.status == "done"
    (session,) = perimeter.sessions.live()
    assert session.methods == {"webauthn", "mfa"}
    assert session.mfa_at == perimeter.clock()
    assert (await perimeter.events("login.succeeded"))[-1].methods == ("mfa", "webauthn")
    row = await alice.row()
    assert (row.sign_count, row.last_used_at) == (1, perimeter.clock())
    assert (await alice.prove()).status == "done", "and again, over a challenge of its own"


async def test_a_passkey_counts_behind_a_password_too_and_nothing_else_is_set_up_instead(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    reply = await alice.ask(PasswordProof(password=PASSWORD))
    assert asked_for(reply) == {"passkey"}, "no authenticator app for whoever stole the password"
    ask = reply.asks[0]
    assert isinstance(ask, PasskeyAsk)
    proof = PasskeyProof(**alice.authenticator.response(ask.challenge, PORT))
    assert (await alice.ask(PasswordProof(password=PASSWORD), proof)).status == "done"


async def test_whoever_has_none_is_not_asked_for_one(perimeter: Perimeter) -> None:
    await perimeter.add_user("bob")
    bob = await perimeter.enrol("bob")
    alice = await person(perimeter, "alice")
    assert asked_for(await perimeter.ask_login(bob, password=None)) == {"password"}
    assert asked_for(await perimeter.ask_login(bob, user="alice", password=None)) == {"password"}
    assert asked_for(await perimeter.ask_login(alice.machine, user="nobody", password=None)) == {"password"}


BAD: dict[str, tuple[dict[str, Any], str, Told]] = {
    "wrong origin": ({"origin": "https://attacker.example"}, "passkey_wrong_origin", NOT_ACCEPTED),
    "wrong port": ({"origin": f"http://localhost:{PORT + 1}"}, "passkey_wrong_origin", NOT_ACCEPTED),
    "wrong RP ID": ({"rp_id": "attacker.example"}, "passkey_wrong_rp_id", NOT_ACCEPTED),
    "nobody verified": ({"flags": UP}, "passkey_user_not_verified", UNVERIFIED),
    "nobody present": ({"flags": UV}, "passkey_user_not_present", NOT_ACCEPTED),
    "wrong signature": ({"fields": {"signature": b"\x30\x06" + bytes(6)}}, "passkey_wrong_signature", NOT_ACCEPTED),
    "a registration": ({"kind": "webauthn.create"}, "passkey_wrong_type", NOT_ACCEPTED),
    "in a frame": ({"said": {"crossOrigin": True}}, "passkey_framed", NOT_ACCEPTED),
    "wrong handle": ({"fields": {"user_handle": bytes(32)}}, "passkey_wrong_user_handle", NOT_ACCEPTED),
    "synced now": ({"flags": UP | UV | BE}, "passkey_backup_eligibility_changed", NOT_ACCEPTED),
    "no JSON": ({"fields": {"client_data": b"\xff"}}, "passkey_malformed", NOT_ACCEPTED),
    "unknown passkey": ({"fields": {"credential": bytes(16)}}, "passkey_unknown", NOT_ACCEPTED),
    "a challenge of nobody": ({"challenge": bytes(64)}, "passkey_challenge_unknown", LATE),
}


@pytest.mark.parametrize(("wrong", "reason", "told"), BAD.values(), ids=BAD)
async def test_a_bad_answer_is_refused_for_one_reason(
    perimeter: Perimeter, wrong: dict[str, Any], reason: str, told: Told
) -> None:
    alice = await person(perimeter, "alice")
    await refused(alice, await alice.prove(**wrong), reason, told)
    assert (await alice.row()).sign_count == 0
    assert (await alice.prove()).status == "done", "the passkey itself is as good as before"


async def test_a_challenge_counts_once(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    challenge = await alice.challenge()
    await refused(alice, await alice.prove(challenge, flags=UP), "passkey_user_not_verified", UNVERIFIED)
    await refused(alice, await alice.prove(challenge), "passkey_challenge_used", LATE)


async def test_a_challenge_has_a_deadline(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    challenge = await alice.challenge()
    perimeter.clock.pass_(seconds=LIFETIME.total_seconds())
    await refused(alice, await alice.prove(challenge), "passkey_challenge_expired", LATE)


async def test_a_challenge_of_another_device_does_not_count(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    challenge = await alice.challenge()
    alice.machine = await perimeter.enrol("alice")
    await refused(alice, await alice.prove(challenge), "passkey_challenge_unknown", LATE)


async def test_somebody_elses_passkey_does_not_count(perimeter: Perimeter) -> None:
    alice, mallory = await person(perimeter, "alice"), await person(perimeter, "mallory")
    challenge = await alice.challenge()
    proof = PasskeyProof(**mallory.authenticator.response(challenge, PORT))
    await refused(alice, await alice.ask(proof), "passkey_of_another", NOT_ACCEPTED)


@pytest.mark.parametrize("now", [5, 4, 0])
async def test_a_counter_that_goes_back_blocks_the_passkey_for_good(perimeter: Perimeter, now: int) -> None:
    alice = await person(perimeter, "alice", Authenticator(count=5))
    alice.authenticator.count = now - 1
    if now == 0:
        alice.authenticator.count, alice.authenticator.step = 0, 0
    await refused(alice, await alice.prove(), "passkey_counter_went_back", NOT_ACCEPTED)
    (blocked,) = await perimeter.events("passkey.blocked")
    assert (blocked.user, blocked.passkey, blocked.detail) == ("alice", alice.passkey, f"{now} after 5")
    assert (await alice.row()).blocked_at == perimeter.clock()
    reply = await alice.ask()
    assert asked_for(reply) == {"password"}, "nobody is asked for it any more"
    assert asked_for(await alice.ask(PasswordProof(password=PASSWORD))) == set(), "nor is anything set up instead"


async def test_a_blocked_passkey_stays_blocked_whatever_it_signs(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    challenge = await alice.challenge()
    async with perimeter.storage.change() as change:
        await change.db.execute(update(Passkey).values(blocked_at=perimeter.clock()))
    await refused(alice, await alice.prove(challenge), "passkey_blocked", NOT_ACCEPTED)


async def test_a_removed_passkey_does_not_count(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    challenge = await alice.challenge()
    async with perimeter.storage.change() as change:
        await change.db.execute(update(Passkey).values(removed_at=perimeter.clock()))
    await refused(alice, await alice.prove(challenge), "passkey_removed", NOT_ACCEPTED)
    assert asked_for(await alice.ask()) == {"password"}


async def test_of_two_uses_of_one_counter_one_counts(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    async with perimeter.storage.read() as db:
        user = (await db.scalars(select(User))).one()
        (row,) = await rows_of(db, user.id)
    from controller.identity.passkeys import Signed

    signed = Signed(row.id, before=0, now=1)
    async with perimeter.storage.change() as change:
        assert await signed.use(change, perimeter.clock())
        assert not await signed.use(change, perimeter.clock())
    assert (await alice.row()).sign_count == 1


async def test_a_disabled_person_gets_the_answer_of_a_wrong_password(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    challenge = await alice.challenge()
    await perimeter.disable("alice")
    await refused(alice, await alice.prove(challenge), "user_disabled", BAD_CREDENTIALS)


async def test_a_passkey_steps_a_live_session_up(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    assert (await alice.prove()).status == "done"
    (before,) = perimeter.sessions.live()
    perimeter.clock.pass_(seconds=200)

    async def step_up(*proofs: Proof) -> LoginReply:
        asked = LoginRequest(user="alice", proofs=proofs, step_up=True)
        return await perimeter.login.login(asked, device=alice.machine.id, source=SOURCE)

    (ask,) = [each for each in (await step_up()).asks if isinstance(each, PasskeyAsk)]
    proof = PasskeyProof(**alice.authenticator.response(ask.challenge, PORT))
    assert (await step_up(proof)).status == "done"
    (after,) = perimeter.sessions.live()
    assert (after.id, after.mfa_at) == (before.id, perimeter.clock())
    assert (await step_up(proof)).status == "refused", "a challenge counts once"
