"""The resource behind gateway and peers: `python -m bench.source HOST:PORT` says `ready` and serves until stopped.

A connection carries commands, one line each: `down N` is answered with N bytes, `up N` takes N bytes and answers
`done`; `pour` sends and `sink` takes until the connection ends; `tick N` sends a byte every N milliseconds until then.

Threads and blocking sockets. It must never be what a measurement waits for, so no byte passes through it: what it sends
is pages of a file in memory (sendfile(2)), and what it takes the kernel drops (MSG_TRUNC, tcp(7)).
"""

import contextlib
import os
import socket
import sys
import threading
import time

from bench.descriptors import allow_many

BLOCK = 1 << 20
DONE = b"done\n"


def _serve(connection: socket.socket, zeros: int) -> None:
    lines = connection.makefile("rb", buffering=0)
    with connection, contextlib.suppress(OSError):
        while words := lines.readline(64).split():
            match words:
                case [b"down", count]:
                    _down(connection, zeros, int(count))
                case [b"up", count]:
                    _up(connection, int(count))
                case [b"pour"]:
                    while True:
                        _down(connection, zeros, BLOCK)
                case [b"sink"]:
                    _up(connection, sys.maxsize)
                case [b"tick", milliseconds]:
                    _tick(connection, int(milliseconds) / 1000)
                case _:
                    return


def _down(connection: socket.socket, zeros: int, count: int) -> None:
    while count > 0:
        count -= os.sendfile(connection.fileno(), zeros, 0, min(count, BLOCK))


def _up(connection: socket.socket, count: int) -> None:
    scratch = bytearray(BLOCK)
    while count > 0:
        got = connection.recv_into(scratch, min(count, BLOCK), socket.MSG_TRUNC)
        if not got:
            return
        count -= got
    connection.sendall(DONE)


def _tick(connection: socket.socket, seconds: float) -> None:
    while True:
        connection.sendall(b".")
        time.sleep(seconds)


def main() -> None:
    """Serve every connection in a thread of its own."""
    allow_many()
    host, _, port = sys.argv[1].rpartition(":")
    zeros = os.memfd_create("zeros")
    os.write(zeros, bytes(BLOCK))
    threading.stack_size(128 << 10)  # thousands of them
    with socket.create_server((host, int(port)), backlog=1024) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(connection, zeros), daemon=True).start()


if __name__ == "__main__":
    main()
