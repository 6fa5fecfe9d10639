"""The client of the measurements: blocking sockets and plain pyOpenSSL, the same for gloam and its peers.

It speaks TLS 1.3 with AES-256-GCM to all of them, so that none has the cheaper cipher, and checks the server's chain.
To a gateway it says CONNECT first; its knock was made before, by gloam's own sender.
"""

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from OpenSSL import SSL, crypto

from bench.source import DONE
from certs.identity import Identity
from certs.issue import load_private_key
from certs.trust import Trust
from wire.connect import Accepted, ClientHandshake, NeedMore

CIPHER = b"TLS_AES_256_GCM_SHA384"
BLOCK = 262_144
WARM_BYTES = 4_000_000
SILENCE_SECONDS = 20
_RECORD = 16_384
_NO_AUTO_CHAIN = 0x8


def client_context(identity: Identity, trust: Trust, alpn: bytes | None = None) -> SSL.Context:
    """The TLS of the load's client; with `alpn`, as it speaks to a gateway."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(CIPHER)
    context.use_certificate(identity.leaf)
    if alpn is None:
        for certificate in identity.chain[1:]:
            context.add_extra_chain_cert(certificate)
    else:  # to a gateway as gloam's own client: the leaf alone, whose intermediate the gateway holds (wire/tls.py)
        context.set_mode(_NO_AUTO_CHAIN)
    context.use_privatekey(load_private_key(identity.key))
    store = context.get_cert_store()
    if store is None:
        raise RuntimeError("the TLS context has no certificate store")
    for certificate in (trust.root, *trust.intermediates()):
        store.add_cert(crypto.X509.from_cryptography(certificate))
    context.set_verify(SSL.VERIFY_PEER)
    if alpn:
        context.set_alpn_protos([alpn])
    return context


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one transfer took: CPU of the relay under test, and time on the wall."""

    cpu_seconds: float
    wall_seconds: float
    cipher: str
    group: str


class Load:
    """One connection through a relay to `bench.source`. Blocking: run it in a thread."""

    def __init__(self, sock: socket.socket, context: SSL.Context) -> None:
        # SO_RCVTIMEO instead of settimeout: pyOpenSSL wants a socket that blocks, and a stuck relay must not block us.
        sock.setblocking(True)  # noqa: FBT003 - the socket module's own way
        timeout = SILENCE_SECONDS.to_bytes(8, "little") + bytes(8)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._buffer = bytearray(_RECORD)
        self._tls = SSL.Connection(context, sock)
        self._tls.set_connect_state()
        self._tls.do_handshake()

    def connect(self, name: str, port: int) -> None:
        """Ask a gateway for a resource."""
        handshake = ClientHandshake(name, port)
        self._tls.sendall(handshake.request())
        while isinstance(answer := handshake.receive(self._tls.recv(_RECORD)), NeedMore):
            pass
        if not isinstance(answer, Accepted):
            raise RuntimeError(f"the gateway refused: {answer}")  # noqa: TRY004 - not a matter of types

    def down(self, count: int) -> None:
        """Take `count` bytes from the source."""
        self._tls.sendall(b"down %d\n" % count)
        receive, buffer = self._tls.recv_into, self._buffer
        while count > 0:
            count -= receive(buffer)

    def up(self, count: int) -> None:
        """Send `count` bytes to the source, and hear that all have come."""
        self._tls.sendall(b"up %d\n" % count)
        block = bytes(BLOCK)
        while count > 0:
            self._tls.sendall(block[: min(count, BLOCK)])
            count -= min(count, BLOCK)
        if self._tls.recv(len(DONE)) != DONE:
            raise RuntimeError("the source did not get everything")

    def tick(self, milliseconds: int) -> None:
        """Have the source send a byte so often from now on; returns when the first one is here."""
        self._tls.sendall(b"tick %d\n" % milliseconds)
        self._tls.recv(1)

    def fileno(self) -> int:
        """The connection's socket, to wait for."""
        return self._socket.fileno()

    def measure(self, direction: str, count: int, cpu: Callable[[], float]) -> Transfer:
        """A warm-up and then `count` bytes `down` or `up`, with what `cpu` counted meanwhile."""
        transfer = {"down": self.down, "up": self.up}[direction]
        transfer(WARM_BYTES)
        before, began = cpu(), time.monotonic()
        transfer(count)
        taken, elapsed = cpu() - before, time.monotonic() - began
        return Transfer(taken, elapsed, self._tls.get_cipher_name() or "", self._tls.get_group_name() or "")

    def close(self) -> None:
        """Both ends of it are done with."""
        with contextlib.suppress(SSL.Error):  # the other end may have ended it
            self._tls.shutdown()
        self._socket.close()
