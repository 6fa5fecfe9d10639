"""`gloam passkey add`, `list`, `remove`: one's own passkeys, in a live session."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from client.agent.messages import PasskeyAnswer, PasskeyCall
from client.ask import ask_session
from client.passkey.ceremony import ask_registration
from client.state import ClientState
from console.errors import CommandError, ExitCode
from console.output import Output
from console.text import visible
from wire.messages import (
    AddPasskey,
    ListPasskeys,
    OfferPasskey,
    PasskeyName,
    PasskeyReply,
    PasskeyView,
    PasskeyWish,
    RemovePasskey,
)

SHORTEST_BEGINNING: Final = 4  # of an identifier: fewer characters are a typing error
_NAME: Final[TypeAdapter[str]] = TypeAdapter(PasskeyName)


def add(state: ClientState, name: str, output: Output, *, browser: bool) -> None:
    """Has the person make a passkey in their browser, and registers it. Raises CommandError."""
    added = asyncio.run(_add(state, checked_name(name), browser=browser))
    output.show(_document(added), lambda console: console.print(visible(f"Added the passkey {added.name}.")))


def show(state: ClientState, output: Output) -> None:
    """Lists one's passkeys. Raises CommandError."""
    passkeys = asyncio.run(_ask(state, ListPasskeys())).passkeys
    if output.json:
        output.show([_document(each) for each in passkeys])
    elif not passkeys:
        output.say("You have no passkey. Add one: gloam passkey add NAME")
    else:
        rows = [
            (each.name, _time(each.created_at), _time(each.last_used_at), _state(each), str(each.id))
            for each in passkeys
        ]
        output.table("Passkeys", ("NAME", "ADDED", "LAST USED", "STATE", "ID"), rows)


def remove(state: ClientState, name: str, output: Output) -> None:
    """Removes one of one's passkeys, by its name or identifier. Raises CommandError."""
    removed = asyncio.run(_remove(state, name))
    output.show(_document(removed), lambda console: console.print(visible(f"Removed the passkey {removed.name}.")))


def checked_name(typed: str) -> str:
    """The name as it will be kept. Raises CommandError before an authenticator makes what nobody would take."""
    try:
        return _NAME.validate_python(typed.strip())
    except ValidationError:
        what = "that is no name for a passkey" if typed.strip() else "the name of the passkey is blank"
        raise CommandError(what, "give one line of at most 64 characters", ExitCode.USAGE) from None


async def _add(state: ClientState, name: str, *, browser: bool) -> PasskeyView:
    offered = await _ask(state, OfferPasskey())
    if offered.offer is None:
        raise CommandError("the controller offered nothing to make a passkey with", "update gloam")
    if name in {each.name for each in offered.passkeys}:
        raise CommandError(f"you have a passkey {name!a}", "choose another name")
    before = {each.id for each in offered.passkeys}
    after: list[PasskeyView] = []

    async def judge(made: AddPasskey) -> str:
        reply = await _ask(state, made)
        after.extend(each for each in reply.passkeys if each.id not in before and each.name == name)
        return f"The passkey {name} was added."

    await ask_registration(state, offered.offer, name, judge, browser=browser)
    return after[0]


async def _remove(state: ClientState, name: str) -> PasskeyView:
    passkeys = (await _ask(state, ListPasskeys())).passkeys
    found = [each for each in passkeys if each.name == name] or [
        each for each in passkeys if len(name) >= SHORTEST_BEGINNING and str(each.id).startswith(name.lower())
    ]
    if len(found) != 1:
        what = f"{len(found)} of your passkeys begin with {name!a}" if found else f"you have no passkey {name[:64]!a}"
        raise CommandError(what, "see: gloam passkey list")
    await _ask(state, RemovePasskey(passkey=found[0].id))
    return found[0]


async def _ask(state: ClientState, wish: PasskeyWish) -> PasskeyReply:
    answer = await ask_session(state, PasskeyCall(wish=wish))
    if not isinstance(answer, PasskeyAnswer):
        raise CommandError("the agent answered something else", "run gloam logout and log in again")
    reply = answer.reply
    if reply.status == "refused":
        exit_code = ExitCode.DENIED if reply.code == "step_up_needed" else ExitCode.FAILED
        raise CommandError(reply.sentence or "the controller refused", reply.fix or "ask your administrator", exit_code)
    return reply


def _document(passkey: PasskeyView) -> dict[str, Any]:
    return passkey.model_dump()


def _row(passkey: PasskeyView) -> tuple[str, ...]:
    added, used = _time(passkey.created_at), _time(passkey.last_used_at)
    return passkey.name, added, used, _state(passkey), str(passkey.id)


def _state(passkey: PasskeyView) -> str:
    if passkey.blocked:
        return "blocked: there may be a copy; remove it and tell your administrator"
    return "synced" if passkey.synced else "good"


def _time(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
