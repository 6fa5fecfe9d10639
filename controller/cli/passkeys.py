"""`gloam-controller passkey`: people's passkeys."""

from typing import Annotated

import typer

from console.output import counted
from controller.cli.options import Json, State, ask, done, noun, table

passkey = noun("passkey", "People's passkeys and security keys.")


@passkey.command("list")
def passkey_list(
    user: Annotated[str | None, typer.Argument(help="Only this person's.")] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """List passkeys, and which of them are blocked.

    Example: gloam-controller passkey list alice
    """
    columns = {
        "id": "ID", "user": "USER", "name": "NAME", "created_at": "ADDED", "last_used_at": "LAST USED",
        "synced": "SYNCED", "state": "STATE",
    }  # fmt: skip
    table(ask(state, "passkey.list", user=user), "Passkeys", columns, as_json=json)


@passkey.command("remove")
def passkey_remove(id: str, state: State = None, json: Json = False) -> None:  # noqa: A002 - what the user types
    """Take one passkey away: a lost key, or one that is blocked.

    Example: gloam-controller passkey remove 3f2a…
    """
    done(ask(state, "passkey.remove", id=id), f"passkey {id} removed", as_json=json)


@passkey.command("reset")
def passkey_reset(user: str, state: State = None, json: Json = False) -> None:
    """Take all of a person's passkeys away: they log in with password and code, and add new ones.

    Example: gloam-controller passkey reset alice
    """
    document = ask(state, "passkey.reset", name=user)
    done(document, f"{counted(document['removed'], 'passkey')} of {user} removed", as_json=json)
