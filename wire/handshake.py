"""From a connected socket to a verified peer, or to one reason why not.

1. One deadline covers the whole handshake, and one bound the bytes a peer may send before it is verified.
2. No protocol exists before `Policy.judge` named the peer; on a client nothing of ours, not even Finished, leaves
   before that.
3. A handshake ends exactly once: in a transport, or in one `TlsRefused` (a client) or one `TlsRefusal` (a server).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

from cryptography import x509
from OpenSSL import SSL

from certs.names import Name
from wire import limits
from wire.errors import TlsRefused
from wire.farewell import Farewell, reset
from wire.records import Records, explain, receive_buffer
from wire.transport import TlsTransport

P = TypeVar("P", bound=asyncio.BaseProtocol)

_READ: Final = limits.HANDSHAKE_READ
_MAX_PRESENTED: Final = 512
_UNREADABLE: Final = ("bad_certificate", "the peer's certificate cannot be read")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a finished handshake proved: the peer (None: it showed nothing and need not), its leaf, the key exchange.

    `presented_root` is the root a pinned client found by its hash, else None.
    """

    peer: Name | None
    certificate: x509.Certificate | None
    group: str
    alpn: bytes
    presented_root: x509.Certificate | None


@dataclass(frozen=True, slots=True)
class Noticed:
    """Why OpenSSL's verification refused, and at which certificate: the policy leaves it on the connection."""

    refused: TlsRefused
    certificate: x509.Certificate


class Policy(Protocol):
    """What a handshake needs of `wire.tls`."""

    def new_connection(self) -> SSL.Connection:
        """A fresh connection over memory BIOs."""

    def judge(self, connection: SSL.Connection) -> Judged:
        """Who the peer is. Raises TlsRefused."""


class Handshake(asyncio.BufferedProtocol):
    """The protocol of a socket until its peer is verified; then it hands the socket to a `TlsTransport`.

    Exactly one of `on_done(transport)` and `on_refused(refused, presented)` is called, once. A
    server `waits` for the peer's first word.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        policy: Policy,
        *,
        timeout: float,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        on_done: Callable[[TlsTransport], None],
        on_refused: Callable[[TlsRefused, str], None],
        waits: bool = False,
    ) -> None:
        self._loop = loop
        self._policy = policy
        self._make_protocol = make_protocol
        self._on_done = on_done
        self._on_refused = on_refused
        self._waits = waits
        self._records: Records | None = None
        self._lower: asyncio.Transport | None = None
        self._received = 0
        self._over = False
        self._deadline = loop.call_later(timeout, self._too_slow, timeout)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours: a client speaks first."""
        self._lower = lower = cast("asyncio.Transport", transport)
        if self._over:
            reset(lower)
        elif not self._waits:
            self._step(0)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Small reads: what is unverified is bounded to within one of them."""
        return receive_buffer()[:_READ]

    def buffer_updated(self, nbytes: int) -> None:
        """One read from an unverified peer."""
        self._received += nbytes
        if self._received > limits.MAX_HANDSHAKE_BYTES:
            self.refuse(
                TlsRefused("too_large", f"more than {limits.MAX_HANDSHAKE_BYTES} bytes before the handshake was done")
            )
            return
        self._step(nbytes)

    def eof_received(self) -> None:
        """The peer went away before it was verified."""
        self.refuse(TlsRefused("closed", "the peer closed the connection during the handshake"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The same, ruder."""
        self.refuse(TlsRefused("closed", f"the connection was lost during the handshake{f': {exc}' if exc else ''}"))

    @property
    def spoken(self) -> bool:
        """Has the peer sent anything at all?"""
        return self._received > 0

    def refuse(self, refused: TlsRefused) -> None:
        """End this handshake with a reason, if it has not ended."""
        if self._over:
            return
        self._end()
        records = self._records
        if self._lower is not None:
            # OpenSSL's alert tells an honest peer what is wrong, if it can still read.
            if records is not None and (alert := bytes(records.outgoing())):
                self._lower.write(alert)
                Farewell(self._loop, self._lower, _forget, drop=limits.MAX_HANDSHAKE_BYTES)
            else:
                reset(self._lower)
        self._on_refused(refused, "" if records is None else _presented(records.connection))

    def _step(self, nbytes: int) -> None:
        if self._over or self._lower is None:
            return
        if self._records is None:
            self._records = Records(self._policy.new_connection())
        records, connection = self._records, self._records.connection
        try:
            if not records.handshake(nbytes):
                _flush(records, self._lower)
                return
        except TlsRefused as refused:  # from a callback of the policy
            self.refuse(refused)
            return
        except SSL.Error as error:
            noticed = connection.get_app_data()
            self.refuse(noticed.refused if isinstance(noticed, Noticed) else explain(error))
            return
        except ValueError:  # OpenSSL reads some certificates that cryptography does not
            self.refuse(TlsRefused(*_UNREADABLE))
            return
        try:
            judged = self._policy.judge(connection)
        except (TlsRefused, ValueError) as error:
            records.outgoing()  # a client's Finished: it is not for this server
            self.refuse(error if isinstance(error, TlsRefused) else TlsRefused(*_UNREADABLE))
            return
        self._hand_over(self._lower, records, judged)

    def _hand_over(self, lower: asyncio.Transport, records: Records, judged: Judged) -> None:
        self._end()
        _flush(records, lower)
        extra: dict[str, Any] = {
            "peer": judged.peer,
            "peer_certificate": judged.certificate,
            "group": judged.group,
            "alpn": judged.alpn.decode("ascii", "replace"),
            "presented": judged.presented_root,
        }
        try:
            transport = TlsTransport(self._loop, lower, records, self._make_protocol(), extra)
            transport.start()
        except Exception as error:
            reset(lower)
            self._on_refused(
                TlsRefused("internal", f"nothing here could serve the peer: {error}"), str(judged.peer or "")
            )
            raise
        self._on_done(transport)

    def _too_slow(self, timeout: float) -> None:
        self.refuse(TlsRefused("deadline", f"the handshake was not done within {timeout:g} s"))

    def _end(self) -> None:
        self._over = True
        self._deadline.cancel()


