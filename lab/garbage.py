"""Somebody with nothing but bandwidth: `python -m lab.garbage HOST:PORT RATE [SOURCE]` until it is stopped.

Sends RATE datagrams a second that are as long as knocks and as random, from the address SOURCE. One system call sends a
burst (sendmmsg(2)), so that the flood takes little of the machine it shares with what it floods.
"""

import ctypes
import secrets
import socket
import sys
import time
from typing import Any, Final

from console.address import HostPort
from spa.limits import MAX_DATAGRAM, MIN_DATAGRAM

DIFFERENT: Final = 4_096  # datagrams, sent over and over
TICK: Final = 0.002  # seconds between bursts
LATE: Final = 5  # ticks that are made up for; more were lost while we did not run, and would come as one lump


class _Vector(ctypes.Structure):
    """Struct iovec."""

    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """Struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """Struct mmsghdr."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


def _messages() -> Any:
    spread = MAX_DATAGRAM - MIN_DATAGRAM + 1
    messages = (_Message * DIFFERENT)()
    for message in messages:
        datagram = secrets.token_bytes(MIN_DATAGRAM + secrets.randbelow(spread))
        vector = _Vector(datagram, len(datagram))  # ctypes keeps what its structures point at
        message.header.vectors = ctypes.pointer(vector)
        message.header.vector_count = 1
    return messages


def flood(to: HostPort, rate: int, source: str | None) -> None:
    """Sends until the process is ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    messages = _messages()
    size = ctypes.sizeof(_Message)
    burst = min(max(round(rate * TICK), 1), DIFFERENT)
    family = socket.AF_INET6 if ":" in to.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if source is not None:
            sock.bind((source, 0))
        sock.connect((to.host, to.port))
        print("ready", flush=True)  # noqa: T201 - what lab.processes waits for
        due, start = time.monotonic(), 0
        while True:
            start = start + burst if start + 2 * burst <= DIFFERENT else 0
            libc.sendmmsg(sock.fileno(), ctypes.byref(messages, start * size), burst, 0)  # refused: sent anew anyway
            due = max(due + burst / rate, time.monotonic() - LATE * TICK)
            time.sleep(max(due - time.monotonic(), 0))


def main() -> None:
    """The command."""
    flood(HostPort.parse(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)  # noqa: PLR2004


if __name__ == "__main__":
    main()
