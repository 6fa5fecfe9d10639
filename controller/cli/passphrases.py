"""Passphrases of files: asked for with the echo off, or read from a pipe; never on the command line."""

import sys
from typing import Annotated

import typer

from certs.secret import Secret
from console.errors import CommandError, ExitCode
from console.piped import piped_line
from console.typed import typed_twice

PassphraseStdin = Annotated[bool, typer.Option("--passphrase-stdin", help="Read the passphrase from standard input.")]


def new_passphrase(*, stdin: bool) -> Secret:
    """A passphrase to encrypt with: from a pipe, or asked for twice."""
    return _passphrase(stdin=stdin, twice=True)


def old_passphrase(*, stdin: bool) -> Secret:
    """A passphrase to decrypt with."""
    return _passphrase(stdin=stdin, twice=False)


def _passphrase(*, stdin: bool, twice: bool) -> Secret:
    if stdin:
        text = piped_line()
    elif sys.stdin.isatty():
        text = typed_twice("Passphrase") if twice else str(typer.prompt("Passphrase", hide_input=True, err=True))
    else:
        raise CommandError("no passphrase", "pipe it in and say --passphrase-stdin", ExitCode.USAGE)
    if not text or not text.isprintable():
        raise CommandError("the passphrase is not one line of text", "give printable characters", ExitCode.USAGE)
    return Secret(text.encode())
