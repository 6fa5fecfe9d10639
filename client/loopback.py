"""Ports on loopback that the browser of the same person, and nobody else on this machine, is meant to reach.

Laws:

1. `localhost` is 127.0.0.1 and ::1, and browsers try either: where there is ::1, both are ours or neither is.
2. A connection of another user of this machine is none of ours. Linux says whose it is; elsewhere nobody does, and what
   is served must not rely on it alone.
"""

import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from console.errors import CommandError

TRIES: Final = 20
"""Ports free on one address and not on the other: a few in ten thousand."""
BACKLOG: Final = 16
_ROOT: Final = 0


def listen_on_localhost(port: int = 0) -> tuple[tuple[socket.socket, ...], int]:
    """Listening sockets on every address of `localhost`, one port on all; a free one for 0. Raises CommandError."""
    for _try in range(1 if port else TRIES):
        first = _listen(socket.AF_INET, "127.0.0.1", port)
        if first is None:
            continue
        found = int(first.getsockname()[1])
        if not _has_ipv6():
            return (first,), found
        second = _listen(socket.AF_INET6, "::1", found)
        if second is not None:
            return (first, second), found
        first.close()
    what = f"port {port} of localhost is taken" if port else "no port of localhost is free"
    raise CommandError(what, "close what uses it, or try again")


def ours(connection: socket.socket) -> bool:
    """Whether a connection accepted on loopback was made by our user or root, as far as this system can say."""
    table = Path("/proc/net/tcp6" if connection.family == socket.AF_INET6 else "/proc/net/tcp")
    try:
        text = table.read_text()
    except OSError:
        return not sys.platform.startswith("linux")
    near, far = _spoken(connection.getpeername()), _spoken(connection.getsockname())
    for line in text.splitlines()[1:]:
        words = line.split()
        if words[1:3] == [near, far]:
            return int(words[7]) in {_ROOT, os.geteuid()}
    return False


def _spoken(address: tuple[str, int]) -> str:
    """An address as /proc/net/tcp and tcp6 write it: words of 32 bits in the machine's order, in hex (proc(5))."""
    packed = ip_address(address[0]).packed
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{address[1]:04X}"


def _listen(family: socket.AddressFamily, host: str, port: int) -> socket.socket | None:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the one argument it has
    except OSError:
        listener.close()
        return None
    return listener


def _has_ipv6() -> bool:
    """Whether there is a ::1 at all: then somebody could listen there in our place."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
