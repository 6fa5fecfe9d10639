"""The resource behind gateway and peers: `python -m bench.source HOST:PORT` says `ready` and serves until stopped.

A connection carries commands, one line each: `down N` is answered with N bytes, `up N` takes N bytes and answers
`done`, `tick` sends a byte twenty times a second until the connection ends. Threads and blocking sockets: it never is
what a measurement waits for.
"""

import contextlib
import socket
import sys
import threading
import time

BLOCK = 262_144
TICK_SECONDS = 0.05
DONE = b"done\n"


def _serve(connection: socket.socket) -> None:
    block = bytearray(BLOCK)
    view = memoryview(block)
    lines = connection.makefile("rb", buffering=0)
    with connection, contextlib.suppress(OSError):
        while words := lines.readline(64).split():
            match words:
                case [b"down", count]:
                    _down(connection, view, int(count))
                case [b"up", count]:
                    _up(connection, view, int(count))
                case _:
                    _tick(connection)


def _down(connection: socket.socket, view: memoryview, count: int) -> None:
    while count > 0:
        count -= connection.send(view[: min(count, BLOCK)])


def _up(connection: socket.socket, view: memoryview, count: int) -> None:
    while count > 0:
        got = connection.recv_into(view[: min(count, BLOCK)])
        if not got:
            return
        count -= got
    connection.sendall(DONE)


def _tick(connection: socket.socket) -> None:
    while True:
        connection.sendall(b".")
        time.sleep(TICK_SECONDS)


def main() -> None:
    """Serve every connection in a thread of its own."""
    host, _, port = sys.argv[1].rpartition(":")
    with socket.create_server((host, int(port)), backlog=1024) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
