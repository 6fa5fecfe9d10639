"""The one TLS policy: nothing else in gloam builds a TLS context.

1. TLS 1.3 only; key exchange from `limits.GROUPS` only, and what was negotiated is read back and checked: an OpenSSL
   that ignored the list would refuse connections, not weaken them.
2. No resumption and no early data: every connection answers today's checks. A server keeps no session and sends no
   ticket, and a connection that was resumed all the same is refused.
3. The peer's name comes from the chain that verified (`certs.verify.name_of`), before any byte reaches a protocol.
4. A server trusts the intermediates of the purposes it accepts and nothing else; a client the `services` intermediates,
   and one its server presents that is newer and signed by the root it has (certs.trust, law 4): a rotation shuts out
   nobody who was away. OpenSSL checks the signatures up to the root; `judge` says which intermediate may count.
5. A pinned client (enrolment) knows the root by its SPKI hash alone: the server sends its whole chain up to the root.
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Self, TypeVar

from cryptography import x509
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _openssl

from certs.errors import BadCertificate
from certs.identity import Identity
from certs.issue import load_private_key
from certs.names import Name, Purpose
from certs.proved import Proved
from certs.trust import Trust
from certs.verify import name_of
from wire import limits
from wire.arrivals import Arrival, OnRefused, Told, accept, ignore_over, ignore_refusal
from wire.errors import LocalError, TlsRefused
from wire.handshake import Judged, Noticed, connect
from wire.pending import Bounds, Pending
from wire.transport import TlsTransport

__all__ = ["ClientTls", "ServerTls", "TlsTransport", "accept_tls", "connect_tls", "export_binding"]

P = TypeVar("P", bound=asyncio.BaseProtocol)

_CIPHERS: Final = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
_OPTIONS: Final = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
_PARTIAL_WRITE: Final = 0x1
_NO_AUTO_CHAIN: Final = 0x8
_MAX_CHAIN_DEPTH: Final = 3
_SHA256: Final = _openssl.EVP_get_digestbyname(b"sha256")
_SHA256_BYTES: Final = hashlib.sha256().digest_size

_CODES: Final = SSL.X509VerificationCodes
_REFUSALS: Final = {
    _CODES.ERR_CERT_HAS_EXPIRED: ("expired", "has expired"),
    _CODES.ERR_CERT_NOT_YET_VALID: ("not_yet_valid", "is not valid yet"),
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT: ("wrong_issuer", "comes from an authority not trusted here"),
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ("wrong_issuer", "comes from an authority not trusted here"),
    _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: ("wrong_issuer", "comes from an authority not trusted here"),
    _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: ("wrong_issuer", "is signed by itself"),
    _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN: ("wrong_issuer", "comes from a root not trusted here"),
    _CODES.ERR_CERT_SIGNATURE_FAILURE: ("bad_signature", "does not carry its authority's signature"),
    _CODES.ERR_INVALID_PURPOSE: ("wrong_usage", "is not for this use"),
}


class _Policy:
    """What server and client contexts share."""

    def __init__(self, alpn: Sequence[str | bytes]) -> None:
        self.alpn = tuple(one.encode() if isinstance(one, str) else one for one in alpn)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(_OPTIONS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_tls13_ciphersuites(_CIPHERS)
        context.set_mode(_openssl.SSL_MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN)
        # Without partial writes one send seals everything it is given (measured.md, TLS).
        context.clear_mode(_PARTIAL_WRITE)
        # pyOpenSSL has no method for the group list; Twisted reaches the same binding the same way. `judge` reads back
        # what was negotiated, so a binding that changed under us refuses connections instead of weakening them.
        if _openssl.SSL_CTX_set1_curves_list(context._context, ":".join(limits.GROUPS).encode()) != 1:  # noqa: SLF001
            raise LocalError(f"this OpenSSL does not know the key exchanges {', '.join(limits.GROUPS)}")
        self._context = context

    def _use(self, identity: Identity, authorities: Iterable[x509.Certificate] = ()) -> None:
        self._context.use_certificate(identity.leaf)
        for certificate in authorities:
            self._context.add_extra_chain_cert(certificate)
        key = load_private_key(identity.key)
        self._context.use_privatekey(key)
        self._context.check_privatekey()

    def _trust_only(self, anchors: Iterable[Iterable[x509.Certificate]]) -> None:
        store = self._context.get_cert_store()
        if store is None:
            raise LocalError("the TLS context has no certificate store")
        _fill(store, (one for certificates in anchors for one in certificates))
        self._context.set_verify_depth(_MAX_CHAIN_DEPTH)

    def _check_parameters(self, connection: SSL.Connection) -> str:
        """The negotiated group. Raises TlsRefused for anything but what this policy asked for."""
        named = connection.get_group_name() or "no group"
        # OpenSSL says "x25519" where it takes "X25519".
        group = next((one for one in limits.GROUPS if one.lower() == named.lower()), None)
        if connection.get_protocol_version() != SSL.TLS1_3_VERSION or group is None:
            raise TlsRefused("weak_parameters", f"negotiated {connection.get_protocol_version_name()} with {named}")
        if _openssl.SSL_session_reused(connection._ssl):  # noqa: SLF001
            raise TlsRefused("resumed", "a resumed session, which would skip today's checks")
        return group


@dataclass(frozen=True, slots=True)
class Pin:
    """All an invite says about whom to trust: SHA-256 of the root's SPKI."""

    root_spki_sha256: bytes

    def __post_init__(self) -> None:
        if len(self.root_spki_sha256) != _SHA256_BYTES:
            raise LocalError("a root is pinned by 32 bytes")


