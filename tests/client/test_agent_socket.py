"""The agent's Unix socket and lock, and what is on it."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from client.agent.messages import (
    Answer,
    LoginCall,
    StatusAnswer,
    StatusCall,
)
from client.agent.server import serve
from client.agent.socket import NoAgent, ask, listens
from client.state import exclusive
from console.local import listen_privately, peer_uid
from wire.messages import (
    OtpProof,
    PasswordProof,
)

PASSWORD, OTP = PasswordProof(password="correct horse"), OtpProof(code="123456")
WRONG = PasswordProof(password="wrong")
LOGIN = LoginCall(user="ada", proofs=(PASSWORD, OTP))


async def test_the_socket_is_private_and_carries_calls(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    deep.mkdir(parents=True)
    path = deep / "agent.sock"
    with pytest.raises(NoAgent):
        await ask(path, StatusCall(), 5)
    assert not listens(path)

    async def handle(_call: object) -> Answer:
        return StatusAnswer(agent=1)

    listener = listen_privately(path)
    server = await serve(listener, handle)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert listens(path)
    assert await ask(path, StatusCall(), 5) == StatusAnswer(agent=1)
    assert peer_uid(listener) == os.geteuid()
    server.close()
    await server.wait_closed()
    with pytest.raises(NoAgent):
        await ask(path, StatusCall(), 5)
    listen_privately(path).close()


async def test_lines_that_are_no_call_are_answered_with_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"

    async def handle(_call: object) -> Answer:
        raise AssertionError("nothing was asked")

    server = await serve(listen_privately(path), handle)
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"type": "dance"}\n')
    assert b'"problem"' in await reader.readline()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_passwords_do_not_show() -> None:
    assert "correct horse" not in repr(LOGIN)
    assert "123456" not in repr(LOGIN)


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock") as first, exclusive(tmp_path / "lock") as second:
        assert first
        assert not second
    with exclusive(tmp_path / "lock") as again:
        assert again
