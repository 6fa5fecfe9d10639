"""What people do with their passkeys: what is needed for it, and what each bad wish is refused for."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from controller.errors import Refused
from controller.identity.passkey_admin import PasskeyAdmin
from controller.identity.passkey_wishes import RECENT
from tests.controller.identity.authenticator import BE, BS, UP, UV, Authenticator
from tests.controller.perimeter import SOURCE, Machine, Perimeter, new_csr
from tests.controller.served import Served
from wire.messages import (
    MAX_PASSKEYS,
    AddPasskey,
    ListPasskeys,
    LoginRequest,
    OfferPasskey,
    PasskeyAsk,
    PasskeyProof,
    PasskeyReply,
    PasskeyRequest,
    PasskeyWish,
    RemovePasskey,
    parse,
)

PORT = 40_001


@dataclass
class Person:
    """Somebody who is logged in."""

    perimeter: Perimeter
    machine: Machine
    session: UUID
    authenticator: Authenticator = field(default_factory=Authenticator)

    async def wish(self, wish: PasskeyWish, **changed: Any) -> PasskeyReply:
        asked = PasskeyRequest(session=changed.get("session", self.session), wish=wish)
        device = changed.get("device", self.machine.id)
        return await self.perimeter.passkey_wishes.answer(asked, device=device, source=SOURCE)

    async def challenge(self) -> bytes:
        reply = await self.wish(OfferPasskey())
        assert reply.offer is not None, reply
        return reply.offer.challenge

    async def add(self, name: str = "key", *, challenge: bytes | None = None, **wrong: Any) -> PasskeyReply:
        changed = wrong.pop("fields", {})
        made = self.authenticator.registration(challenge or await self.challenge(), PORT, name, **wrong)
        return await self.wish(AddPasskey(**{**made, **changed}))


async def person(perimeter: Perimeter, name: str) -> Person:
    await perimeter.add_user(name)
    machine = await perimeter.enrol(name)
    return Person(perimeter, machine, (await perimeter.log_in(machine)).id)


async def refused(alice: Person, reply: PasskeyReply, reason: str, code: str) -> None:
    """Nothing was changed, the person is told so, and the audit log has the true reason."""
    assert (reply.status, reply.code, reply.passkeys, reply.offer) == ("refused", code, (), None)
    assert reply.sentence
    assert reply.fix
    assert (await alice.perimeter.events("passkey.refused"))[-1].code == reason


async def test_a_passkey_is_added_listed_used_and_removed(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    assert (await alice.wish(ListPasskeys())).passkeys == ()
    (view,) = (await alice.add("blue key")).passkeys
    assert (view.name, view.synced, view.blocked, view.last_used_at) == ("blue key", False, False, None)
    (event,) = await perimeter.events("passkey.added")
    assert (event.user, event.passkey, event.session, event.name) == ("alice", view.id, alice.session, "blue key")

    async def log_in(*proofs: PasskeyProof) -> Any:
        asked = LoginRequest(proofs=proofs, csr=new_csr())
        return await perimeter.login.login(asked, device=alice.machine.id, source=SOURCE)

    (ask,) = [each for each in (await log_in()).asks if isinstance(each, PasskeyAsk)]
    assert ask.credentials[0].transports == ("internal",)
    done = await log_in(PasskeyProof(**alice.authenticator.response(ask.challenge, PORT)))
    assert done.status == "done", done
    alice.session = done.session.id
    assert (await alice.wish(ListPasskeys())).passkeys[0].last_used_at == perimeter.clock()
    reply = await alice.wish(RemovePasskey(passkey=view.id))
    assert (reply.status, reply.passkeys) == ("done", ())
    assert [event.actor for event in await perimeter.events("passkey.removed")] == [""]
    await refused(alice, await alice.wish(RemovePasskey(passkey=view.id)), "passkey_not_found", "passkey_not_found")


async def test_several_have_names_and_the_browser_is_told_of_those_there_are(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    first = alice.authenticator
    await alice.add("first")
    perimeter.clock.pass_(seconds=1)
    alice.authenticator = Authenticator(flags=UP | UV | BE | BS, step=0)
    reply = await alice.wish(OfferPasskey())
    assert reply.offer is not None
    assert [each.id for each in reply.offer.exclude] == [first.credential]
    reply = await alice.add("second")
    assert [(each.name, each.synced) for each in reply.passkeys] == [("first", False), ("second", True)]
    alice.authenticator = Authenticator()
    await refused(alice, await alice.add("second"), "passkey_name_taken", "passkey_name_taken")


@pytest.mark.parametrize("wish", [OfferPasskey(), RemovePasskey(passkey=UUID(int=1))], ids=["add", "remove"])
async def test_a_second_factor_that_is_not_recent_changes_nothing(perimeter: Perimeter, wish: PasskeyWish) -> None:
    alice = await person(perimeter, "alice")
    perimeter.clock.pass_(seconds=RECENT.total_seconds())
    assert (await alice.wish(OfferPasskey())).status == "done"
    challenge = await alice.challenge()
    perimeter.clock.pass_(seconds=1)
    await refused(alice, await alice.wish(wish), "step_up_needed", "step_up_needed")
    assert (await alice.wish(ListPasskeys())).status == "done"
    assert (await alice.add(challenge=challenge)).status == "done", "it was begun in time"


async def test_only_the_device_of_a_live_session_is_answered(perimeter: Perimeter) -> None:
    alice, mallory = await person(perimeter, "alice"), await person(perimeter, "mallory")
    (view,) = (await alice.add()).passkeys
    reply = await mallory.wish(ListPasskeys(), session=alice.session)
    await refused(mallory, reply, "session_unknown", "session_unknown")
    assert (await alice.wish(ListPasskeys(), session=uuid4())).code == "session_unknown"
    await refused(mallory, await mallory.wish(RemovePasskey(passkey=view.id)), "passkey_not_found", "passkey_not_found")
    await perimeter.sessions.end(alice.session, "revoked", "over", "admin")
    assert (await alice.wish(OfferPasskey())).code == "session_unknown"


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "wrong origin": ({"origin": "https://attacker.example"}, "passkey_wrong_origin", "passkey_refused"),
    "wrong RP ID": ({"rp_id": "attacker.example"}, "passkey_wrong_rp_id", "passkey_refused"),
    "nobody verified": ({"flags": UP}, "passkey_user_not_verified", "passkey_unverified"),
    "nobody present": ({"flags": UV}, "passkey_user_not_present", "passkey_refused"),
    "an assertion": ({"kind": "webauthn.get"}, "passkey_wrong_type", "passkey_refused"),
    "no CBOR": ({"fields": {"attestation": bytes(40)}}, "passkey_malformed", "passkey_refused"),
    "a challenge of nobody": ({"challenge": bytes(64)}, "passkey_challenge_unknown", "passkey_late"),
}


@pytest.mark.parametrize(("wrong", "reason", "code"), BAD.values(), ids=BAD)
async def test_a_bad_passkey_is_refused_for_one_reason(
    perimeter: Perimeter, wrong: dict[str, Any], reason: str, code: str
) -> None:
    alice = await person(perimeter, "alice")
    await refused(alice, await alice.add(**wrong), reason, code)
    assert (await alice.wish(ListPasskeys())).passkeys == ()


async def test_a_challenge_is_for_one_session_and_counts_once(perimeter: Perimeter) -> None:
    alice, mallory = await person(perimeter, "alice"), await person(perimeter, "mallory")
    challenge = await alice.challenge()
    await refused(mallory, await mallory.add(challenge=challenge), "passkey_challenge_unknown", "passkey_late")
    (_view,) = (await alice.add(challenge=challenge)).passkeys
    alice.authenticator = Authenticator()
    await refused(alice, await alice.add("other", challenge=challenge), "passkey_challenge_used", "passkey_late")
    challenge = await alice.challenge()
    alice.session = (await perimeter.log_in(alice.machine)).id
    await refused(alice, await alice.add("other", challenge=challenge), "passkey_challenge_unknown", "passkey_late")


async def test_a_challenge_of_a_login_adds_nothing(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    await alice.add()
    asked = LoginRequest(csr=new_csr())
    reply = await perimeter.login.login(asked, device=alice.machine.id, source=SOURCE)
    (ask,) = [each for each in reply.asks if isinstance(each, PasskeyAsk)]
    alice.authenticator = Authenticator()
    await refused(alice, await alice.add("b", challenge=ask.challenge), "passkey_challenge_unknown", "passkey_late")


async def test_a_passkey_belongs_to_one_person_and_to_the_past_once_removed(perimeter: Perimeter) -> None:
    alice, mallory = await person(perimeter, "alice"), await person(perimeter, "mallory")
    (view,) = (await alice.add()).passkeys
    mallory.authenticator = alice.authenticator
    await refused(mallory, await mallory.add(), "passkey_there_already", "passkey_there_already")
    await alice.wish(RemovePasskey(passkey=view.id))
    await refused(alice, await alice.add(), "passkey_there_already", "passkey_there_already")


async def test_nobody_has_too_many(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    for number in range(MAX_PASSKEYS):
        alice.authenticator = Authenticator()
        assert (await alice.add(f"key {number}")).status == "done"
    await refused(alice, await alice.wish(OfferPasskey()), "too_many_passkeys", "too_many_passkeys")


async def test_administrators_list_remove_and_reset(perimeter: Perimeter) -> None:
    alice = await person(perimeter, "alice")
    (view,) = (await alice.add("one")).passkeys
    for name in ("two", "three"):
        perimeter.clock.pass_(seconds=1)
        alice.authenticator = Authenticator()
        await alice.add(name)
    admin = PasskeyAdmin(perimeter.storage, perimeter.clock)
    assert [(each.user, each.name, each.state) for each in await admin.listing("alice")] == [
        ("alice", "one", "good"),
        ("alice", "two", "good"),
        ("alice", "three", "good"),
    ]
    assert await admin.remove(view.id, actor="root")
    assert not await admin.remove(view.id, actor="root")
    assert not await admin.remove(uuid4(), actor="root")
    assert await admin.reset("alice", actor="root") == 2
    assert await admin.listing() == []
    assert [event.actor for event in await perimeter.events("passkey.removed")] == ["root"] * 3
    for wrong in (admin.listing("nobody"), admin.reset("nobody", actor="root")):
        with pytest.raises(Refused, match="no user"):
            await wrong


@pytest.mark.parametrize(
    "changed",
    [
        {"client_data": "A" * 6_000},
        {"attestation": "A" * 12_000},
        {"credential": "A" * 1_400},
        {"credential": "AAAA"},
        {"name": "x" * 65},
        {"name": "\u001b[2J"},
        {"port": 80},
        {"transports": ["usb"] * 9},
        {"more": 1},
    ],
    ids=lambda each: next(iter(each)),
)
async def test_what_is_too_much_is_refused_at_the_door_and_audited(
    perimeter: Perimeter, served: Served, changed: dict[str, Any]
) -> None:
    alice = await person(perimeter, "alice")
    made = alice.authenticator.registration(await alice.challenge(), PORT)
    body = PasskeyRequest(session=alice.session, wish=AddPasskey(**made)).model_dump(mode="json")
    http = served.client(alice.machine.identity)
    async with http.post("/v1/passkeys", json=body | {"wish": body["wish"] | changed}) as response:
        assert response.status == 422
    assert [event.device for event in await perimeter.events("client.protocol_error")] == [alice.machine.id]
    async with http.post("/v1/passkeys", json=body) as response:
        assert parse(PasskeyReply, await response.read()).status == "done"