class ServerTls(_Policy):
    """How this server speaks TLS: who it is, whom it lets in.

    `accept`: the purposes whose certificates may connect. `require_client=False` lets a peer without a certificate in
    (enrolment); one that shows a certificate must still show a good one. To change anything, make another.
    """

    def __init__(
        self,
        identity: Identity,
        trust: Trust,
        accept: frozenset[Purpose],
        *,
        require_client: bool = True,
        alpn: Sequence[str | bytes] = (limits.ALPN_TUNNEL, limits.ALPN_HTTP),
    ) -> None:
        super().__init__(alpn)
        self._require_client = require_client
        anchors = trust.only(*accept)
        self._proved = Proved(anchors, trust.domain)
        # The root goes along where a pinned client may come: it has nothing else to verify the chain with.
        root = () if require_client else (trust.root,)
        self._use(identity, dict.fromkeys((*(each for each in identity.chain[1:] if each != trust.root), *root)))
        self._trust_only(anchors.values())
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if require_client else 0)
        self._context.set_verify(mode, _notice)
        self._context.set_alpn_select_callback(self._select_alpn)
        self._context.set_tlsext_servername_callback(_no_tickets)
        self.pending: Pending[Arrival] = Pending(
            Bounds(limits.MAX_SILENT, limits.MAX_SILENT_PER_SOURCE),
            Bounds(limits.MAX_PENDING_HANDSHAKES, limits.MAX_PENDING_PER_SOURCE),
        )
        self.told = Told(limits.REFUSALS_TOLD)

    def new_connection(self) -> SSL.Connection:
        """A fresh server side over memory BIOs."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection

    def judge(self, connection: SSL.Connection) -> Judged:
        """Who the peer is, once the handshake is done. Raises TlsRefused."""
        group = self._check_parameters(connection)
        digests = _digests(connection)
        if not digests:
            if self._require_client or connection.get_peer_certificate() is not None:
                raise TlsRefused("no_certificate", "the peer showed no certificate")
            return Judged(None, None, group, connection.get_alpn_proto_negotiated(), None)
        try:
            proof = self._proved.name_of(digests, partial(_verified_chain, connection), datetime.now(UTC))
        except BadCertificate as error:
            raise TlsRefused(error.reason, str(error)) from None
        return Judged(proof.name, proof.leaf, group, connection.get_alpn_proto_negotiated(), None)

    def abandon_pending(self) -> None:
        """Refuse every peer not verified yet: the server is stopping."""
        for arrival in self.pending:
            arrival.refuse(TlsRefused("cancelled", "the server is stopping"))

    def _select_alpn(self, _connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for mine in self.alpn:
            if mine in offered:
                return mine
        # Raising makes OpenSSL send the fatal alert no_application_protocol; its NO_OVERLAPPING_PROTOCOLS would go on.
        raise TlsRefused("no_alpn", "the peer offers no application protocol spoken here")


class ClientTls(_Policy):
    """How a client speaks TLS to the one server it expects.

    `identity` is None where the client has no certificate yet. `ClientTls.pinned` is for enrolment.
    """

    def __init__(
        self,
        identity: Identity | None,
        trust: Trust | Pin,
        expect: Name,
        *,
        alpn: Sequence[str | bytes] = (limits.ALPN_TUNNEL,),
    ) -> None:
        super().__init__(alpn)
        self.expect = expect
        self._trust = trust
        if identity is not None:
            # The leaf alone: whoever accepts it holds its intermediate as an anchor and would not believe ours.
            self._use(identity)
        self._context.set_alpn_protos(list(self.alpn))
        if isinstance(trust, Pin):
            # OpenSSL has no anchor to build to, so it takes any chain here, and `judge` verifies it from the pinned
            # root down before our Finished, let alone a byte of ours, leaves. TLS checks that the peer holds the key.
            self._context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        else:
            self._trust_only((*trust.only(Purpose.SERVICES).values(), (trust.root,)))
            self._context.set_verify(SSL.VERIFY_PEER, _notice)

    @classmethod
    def pinned(
        cls,
        root_spki_sha256: bytes,
        expect: Name,
        *,
        alpn: Sequence[str | bytes] = (limits.ALPN_HTTP,),
        identity: Identity | None = None,
    ) -> Self:
        """A client that knows its root only by SHA-256 of the SPKI (32 bytes), as an invite carries it."""
        return cls(identity, Pin(root_spki_sha256), expect, alpn=alpn)

    def new_connection(self) -> SSL.Connection:
        """A fresh client side over memory BIOs."""
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        return connection

    def judge(self, connection: SSL.Connection) -> Judged:
        """Whether the peer is the one expected, once the handshake is done. Raises TlsRefused."""
        group = self._check_parameters(connection)
        alpn = connection.get_alpn_proto_negotiated()
        if alpn not in self.alpn:
            raise TlsRefused("no_alpn", "the server chose none of the application protocols offered")
        trust, root = self._trust, None
        if isinstance(trust, Pin):
            chain = connection.get_peer_cert_chain(as_cryptography=True) or []
            trust = _trust_in_pin(chain, trust)
            root = trust.root
            anchors = trust.only(Purpose.SERVICES)
        else:
            chain = _verified_chain(connection)
            signer = chain[1:2]
            anchors = trust.accepting(signer[0], Purpose.SERVICES) if signer else trust.only(Purpose.SERVICES)
        name = _name_of(chain, anchors, self.expect.domain, server=True)
        if name != self.expect:
            raise TlsRefused("wrong_name", f"the server is {name}, not {self.expect}")
        return Judged(name, chain[0], group, alpn, root)


def _fill(store: crypto.X509Store, anchors: Iterable[x509.Certificate]) -> None:
    for certificate in anchors:
        store.add_cert(crypto.X509.from_cryptography(certificate))
    # PARTIAL_CHAIN lets one intermediate be the anchor, so the others signed by the same root are strangers.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | crypto.X509StoreFlags.X509_STRICT)


def _no_tickets(connection: SSL.Connection) -> None:
    """Asked in every ClientHello, whether it names a server or not.

    With OP_NO_TICKET from the beginning OpenSSL sends two tickets of TLS 1.3 all the same, handles to a cache of
    sessions, and pyOpenSSL has no SSL_set_num_tickets. Where the option comes at this point none is sent: OpenSSL takes
    it for a change to a virtual host without tickets. Were that to end, `judge` would still refuse whoever uses one.
    """
    _openssl.SSL_set_options(connection._ssl, SSL.OP_NO_TICKET)  # noqa: SLF001


def _notice(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    if not ok and connection.get_app_data() is None:
        reason, sentence = _REFUSALS.get(error, ("bad_certificate", f"does not verify (OpenSSL's code {error})"))
        which = "the certificate" if depth == 0 else "the certificate's authority"
        connection.set_app_data(Noticed(TlsRefused(reason, f"{which} {sentence}"), certificate.to_cryptography()))
    return bool(ok)


def _verified_chain(connection: SSL.Connection) -> list[x509.Certificate]:
    """The chain that verified, leaf first; empty if there is none. Raises ValueError for what cannot be read."""
    return connection.get_verified_chain(as_cryptography=True) or []


def _digests(connection: SSL.Connection) -> tuple[bytes, ...]:
    """SHA-256 of each certificate of that chain, without an object for each of them."""
    chain = _openssl.SSL_get0_verified_chain(connection._ssl)  # noqa: SLF001
    if chain == _ffi.NULL:
        return ()
    into, found = _ffi.new("unsigned char[]", _SHA256_BYTES), []
    for number in range(_openssl.sk_X509_num(chain)):
        if _openssl.X509_digest(_openssl.sk_X509_value(chain, number), _SHA256, into, _ffi.NULL) != 1:
            raise LocalError("OpenSSL cannot hash a certificate")
        found.append(bytes(_ffi.buffer(into)))
    return tuple(found)


def _trust_in_pin(presented: Sequence[x509.Certificate], pin: Pin) -> Trust:
    try:
        return Trust.pinned(presented, pin.root_spki_sha256, now=datetime.now(UTC))
    except BadCertificate as error:
        raise TlsRefused(error.reason, str(error)) from None


def _name_of(
    chain: Sequence[x509.Certificate],
    anchors: Mapping[Purpose, Sequence[x509.Certificate]],
    domain: str,
    *,
    server: bool,
) -> Name:
    try:
        return name_of(chain, anchors=anchors, domain=domain, now=datetime.now(UTC), server=server)
    except BadCertificate as error:
        raise TlsRefused(error.reason, str(error)) from None


async def connect_tls(
    sock: socket.socket,
    tls: ClientTls,
    protocol_factory: Callable[[], P],
    *,
    timeout: float = limits.HANDSHAKE_DEADLINE,  # noqa: ASYNC109 (a deadline of the protocol, and part of its contract)
) -> tuple[TlsTransport, P]:
    """Speak TLS as a client over the connected `sock`, which is ours from here on.

    The protocol is made, and its `connection_made` called, only once the server is the one expected. Raises TlsRefused.
    """
    return await connect(sock, tls, protocol_factory, timeout)


def accept_tls(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    tls: ServerTls,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    *,
    on_refused: OnRefused = ignore_refusal,
    on_over: Callable[[], None] = ignore_over,
    timeout: float = limits.HANDSHAKE_DEADLINE,
) -> None:
    """Speak TLS as the server over the accepted `sock`, which is ours from here on. Returns at once.

    `protocol_factory` is called only for a verified peer. Whoever else comes is one call of `on_over`; before it comes
    one of `on_refused`, unless they left without a word or too many were told of in this second.
    """
    accept(loop, sock, tls, protocol_factory, on_refused=on_refused, on_over=on_over, timeout=timeout)


def export_binding(transport: asyncio.BaseTransport, label: bytes, context: bytes, length: int) -> bytes:
    """`length` bytes only the two ends of this connection know (RFC 8446 §7.5): what a proof inside it is bound to."""
    connection = transport.get_extra_info("ssl_object")
    if not isinstance(connection, SSL.Connection):
        raise LocalError("only a TLS connection of ours has a binding to export")
    return connection.export_keying_material(label, length, context)
