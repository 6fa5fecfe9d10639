"""What is typed at a terminal, unseen.

Law: what is new is typed twice, and a difference is refused in one line: whoever mistyped runs the command again.
"""

import typer

from console.errors import CommandError, ExitCode


def typed_twice(label: str) -> str:
    """A new secret, asked for twice at the terminal. Raises CommandError where the two differ."""
    first = str(typer.prompt(label, hide_input=True, err=True))
    if str(typer.prompt(f"{label} again", hide_input=True, err=True)) != first:
        what = f"the two {label.lower()}s are not the same"
        raise CommandError(what, "run it again, and type the same twice", ExitCode.USAGE)
    return first
