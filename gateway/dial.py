"""How this gateway reaches a controller: knock, connect, TLS, and the link's WebSocket on it."""

import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import aiohttp

from certs.identity import Identity
from certs.names import Name, NameKind
from certs.secret import Secret
from certs.trust import Trust
from gateway.limits import MAX_CONTROL_MESSAGE
from spa.packet import KnockKind, derive_key
from spa.sender import knock_and_connect
from wire.http import connector
from wire.limits import ALPN_HTTP
from wire.messages import ControllerAddress
from wire.tls import ClientTls

CLOSE_DEADLINE: Final = 1.0
"""Seconds the controller has to answer our closing of the WebSocket."""


def wall_us() -> int:
    """This machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Dialler:
    """Opens links as `identity`; `connect` fits `gateway.link.Connect`."""

    identity: Identity
    trust: Callable[[], Trust]
    knock_secret: Secret = field(repr=False)

    async def dial(self, controller: ControllerAddress, kind: KnockKind = KnockKind.CONTROL) -> socket.socket:
        """A connected, non-blocking socket to `controller`, after knocking for `kind`. Raises OSError."""
        return await knock_and_connect(
            knock_to=(controller.knock.host, controller.knock.port),
            connect_to=(controller.tls.host, controller.tls.port),
            key=derive_key(self.knock_secret, Name(self.identity.name.domain, NameKind.CONTROLLER, controller.name)),
            kind=kind,
            clock=wall_us,
        )

    @asynccontextmanager
    async def connect(self, controller: ControllerAddress) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The WebSocket to `controller`. Raises TlsRefused, OSError, aiohttp.ClientError."""
        trust = self.trust()
        tls = ClientTls(
            self.identity, trust, Name(trust.domain, NameKind.CONTROLLER, controller.name), alpn=(ALPN_HTTP,)
        )
        async with (
            aiohttp.ClientSession(connector=connector(partial(self.dial, controller), tls)) as session,
            session.ws_connect(
                f"https://{controller.name}/v1/link",
                max_msg_size=MAX_CONTROL_MESSAGE,
                compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_DEADLINE),
            ) as websocket,
        ):
            yield websocket
