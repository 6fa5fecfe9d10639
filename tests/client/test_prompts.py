"""What `gloam login` asks a person at a terminal, and how they get away."""

import asyncio
import sys

import pytest

from tests.client.commands import Gloam
from tests.client.perimeter import Perimeter


async def test_a_person_is_asked_for_what_is_missing(gloam: Gloam, perimeter: Perimeter) -> None:
    perimeter.controller.answers.totp_enrolled = False
    in_terminal = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'client.cli', 'login']) >> 8)"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        in_terminal,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**gloam._environ, "COLUMNS": "200"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked = await process.stdout.readuntil(b"Password of ada: ")
    process.stdin.write(b"correct horse\n")
    shown = await process.stdout.readuntil(b"Code of the authenticator: ")
    process.stdin.write(b"123 456\n")
    rest = await process.stdout.read()
    assert await process.wait() == 0, rest
    assert "\u2580".encode() in shown  # half blocks: the QR code
    assert b"otpauth://totp/" in shown
    assert b"You may reach wiki:80." in rest
    assert b"correct horse" not in asked + shown + rest  # no echo


async def test_a_person_with_a_passkey_may_use_it_instead_of_the_password(gloam: Gloam, perimeter: Perimeter) -> None:
    perimeter.controller.answers.passkey_of = "example.test"
    in_terminal = "import pty, sys; pty.spawn([sys.executable, '-m', 'client.cli', 'login', '--no-browser'])"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        in_terminal,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**gloam._environ, "COLUMNS": "200"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readuntil(b"Password of ada (only Enter: a passkey, in your browser): ")
    process.stdin.write(b"\n")
    await process.stdout.readuntil(b"http://localhost:")
    process.stdin.write(b"\x03")
    await process.stdout.read()
    await process.wait()
    assert len(perimeter.controller.logins) == 1


async def test_a_challenge_for_another_perimeter_is_shown_to_nobody(gloam: Gloam, perimeter: Perimeter) -> None:
    perimeter.controller.answers.passkey_of = "another.test"
    done = await gloam("login", "--passkey", "--no-browser")
    assert done.code == 1
    assert "a challenge that is not for this machine" in done.err
    assert "http://" not in done.err + done.out


async def test_a_passkey_that_is_not_there_is_an_error_that_says_what_helps(gloam: Gloam, perimeter: Perimeter) -> None:
    done = await gloam("login", "--passkey")
    assert (done.code, "gloam passkey add" in done.err) == (1, True)


INTERRUPT = """
import os, psutil, pty, sys, termios, time
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-m", "client.cli", "login"])
shown = b""
for prompt, typed in ((b"Password of ada: ", b"correct horse\\n"), (b"Code of the authenticator: ", None)):
    while not shown.endswith(prompt):
        shown += os.read(terminal, 1024)
    if typed is None or sys.argv[1] == "password":
        break
    os.write(terminal, typed)
# Between the prompt and the read that waits behind it, C code looks for no signal: ^C counts once the read waits.
while psutil.Process(pid).status() != psutil.STATUS_SLEEPING:
    time.sleep(0.001)
os.write(terminal, b"\\x03")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code, bool(termios.tcgetattr(terminal)[3] & termios.ECHO))
"""


@pytest.mark.parametrize("at", ["password", "code"])
async def test_one_interrupt_ends_a_prompt(gloam: Gloam, perimeter: Perimeter, at: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", INTERRUPT, at, stdout=asyncio.subprocess.PIPE, env=gloam._environ
    )
    out, _ = await process.communicate()
    assert out.decode().split() == ["130", "True"]
    assert len(perimeter.controller.logins) == (1 if at == "password" else 2)
