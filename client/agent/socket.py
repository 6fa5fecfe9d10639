"""The agent's Unix socket, the caller's side: one call and one answer a connection, between processes of one user.

The socket is 0600 in a directory that is 0700, and both ends check who the other is (console/local.py): a password is
told to nobody but the agent of the same user or of root.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from client.agent.messages import Answer, Call, answer
from console.errors import CommandError
from console.local import named, peer_uid
from wire.errors import RemoteError
from wire.messages import decode

MAX_LINE: Final = 2 * 1_048_576
"""Bytes: a session view of a few thousand resources."""


class NoAgent(Exception):  # noqa: N818 - reads as what it is
    """Nobody answers at the socket."""


async def ask(path: Path, asked: Call, deadline: float) -> Answer:
    """The agent's answer to one call. Raises NoAgent where none runs, CommandError where it does not answer."""
    sock = _connect(path)
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE)
    try:
        async with asyncio.timeout(deadline):
            writer.write(line_of(asked))
            await writer.drain()
            line = await reader.readline()
        if not line.endswith(b"\n"):
            raise NoAgent
        return decode(answer, line)
    except TimeoutError:
        fix = "look into agent.log in the state directory, or run gloam logout"
        raise CommandError(f"the agent did not answer within {deadline:g} s", fix) from None
    except ConnectionError as error:
        raise NoAgent from error
    except (RemoteError, ValueError) as error:
        fix = "run gloam logout and log in again: the agent may be of another version"
        raise CommandError(f"the agent's answer is not understood: {error}", fix) from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def listens(path: Path) -> bool:
    """Whether an agent takes calls at `path`."""
    try:
        _connect(path).close()
    except (NoAgent, OSError):
        return False
    return True


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with named(path) as address:
            sock.connect(address)
        _check_peer(sock, path)
        sock.setblocking(False)  # noqa: FBT003 - the one argument it has
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        raise NoAgent from error
    except BaseException:
        sock.close()
        raise
    return sock


def _check_peer(sock: socket.socket, path: Path) -> None:
    if peer_uid(sock) not in {os.geteuid(), 0, path.parent.stat().st_uid}:
        raise CommandError("the agent belongs to another user", "remove agent.sock from the state directory")


def line_of(message: Call | Answer) -> bytes:
    """A call or an answer as it is sent."""
    return message.model_dump_json().encode() + b"\n"
