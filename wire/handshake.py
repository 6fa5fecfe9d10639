"""From a connected socket to a verified peer, or to one reason why not.

1. One deadline covers the whole handshake, and one bound the bytes a peer may send before it is verified.
2. No protocol exists before `Policy.judge` named the peer; on a client nothing of ours, not even Finished, leaves
   before that.
3. A handshake ends exactly once: in a transport, or in one `TlsRefused` (a client) or one `TlsRefusal` (a server).
4. On a server a peer that has not said a word costs a socket and a timer: OpenSSL is asked for nothing before its first
   byte. How many peers may be unverified, and which of them gives way, `wire.pending` decides.
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
from console.address import plain_host
from wire import limits
from wire.errors import TlsRefusal, TlsRefused
from wire.farewell import Farewell, reset
from wire.pending import Pending
from wire.records import Records, explain, receive_buffer
from wire.transport import TlsTransport

P = TypeVar("P", bound=asyncio.BaseProtocol)
OnRefused = Callable[[TlsRefusal], None]

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


class ServerPolicy(Policy, Protocol):
    """A server's policy also knows the peers it has not verified yet, and how many refusals were told lately."""

    pending: Pending["Handshake"]
    told: "Told"


class Told:
    """Bounds how many refusals are told in a second, and counts those that were not."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = -1
        self._count = 0
        self._kept_back = 0

    def tell(self, sentence: str, now: float) -> str | None:
        """The sentence to tell at `now` (monotonic seconds), with what was kept back before it; None: keep it back."""
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        if self._count >= self._most:
            self._kept_back += 1
            return None
        self._count += 1
        if self._kept_back:
            sentence += f" (and {self._kept_back} handshakes before it failed that are not told one by one)"
            self._kept_back = 0
        return sentence


def ignore_refusal(_refusal: TlsRefusal) -> None:
    """For servers that audit nothing."""


def ignore_over() -> None:
    """For servers that keep no account of who came."""


class Handshake(asyncio.BufferedProtocol):
    """The protocol of a socket until its peer is verified; then it hands the socket to a `TlsTransport`.

    Exactly one of `on_done(transport)` and `on_refused(refused, presented)` is called, once. A server hears of the
    peer's first word by `on_spoken`, and waits for it.
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
        on_spoken: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._policy = policy
        self._make_protocol = make_protocol
        self._on_done = on_done
        self._on_refused = on_refused
        self._on_spoken = on_spoken
        self._records: Records | None = None
        self.attaching: asyncio.Task[None] | None = None
        self._lower: asyncio.Transport | None = None
        self._received = 0
        self._over = False
        self._deadline = loop.call_later(timeout, self._too_slow, timeout)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours: a client speaks first."""
        self._lower = lower = cast("asyncio.Transport", transport)
        if self._over:
            reset(lower)
        elif self._on_spoken is None:
            self._step(0)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Small reads: what is unverified is bounded to within one of them."""
        return receive_buffer()[:_READ]

    def buffer_updated(self, nbytes: int) -> None:
        """One read from an unverified peer."""
        if self._on_spoken is not None and not self._received:
            self._on_spoken()
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
            _require_open(sock)
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


def accept(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    policy: ServerPolicy,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    *,
    on_refused: OnRefused,
    on_over: Callable[[], None],
    timeout: float,
) -> None:
    """`wire.tls.accept_tls`."""
    source = _source(sock)

    def settle(_transport: TlsTransport) -> None:
        policy.pending.discard(handshake)

    def fail(refused: TlsRefused, presented: str) -> None:
        policy.pending.discard(handshake)
        if refused.reason == "closed" and not handshake.spoken:
            on_over()
            return  # whoever leaves without a word was refused nothing: a knocker's spare attempt to connect
        if (sentence := policy.told.tell(str(refused), loop.time())) is not None:
            on_refused(TlsRefusal(refused.reason, sentence, source, presented))
        on_over()

    async def attach() -> None:
        try:
            _require_open(sock)
            await loop.connect_accepted_socket(lambda: handshake, sock)
        except OSError as error:
            sock.close()
            handshake.refuse(TlsRefused("closed", f"the peer was gone before the handshake: {error}"))
        except asyncio.CancelledError:
            sock.close()
            handshake.refuse(TlsRefused("cancelled", "the server is stopping"))
            raise

    def spoken() -> None:
        policy.pending.spoke(handshake)

    handshake = Handshake(
        loop,
        policy,
        timeout=timeout,
        make_protocol=protocol_factory,
        on_done=settle,
        on_refused=fail,
        on_spoken=spoken,
    )
    gave_way = policy.pending.add(handshake, source[0])
    handshake.attaching = loop.create_task(attach())
    if gave_way is not None:
        gave_way.refuse(TlsRefused("too_many", "too many handshakes at once, and this one was the oldest to wait"))


def _require_open(sock: socket.socket) -> None:
    """Raise OSError for a socket already closed: uvloop would leak a transport over it."""
    if sock.fileno() < 0:
        raise OSError("it is closed")


def _source(sock: socket.socket) -> tuple[str, int]:
    try:
        name = sock.getpeername()
    except OSError:
        return ("", 0)
    return (plain_host(str(name[0])), int(name[1])) if isinstance(name, tuple) else (str(name), 0)
