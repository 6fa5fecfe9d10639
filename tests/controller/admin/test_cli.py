"""What the administrators' commands refuse before they ask a controller."""

import asyncio
import io
import sys
from pathlib import Path

import pytest
import typer

from console.run import execute
from controller.cli import app
from controller.directory.lookup import listed_by
from lab.processes import script


def told(*arguments: str) -> tuple[int, str]:
    stderr = io.StringIO()
    return execute(app, "gloam-controller", arguments, environ={}, stderr=stderr), stderr.getvalue()


@pytest.mark.parametrize("command", ["check", "apply"])
def test_a_policy_file_that_cannot_be_read_is_named(tmp_path: Path, command: str) -> None:
    gone, noise = tmp_path / "gone.cedar", tmp_path / "noise.cedar"
    noise.write_bytes(b"\xff\xfe")
    start = "gloam-controller: "
    assert told("policy", command, str(gone)) == (
        1,
        f"{start}{gone} cannot be read: No such file or directory; name a policy file\n",
    )
    assert told("policy", command, str(noise)) == (1, f"{start}{noise} is not UTF-8 text; name a policy file\n")


@pytest.mark.parametrize("named", [(), ("3f2a", "--user", "alice"), ("--user", "alice", "--device", "3f2a")])
def test_sessions_to_end_are_named_in_one_way(named: tuple[str, ...]) -> None:
    code, line = told("session", "revoke", *named)
    assert (code, "named in one way; name a session" in line) == (2, True)


async def test_passwords_that_differ_are_refused_in_one_line(tmp_path: Path) -> None:
    command = [script("gloam-controller"), "user", "add", "zoe", "--state", str(tmp_path)]
    in_terminal = f"import pty, sys; sys.exit(pty.spawn({command!r}) >> 8)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", in_terminal, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readuntil(b"Password: ")
    process.stdin.write(b"one horse\n")
    await process.stdout.readuntil(b"Password again: ")
    process.stdin.write(b"two horses\n")
    rest = (await process.stdout.read()).decode()
    assert await process.wait() == 2
    assert rest.split("\r\n") == [
        "",
        "gloam-controller: the two passwords are not the same; run it again, and type the same twice",
        "",
    ]


def test_an_identity_to_unlink_is_named_in_one_way() -> None:
    for named in ((), ("--provider", "corp", "--issuer", "https://login.example.com")):
        code, line = told("user", "unlink", "alice", *named)
        assert (code, "name --provider P or --issuer URL" in line) == (2, True)


@pytest.mark.parametrize(
    "what",
    [
        "user",
        "group",
        "resource",
        "segment",
        "gateway",
        "grant",
        "device",
        "session",
        "passkey",
        "policy",
        "provider",
        "intermediate",
    ],
)
def test_what_lists_a_kind_is_a_command_that_there_is(what: str) -> None:
    """Errors send people there."""
    command: object = typer.main.get_command(app)
    for word in listed_by(what).split():
        command = getattr(command, "commands", {}).get(word)
        assert command is not None, listed_by(what)
