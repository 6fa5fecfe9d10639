"""`gloam-controller backup`, `restore`: a controller as one encrypted file, and back."""

import os
from pathlib import Path
from typing import Annotated

import typer

from certs.secret import Secret
from controller.cli.options import Json, State, controller_state, done
from controller.cli.passphrases import PassphraseStdin, new_passphrase, old_passphrase


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    recipient: Annotated[
        list[str] | None,
        typer.Option("--recipient", help="Encrypt for this age recipient (age1…); repeatable."),
    ] = None,
    passphrase_stdin: PassphraseStdin = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the whole controller (database, master key, settings) to one file in the age format. It may be running.

    Example: gloam-controller backup /var/backups/gloam.age
    """
    from controller.safekeeping.backup import back_up
    from controller.safekeeping.encrypted import Lock

    lock = Lock(recipients=tuple(recipient)) if recipient else Lock(new_passphrase(stdin=passphrase_stdin))
    document = back_up(controller_state(state), file, lock, os.environ)
    sentence = f"{file} written ({document['bytes']} bytes): whoever opens it is the CA, so keep it as you keep that"
    done(document, sentence, as_json=json)


def restore(
    file: Annotated[Path, typer.Argument(help="What backup wrote.")],
    identity: Annotated[
        Path | None, typer.Option("--identity", help="The age identity file of a recipient, instead of a passphrase.")
    ] = None,
    database: Annotated[str | None, typer.Option("--database", help="Another database, empty.")] = None,
    passphrase_stdin: PassphraseStdin = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Make the controller of a backup in an empty state directory. All or nothing.

    Example: gloam-controller restore /var/backups/gloam.age
    """
    from controller.safekeeping.encrypted import Key, read_file
    from controller.safekeeping.restore import restore as restore_backup

    if identity is not None:
        key = Key(identity=Secret(read_file(identity)))
    else:
        key = Key(passphrase=old_passphrase(stdin=passphrase_stdin))
    document = restore_backup(controller_state(state), file, key, os.environ, database=database)
    who, when = f"{document['controller']} of {document['domain']}", document["backup_made_at"]
    sessions, invites = document["sessions_ended"], document["invites_closed"]
    sentences = (
        f"controller {who} restored as it was at {when}",
        f"closed: {sessions} sessions (people log in again), {invites} open invites",
        "not known here is what happened since: repeat revocations of devices, disabled users and removed grants;",
        "machines enrolled or renewed since need a new invite; backup codes used since count again",
        f"next: gloam-controller run --state {document['state']}",
    )
    done(document, "\n".join(sentences), as_json=json)
