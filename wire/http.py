"""HTTP and WebSocket on the one TLS policy: aiohttp, server and client, over `wire.tls`.

aiohttp never sees a TLS library: its server gets connections already verified, its client gets them from `connector`.
"""

import asyncio
import logging
import socket
import weakref
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web
from aiohttp.client import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace
from aiohttp.typedefs import Handler

from wire import limits
from wire.arrivals import OnRefused, ignore_refusal
from wire.attendance import Attendance
from wire.errors import LocalError, TlsRefused
from wire.farewell import farewells_said
from wire.tls import ClientTls, ServerTls, accept_tls, connect_tls

_log = logging.getLogger("wire.http")


def _one_line(record: logging.LogRecord) -> bool:
    """Whoever speaks no HTTP is worth a line of the log; a traceback there is a fault of ours, and only that."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg = f"{record.getMessage()}: {error.code} {' '.join(error.message.split())[:200]}"
        record.args, record.exc_info = (), None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


_log.addFilter(_one_line)

Dial = Callable[[], Awaitable[socket.socket]]
"""Opens one connected socket to the server: knocks, connects. Its errors reach whoever made the request."""


class HttpsRefused(TlsRefused, aiohttp.ClientConnectionError):
    """A TLS connection that came to nothing, as aiohttp lets it through: it would rename any other `OSError`."""


def refusal_in(error: BaseException) -> TlsRefused | None:
    """Why TLS failed, if that is what is behind an error of aiohttp's.

    A server judges a client's certificate after the client is done with its handshake (TLS 1.3), so its refusal arrives
    as the end of the connection in the middle of the first request.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, TlsRefused):
        seen = seen.__cause__ or seen.__context__
    return seen


class _TlsConnector(aiohttp.BaseConnector):
    """aiohttp's connection pool, with our way of connecting. Every URL leads to the one server `dial` reaches."""

    allowed_protocol_schema_set = aiohttp.connector.HIGH_LEVEL_SCHEMA_SET

    def __init__(self, dial: Dial, tls: ClientTls) -> None:
        super().__init__()
        self._dial = dial
        self._tls = tls

    async def _create_connection(
        self,
        req: ClientRequest,  # noqa: ARG002 (aiohttp's signature)
        traces: list[Trace],  # noqa: ARG002 (the same)
        timeout: ClientTimeout,  # noqa: ARG002, ASYNC109 (the same)
    ) -> ResponseHandler:
        sock = await self._dial()
        try:
            _, protocol = await connect_tls(sock, self._tls, lambda: ResponseHandler(loop=self._loop))
        except TlsRefused as refused:
            raise HttpsRefused(refused.reason, refused.sentence) from None
        return protocol


def connector(dial: Dial, tls: ClientTls) -> aiohttp.BaseConnector:
    """For `aiohttp.ClientSession(connector=…)`: every connection is `dial()` and then TLS.

    Requests raise HttpsRefused (a TlsRefused) where the server is not the one expected, and what `dial` raises, except
    that aiohttp turns an OSError into its ClientOSError. See `refusal_in` for a server that refuses us.
    """
    return _TlsConnector(dial, tls)


class HttpsServer:
    """An aiohttp application served on sockets handed in one by one.

    In a handler, `request.transport.get_extra_info("peer")` is the verified name. Connections are bounded in number and
    in time without a request (`wire.attendance`).
    """

    def __init__(self, app: web.Application, tls: ServerTls, *, on_refused: OnRefused = ignore_refusal) -> None:
        self._attendance = Attendance()
        app.middlewares.insert(0, self._heard)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_log,
            shutdown_timeout=limits.SHUTDOWN_DEADLINE,
            keepalive_timeout=limits.KEEP_ALIVE,
        )
        self._on_refused = on_refused
        self.tls = tls
        self._policies: weakref.WeakSet[ServerTls] = weakref.WeakSet()

    async def start(self) -> None:
        """Run the application's start-up; call before `accept`."""
        await self._runner.setup()

    def accept(self, sock: socket.socket, tls: ServerTls | None = None) -> None:
        """Serve one accepted connection, by another policy if `tls` is given; it is ours from here on.

        Raises LocalError before `start`.
        """
        policy = tls or self.tls
        self._policies.add(policy)
        server = self._runner.server
        if server is None:
            raise LocalError("the HTTPS server has not been started")
        accept_tls(
            asyncio.get_running_loop(),
            sock,
            policy,
            lambda: self._attendance.attend(server()),
            on_refused=self._on_refused,
            timeout=limits.HANDSHAKE_DEADLINE,
        )

    @web.middleware
    async def _heard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._attendance.heard(request.protocol)
        return await handler(request)

    async def close(self) -> None:
        """Finish what runs (aiohttp's shutdown timeout), then close every connection."""
        for policy in self._policies:
            policy.abandon_pending()
        await self._runner.cleanup()
        await farewells_said()
