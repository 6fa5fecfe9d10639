"""A tunnel that wants a fresh proof asks the person for it, where one sits at a terminal, and is tried once more."""

import asyncio
import json
import re
import signal
import sys

import pytest

from client.loop import run_until_signalled
from tests.client.commands import Gloam
from tests.client.perimeter import Perimeter
from tests.terminal import Typed, at_terminal

ASKS = "vault asks for a second factor no older than 15m; yours is 1h old"
REFUSED = f"gloam: {ASKS}; prove it again: gloam login --step-up\n"
CODE = Typed("Code of the authenticator: ", "123 456\n")


@pytest.fixture
async def stale(gloam: Gloam, perimeter: Perimeter) -> Gloam:
    """Somebody logged in whose proof is too old for the vault; proving it again helps."""
    refuse(perimeter, "mfa_stale")
    await gloam.log_in()
    perimeter.controller.answers.after_step_up = (perimeter.wiki(name="vault"),)
    return gloam


def refuse(perimeter: Perimeter, code: str) -> None:
    fix = "prove it again: gloam login --step-up"
    vault = perimeter.wiki(name="vault", allowed=False, code=code, sentence=f"{ASKS}.", fix=fix)
    perimeter.controller.answers.resources = (vault,)


async def run(gloam: Gloam, *arguments: str, answer: Typed = CODE, behind: bool = False) -> tuple[int, bytes, str]:
    """The exit code, what came through the tunnel, what the terminal showed."""
    away = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"}
    env = {name: value for name, value in gloam._environ.items() if name not in away}
    argv = [sys.executable, "-m", "client.cli", *arguments]
    process = await at_terminal(argv, answer, env=env, behind=behind)
    out, shown = await process.communicate(b"654321\n")
    assert process.returncode is not None
    return process.returncode, out, shown.decode().replace("\r\n", "\n")


def step_ups(perimeter: Perimeter) -> list[tuple[str, ...]]:
    return [tuple(proof.type for proof in each.proofs) for each in perimeter.controller.logins if each.step_up]


async def test_connect_asks_at_the_terminal_and_not_in_the_tunnel(stale: Gloam, perimeter: Perimeter) -> None:
    code, out, shown = await run(stale, "connect", "vault", answer=Typed(CODE.prompt, "000000\n"))
    assert (code, out, shown.endswith("gloam: wrong code; wait for the next\n")) == (1, b"", True)
    perimeter.controller.logins.clear()
    code, out, shown = await run(stale, "connect", "vault")
    assert (code, out) == (0, b"654321\n<END>"), shown
    assert shown.startswith(f"{ASKS}.\nCode of the authenticator: ")
    assert "Proved again" in shown
    assert step_ups(perimeter) == [(), ("otp",)]


async def test_it_is_tried_once_more_and_not_again(stale: Gloam, perimeter: Perimeter) -> None:
    perimeter.controller.answers.after_step_up = ()
    code, out, shown = await run(stale, "connect", "vault")
    assert (code, out, shown.endswith(REFUSED)) == (4, b"", True)
    assert step_ups(perimeter) == [(), ("otp",)]


async def test_where_nobody_can_be_asked_it_is_one_line(stale: Gloam, perimeter: Perimeter) -> None:
    for command in ("connect", "forward"):
        done = await stale(command, "vault")
        assert (done.code, done.out, done.err) == (4, "", REFUSED)
    assert await run(stale, "connect", "vault", behind=True) == (4, b"", REFUSED)
    code, out, shown = await run(stale, "connect", "vault", "--json")
    assert (code, out, json.loads(shown)["error"]) == (4, b"", f"{ASKS}.")
    refuse(perimeter, "mfa_missing")  # what nobody can prove
    assert await run(stale, "connect", "vault") == (4, b"", REFUSED)
    assert step_ups(perimeter) == []


async def test_a_missing_passkey_is_asked_for_in_the_browser(stale: Gloam, perimeter: Perimeter) -> None:
    refuse(perimeter, "passkey_missing")
    perimeter.controller.answers.passkey_of = "example.test"
    code, out, shown = await run(stale, "connect", "vault", answer=Typed("http://localhost:", "\x03"))
    assert (code, out) == (130, b""), shown


async def test_forward_asks_before_it_announces_its_port(stale: Gloam, perimeter: Perimeter) -> None:
    argv = [sys.executable, "-m", "client.cli", "forward", "vault"]
    process = await at_terminal(argv, CODE, env=stale._environ, piped="1")
    assert process.stdout is not None
    announced = (await process.stdout.readline()).decode()
    assert step_ups(perimeter) == [(), ("otp",)]
    (port,) = re.findall(r"127\.0\.0\.1:([0-9]+)", announced)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"HELLO"
    writer.close()
    process.terminate()
    await process.communicate()


def test_a_question_after_a_loop_can_be_interrupted() -> None:
    run_until_signalled(asyncio.sleep(0))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
