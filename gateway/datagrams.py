"""A UDP tunnel at the gateway: datagrams between its TLS connection and the permit's target.

1. One socket a tunnel, connected to the target: the kernel gives us datagrams of that address and port alone, and ours
   go nowhere else. An answer goes into the tunnel that asked, so nobody can be flooded through us.
2. A datagram that cannot be sent at once (a full socket, too large for the path) is dropped and counted. We add no
   fragments (RFC 9298 §3.1): don't-fragment is set, and the kernel learns the path's size.
3. "Port unreachable" is counted and survived: the kernel's socket stays usable, and a resource that is restarted
   should find its tunnels where they were. Whoever asked learns by hearing nothing, as always with UDP.
"""

import asyncio
import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final

import structlog

from gateway.leases import Reach, Refusal
from gateway.target import explain
from wire import limits
from wire.datagrams import Datagrams
from wire.records import receive_buffer
from wire.transport import TlsTransport

log = structlog.get_logger()

# <linux/in.h>, <linux/in6.h>: Python has no names for these.
_DONT_FRAGMENT: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, 2),  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 2),  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO
}


class UdpRelay:
    """Carries datagrams until the tunnel ends or `cut`; to `gateway.tunnels` it looks like `wire.relay.Relay`."""

    def __init__(self, tls: TlsTransport, target: socket.socket, *, early: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._lost = 0
        self.errors = 0
        self.bytes_to_plain = 0
        self._stream = Datagrams(tls, self._to_target, early=early)
        self.closed = self._stream.closed
        self.cut = self._stream.cut
        self._loop.add_reader(target, self._from_target)
        self.closed.add_done_callback(self._close)

    @property
    def bytes_to_tls(self) -> int:
        """Payload bytes of the target's datagrams that went into the tunnel."""
        return self._stream.bytes_sent

    @property
    def datagrams(self) -> int:
        """Datagrams carried, both ways together."""
        return self._stream.datagrams

    @property
    def reason(self) -> str:
        """Why it ended, "" while it lives."""
        return self._stream.reason

    @property
    def dropped(self) -> int:
        """Datagrams that were not carried, both ways together."""
        return self._stream.dropped + self._lost

    def _to_target(self, payload: bytes) -> None:
        try:
            self._send(payload)
        except OSError:
            self._lost += 1
        else:
            self.bytes_to_plain += len(payload)

    def _send(self, payload: bytes) -> None:
        try:
            self._target.send(payload)
        except BlockingIOError:
            raise
        except OSError:  # most often the fate of an earlier datagram, told instead of sending this one
            self._hear_again()
            self._target.send(payload)

    def _from_target(self) -> None:
        buffer = receive_buffer()
        payloads: list[bytes] = []
        try:
            for _ in range(limits.DATAGRAM_BURST):
                size = self._target.recv_into(buffer)
                payloads.append(bytes(buffer[:size]))
        except BlockingIOError:
            pass
        except OSError:  # the fate of an earlier datagram
            self._hear_again()
        self._stream.send(payloads)

    def _hear_again(self) -> None:
        """After an error the reader is set anew: libuv, and so uvloop, stops watching a socket that has one to tell."""
        self.errors += 1
        self._loop.remove_reader(self._target)
        self._loop.add_reader(self._target, self._from_target)

    def _close(self, _closed: asyncio.Future[str]) -> None:
        self._loop.remove_reader(self._target)
        self._target.close()


async def connect_target(reach: Reach, deadline: float) -> socket.socket | Refusal:
    """A socket connected to the target, or the refusal its failure is. Nothing is sent by this."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline):
            found = await loop.getaddrinfo(reach.target_host, reach.target_port, type=socket.SOCK_DGRAM)
        return _connected(found)
    except OSError as error:  # TimeoutError and gaierror among them
        log.warning("no way to the target", resource=reach.resource, target=reach.target, error=str(error))
        return explain(error, reach.resource)


def _connected(found: Sequence[Any]) -> socket.socket:
    """A socket connected to the first address of `found` (as getaddrinfo answers) that has a route. Raises OSError."""
    last = OSError(errno.EADDRNOTAVAIL, "no address")
    for family, kind, protocol, _, address in found:
        if ip_address(str(address[0]).partition("%")[0]).is_multicast:
            # One datagram to many hosts would be amplification; their answers could not come back anyway.
            last = OSError(errno.EACCES, "a multicast address is no target")
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)  # noqa: FBT003 - the one argument it has
            if family in _DONT_FRAGMENT:
                sock.setsockopt(*_DONT_FRAGMENT[family])
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last
