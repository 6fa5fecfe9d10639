"""What cli.md promises of every command, asked of every command there is."""

import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, get_args

import pytest
import typer

import client.cli
import controller.cli
import gateway.cli
from console.run import execute
from spa.cloak import CloakName

WITHOUT_JSON = {"gloam agent", "gloam lab"}  # nobody types the first; the second stays up and talks to people


def every_command() -> Iterator[tuple[str, Any]]:
    for name, app in (
        ("gloam", client.cli.app),
        ("gloam-controller", controller.cli.app),
        ("gloam-gateway", gateway.cli.app),
    ):
        yield from _below(name, typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, below in children.items():
        yield from _below(f"{name} {child}", below)


COMMANDS = dict(every_command())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    told = f"{command.help or ''} {command.epilog or ''}"
    assert command.help
    if not command.hidden:
        assert "Example: " in told, told


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_JSON))
def test_a_command_speaks_to_machines(name: str) -> None:
    assert "--json" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_password_is_never_an_argument(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert not {"--secret", "--key"} & options
    for parameter in COMMANDS[name].params:
        if "--password" in parameter.opts:
            assert parameter.is_flag


def test_the_cloaks_to_choose_from_are_the_cloaks_there_are() -> None:
    assert get_args(gateway.cli.CloakChoice) == tuple(CloakName)


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("gloam", client.cli.app),
        ("gloam-controller", controller.cli.app),
        ("gloam-gateway", gateway.cli.app),
    ],
)
def test_a_command_line_says_its_version(name: str, app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(app, name, ["--version"], environ={}, stderr=sys.stderr) == 0
    assert capsys.readouterr().out == f"{name} {version('gloam')}\n"
