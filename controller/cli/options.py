"""Options that every command has, and where they lead."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from console.output import Output
from console.state import state_directory
from controller.admin.client import call

State = Annotated[
    Path | None, typer.Option("--state", help="The state directory (else $GLOAM_STATE, else the usual place).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def controller_state(state: Path | None) -> Path:
    """The controller's state directory."""
    return state_directory(state, "controller", os.environ)


def ask(state: Path | None, command: str, **arguments: Any) -> Any:
    """The running controller's answer."""
    return call(controller_state(state), command, **arguments)


def noun(name: str, help_: str) -> typer.Typer:
    """A group of commands about one thing."""
    return typer.Typer(name=name, help=help_, no_args_is_help=True, rich_markup_mode=None)


def done(document: Any, sentence: str, *, as_json: bool) -> None:
    """Say that it is done: the document for machines, a sentence for people."""
    Output(json=as_json).show(document, lambda console: console.print(sentence))


def table(documents: list[dict[str, Any]], title: str, columns: dict[str, str], *, as_json: bool) -> None:
    """A list: the documents for machines, a table of `columns` (key → heading) for people."""
    output = Output(json=as_json)
    if as_json:
        output.show(documents)
    else:
        output.table(title, list(columns.values()), ([each.get(key) for key in columns] for each in documents))
