"""`gloam connect`: a tunnel between standard input and output, for ssh's ProxyCommand and for pipes.

Laws:

1. Bytes only: nothing else is ever written to standard output.
2. Half-close goes both ways: the end of standard input ends our direction, the end of the tunnel closes standard
   output.
3. The exit code is 0 only if both directions ended well. A tunnel that was cut says why and what helps, with the exit
   code of the reason; it is never opened again, for nobody knows which bytes arrived.

Standard input may be a terminal, a pipe, a socket or a plain file, and an event loop can wait only for some of those.
So two threads copy between them and a socket pair, blocking as the operating system makes them, and the relay sees one
more socket.
"""

import asyncio
import contextlib
import os
import socket
import threading
from concurrent.futures import Future
from typing import Final

from client.reach import open_tunnel, why_broken
from client.session import Target
from client.state import ClientState
from client.tunnel import Tunnels
from wire.relay import DONE, Held

CHUNK: Final = 65_536


async def connect_stdio(state: ClientState, target: Target, stdin: int, stdout: int) -> None:
    """Copies until both directions have ended.

    Raises CommandError for a refusal or a broken tunnel, OSError where standard output takes no more.
    """
    tunnel = await open_tunnel(state, Tunnels(state, state.profile()), target)
    near, far = socket.socketpair()
    written: Future[None] = Future()
    # Daemons: a read of a terminal that nobody types at must not keep the process.
    threading.Thread(target=_from_input, args=(stdin, near), daemon=True, name="input").start()
    threading.Thread(target=_to_output, args=(near, stdout, written), daemon=True, name="output").start()
    try:
        far.setblocking(False)  # noqa: FBT003 - the one argument it has
        plain, _held = await asyncio.get_running_loop().connect_accepted_socket(Held, far)
        reason = await tunnel.relay(plain).closed
    except BaseException:
        tunnel.abort()
        raise
    # What the tunnel brought is in the socket pair: done is when it is out, or cannot be written.
    await asyncio.wrap_future(written)
    if reason != DONE:
        raise await why_broken(state, target)


def _from_input(stdin: int, near: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(stdin, CHUNK):
            near.sendall(data)
    with contextlib.suppress(OSError):
        near.shutdown(socket.SHUT_WR)


def _to_output(near: socket.socket, stdout: int, written: Future[None]) -> None:
    try:
        while data := _received(near):
            view = memoryview(data)
            while view:
                view = view[os.write(stdout, view) :]
    except OSError as error:  # nobody reads our output any more, or its disk is full
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RD)
        written.set_exception(OSError(error.errno, error.strerror, "standard output"))
        return
    # There is no more: closing it tells the next program in the pipe.
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, stdout)  # not close(): the next socket must not become standard output
        os.close(nowhere)
    written.set_result(None)


def _received(near: socket.socket) -> bytes:
    """What comes next of the tunnel; nothing once it has ended, well or not."""
    try:
        return near.recv(CHUNK)
    except OSError:
        return b""
