"""Sockets bound where they were asked to be, and clear words when that is not possible.

A port is kept while nothing listens on it, which takes care with SO_REUSEADDR: two sockets that carry it may both bind
a port on which neither listens, so ours carries it only while it does. Connections inherit it then, and do not keep a
restarted process from its port.
"""

import asyncio
import errno
import os
import socket
from typing import Final, NamedTuple

from spa.errors import DoorError


class Place(NamedTuple):
    """A host (name or address) and a port; port 0 asks for any."""

    host: str
    port: int


_FIXES: Final = {
    errno.EADDRINUSE: "stop the program that has it, or choose another port",
    errno.EACCES: "choose a port from 1024, or give the process CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "use an address of this machine",
}
_WHAT: Final = {socket.SOCK_STREAM: "TCP", socket.SOCK_DGRAM: "UDP"}


async def bind_tcp(host: str, port: int) -> socket.socket:
    """A TCP socket, bound, not listening, that nobody else can bind over."""
    sock = await _bind(host, port, socket.SOCK_STREAM)
    if port == 0:
        # A port the kernel chose is given up by shutdown(), and the on-demand cloak would lose it: bind it by number.
        chosen = sock
        try:
            sock = await _bind(host, place_of(chosen).port, socket.SOCK_STREAM)
        finally:
            chosen.close()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return sock


async def bind_udp(host: str, port: int) -> socket.socket:
    """A UDP socket, bound."""
    return await _bind(host, port, socket.SOCK_DGRAM)


def start_listening(sock: socket.socket, backlog: int) -> None:
    """The port answers; `OSError` if it cannot, and then the socket is as before."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.listen(backlog)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        raise


def stop_listening(sock: socket.socket) -> None:
    """The port is closed and still ours: `start_listening` opens it again."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.shutdown(socket.SHUT_RDWR)


def place_of(sock: socket.socket) -> Place:
    """Where a socket is bound."""
    host, port = sock.getsockname()[:2]
    return Place(host, port)


async def _bind(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    where = f"{_WHAT[kind]} {f'[{host}]' if ':' in host else host}:{port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise DoorError(f"{where} cannot be bound: the host is not known", "check the spelling of the host") from error
    family, _, _, _, address = found[0]
    sock = socket.socket(family, kind)
    try:
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" takes IPv4 too, whatever the system says
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own way
        sock.bind(address)
    except OSError as error:
        sock.close()
        number = error.errno or 0
        fix = _FIXES.get(number, "check the address")
        raise DoorError(f"{where} cannot be bound: {os.strerror(number)}", fix) from error
    return sock
