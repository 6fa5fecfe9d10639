"""The agent's Unix socket, the agent's side.

Laws:

1. The socket is 0600 from before it listens, and a caller that is neither the same user nor root gets no answer.
2. A call is one line of bounded length that must come within a deadline; anything else ends the connection.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from client.agent.messages import Answer, Call, Problem, call
from client.agent.socket import MAX_LINE, line_of
from console.local import may_speak
from wire.errors import RemoteError
from wire.messages import decode

CALL_DEADLINE: Final = 5.0
"""Seconds from the connection to the whole call: both ends are on this machine."""

Handle = Callable[[Call], Awaitable[Answer]]

log = structlog.get_logger("client.agent")


async def serve(listener: socket.socket, handle: Handle) -> asyncio.Server:
    """Answers calls on `listener` until the server is closed."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not may_speak(writer.get_extra_info("socket")):
                log.warning("call from another user refused")
                return
            async with asyncio.timeout(CALL_DEADLINE):
                line = await reader.readline()
            if not line:
                return
            writer.write(line_of(await _answer(line, handle)))
            await writer.drain()
        except (TimeoutError, ValueError, OSError) as error:
            log.warning("call broken off", error=type(error).__name__)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    return await asyncio.start_unix_server(on_connection, sock=listener, limit=MAX_LINE)


async def _answer(line: bytes, handle: Handle) -> Answer:
    try:
        asked = decode(call, line)
    except RemoteError as error:
        return Problem(
            what=f"the agent does not understand the call: {error}", fix="run gloam logout, then log in", exit=1
        )
    return await handle(asked)
