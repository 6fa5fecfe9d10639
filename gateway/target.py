"""The controller's target of a permit: dialled, or why not in words for whoever asked.

1. The address is the permit's, never the client's.
2. An error says what happened, not where: the target's address is the gateway's business and its log's.
"""

import asyncio
import contextlib
import errno
import socket
from typing import Final

import structlog

from gateway.leases import Reach, Refusal
from gateway.limits import KEEP_ALIVE
from wire.relay import Held

log = structlog.get_logger()

_UNROUTABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM})
_KEEP_ALIVE: Final = [(getattr(socket, name), value) for name, value in KEEP_ALIVE.items() if hasattr(socket, name)]
_ASK_OWNER: Final = "try again, or ask whoever runs it"
_ASK_ADMIN: Final = "ask an administrator to check the resource's target"


async def dial_target(reach: Reach, deadline: float) -> asyncio.Transport | Refusal:
    """A connection to the target that reads nothing yet (`Held`), or the refusal its failure is."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline):
            transport, _ = await loop.create_connection(Held, reach.target_host, reach.target_port)
    except OSError as error:  # TimeoutError and gaierror among them
        log.warning("dialling failed", resource=reach.resource, target=reach.target, error=str(error))
        return explain(error, reach.resource)
    keep_alive(transport.get_extra_info("socket"))
    return transport


def explain(error: OSError, resource: str) -> Refusal:
    """What a failed dial is answered with: 502 or 504, and the RFC 9209 token that fits."""
    where = f"{resource}'s target"
    match error:
        case TimeoutError():
            return Refusal(504, "connection_timeout", "target_timeout", f"{where} did not answer in time", _ASK_OWNER)
        case ConnectionRefusedError():
            return Refusal(502, "connection_refused", "target_refused", f"{where} refused the connection", _ASK_OWNER)
        case socket.gaierror():
            return Refusal(502, "dns_error", "target_unknown", f"{where} has a name that does not resolve", _ASK_ADMIN)
        case _:
            token = "destination_ip_unroutable" if error.errno in _UNROUTABLE else "destination_unavailable"
            return Refusal(502, token, "target_unreachable", f"{where} cannot be reached from the gateway", _ASK_ADMIN)


def keep_alive(sock: socket.socket) -> None:
    """A peer that vanished (power, network) is noticed by the kernel; nothing else would notice an idle tunnel's.

    And small writes leave at once: asyncio sees to that only for sockets made by naming TCP, unlike accepted ones.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
