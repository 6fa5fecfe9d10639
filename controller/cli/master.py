"""`gloam-controller master-key`: the key that opens every secret in the database."""

import os
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.options import Json, State, controller_state, done, noun

master_key = noun("master-key", "The master key: it opens every secret in the database.")


@master_key.command("rotate")
def master_key_rotate(
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the new key goes, if it is handed in from outside.")
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Seal every secret anew with a new master key. The controller must be stopped. All or nothing.

    Example: gloam-controller master-key rotate
    """
    from controller.safekeeping.resealing import rotate_master_key

    document = rotate_master_key(controller_state(state), out, os.environ)
    sentence = f"{document['values']} secrets sealed anew; the master key is in {document['master_key']}"
    if out is not None:
        sentence += ": hand it in from now on, and remove the file"
    done(document, sentence, as_json=json)