def _flush(records: Records, lower: asyncio.Transport) -> None:
    if data := bytes(records.outgoing()):
        lower.write(data)


def _forget(_error: Exception | None) -> None:
    """Nobody waits for a refused socket to be gone."""


def _presented(connection: SSL.Connection) -> str:
    """What the peer's certificate calls itself: unproven, for the audit log only."""
    noticed = connection.get_app_data()
    if isinstance(noticed, Noticed):
        return describe(noticed.certificate)
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    except ValueError:
        return "unreadable"
    return describe(certificate) if certificate is not None else ""


def describe(certificate: x509.Certificate) -> str:
    """A certificate for the audit log: its URI names if it has any, else its serial number. It proves nothing."""
    with contextlib.suppress(
        ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType
    ):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if uris := names.get_values_for_type(x509.UniformResourceIdentifier):
            return " ".join(uris)[:_MAX_PRESENTED]
    return f"serial {certificate.serial_number:x}"


async def connect(
    sock: socket.socket,
    policy: Policy,
    protocol_factory: Callable[[], P],
    timeout: float,  # noqa: ASYNC109 (a deadline of the protocol)
) -> tuple[TlsTransport, P]:
    """`wire.tls.connect_tls`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[TlsTransport] = loop.create_future()
    made: list[P] = []

    def make() -> P:
        made.append(protocol_factory())
        return made[0]

    def settle(transport: TlsTransport) -> None:
        if done.done():
            transport.abort()
        else:
            done.set_result(transport)

    def fail(refused: TlsRefused, _presented: str) -> None:
        if not done.done():
            done.set_exception(refused)

    handshake = Handshake(loop, policy, timeout=timeout, make_protocol=make, on_done=settle, on_refused=fail)
    try:
        try:
            require_open(sock)
            await loop.create_connection(lambda: handshake, sock=sock)
        except OSError as error:
            handshake.refuse(TlsRefused("closed", f"the socket is not connected: {error}"))
            sock.close()
        return await done, made[0]
    except BaseException:
        handshake.refuse(TlsRefused("cancelled", "nobody waits for this connection any more"))
        if done.done() and not done.cancelled() and done.exception() is None:
            done.result().abort()
        raise


def require_open(sock: socket.socket) -> None:
    """Raise OSError for a socket already closed: uvloop would leak a transport over it."""
    if sock.fileno() < 0:
        raise OSError("it is closed")
