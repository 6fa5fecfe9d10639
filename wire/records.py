"""TLS records in and out of OpenSSL's memory BIOs, without an allocation or an exception per record.

pyOpenSSL's `recv`, `send`, `bio_read` and `bio_write` each allocate, copy or raise for every 16 KiB. Here the same five
OpenSSL functions work on buffers one thread shares among its connections; only this file and `wire.tls` reach below
pyOpenSSL's public API, through the same binding pyOpenSSL itself uses.

1. A view this module returns is valid until the callback that got it returns: whoever keeps bytes copies them.
2. Work goes in slices, so the memory BIOs of a connection stay small however much it carries.
3. Messages after the handshake (KeyUpdate, tickets) cost a key schedule each and carry nothing: they are counted, and
   OpenSSL is stopped in the middle of a flood, not after it.
4. OpenSSL's error queue belongs to the thread, not to the connection: it is cleared before every use, so that one
   connection's failure is never read as another's.
"""

import contextlib
import threading
from typing import Any, Final, NoReturn

from OpenSSL import SSL
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from wire import limits
from wire.errors import TlsRefused

_RECORD: Final = limits.TLS_RECORD_PLAINTEXT
_SLICE: Final = limits.SLICE
# What one slice grows to when sealed: 22 bytes a record (RFC 8446 §5.2), and room for a KeyUpdate or an alert.
_SEALED: Final = _SLICE + 32 * (_SLICE // _RECORD + 1) + 4096
# What one read of ciphertext can open to: itself, and the end of a record that had begun before it.
_OPENED: Final = limits.READ_SIZE + 2 * _RECORD


class _Buffers(threading.local):
    """The buffers of this thread's event loop."""

    def __init__(self) -> None:
        self.received = memoryview(bytearray(limits.READ_SIZE))
        self.received_at = _ffi.from_buffer(self.received)
        self.opened = memoryview(bytearray(_OPENED))
        self.opened_at = _ffi.from_buffer(self.opened)
        self.sealed = memoryview(bytearray(_SEALED))
        self.sealed_at = _ffi.from_buffer(self.sealed)


_buffers = _Buffers()


def receive_buffer() -> memoryview:
    """The one receive buffer of the running event loop."""
    return _buffers.received


class _Chatter:
    """Counts the handshake messages a peer sends after the handshake, and stops reading beyond `allowed`."""

    __slots__ = ("allowed", "count")

    def __init__(self) -> None:
        self.count = 0
        self.allowed = limits.MAX_POST_HANDSHAKE

    def __call__(self, connection: SSL.Connection, where: int, _result: int) -> None:
        if where & SSL.SSL_CB_LOOP and b" read " in connection.get_state_string():
            self.count += 1
            if self.count > self.allowed:
                # OpenSSL then drops what follows and SSL_read returns as if the peer had closed; `open` looks why.
                connection.set_shutdown(SSL.RECEIVED_SHUTDOWN)


class Records:
    """The record layer of one connection, whose handshake may still be going on."""

    __slots__ = ("_chatter", "_from_ssl", "_into_ssl", "_opened", "_ssl", "connection", "ended")

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.ended = False
        self._opened = 0
        self._chatter = _Chatter()
        self._ssl: Any = connection._ssl  # noqa: SLF001
        self._into_ssl: Any = connection._into_ssl  # noqa: SLF001
        self._from_ssl: Any = connection._from_ssl  # noqa: SLF001

    def handshake(self, received: int) -> bool:
        """Feed `received` bytes of the receive buffer to the handshake; whether it is done. Raises SSL.Error."""
        _lib.ERR_clear_error()
        self.keep(received)
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        self.connection.set_info_callback(self._chatter)
        return True

    def keep(self, received: int) -> None:
        """Keep `received` bytes of the receive buffer for the next `open`."""
        if received:
            _lib.BIO_write(self._into_ssl, _buffers.received_at, received)

    def open(self, received: int) -> memoryview:
        """The plaintext that the first `received` bytes of the receive buffer complete; sets `ended` at close_notify.

        Raises TlsRefused for an alert, for anything that is not TLS, and for a flood of messages that carry nothing.
        """
        buffers = _buffers
        at, ssl, read = buffers.opened_at, self._ssl, _lib.SSL_read
        opened = taken = 0
        _lib.ERR_clear_error()
        while not self.ended:
            if taken < received:
                piece = min(_SLICE, received - taken)
                _lib.BIO_write(self._into_ssl, buffers.received_at + taken, piece)
                taken += piece
            while (got := read(ssl, at + opened, _RECORD)) > 0:
                opened += got
            error = _lib.SSL_get_error(ssl, got)
            if error == _lib.SSL_ERROR_WANT_READ:
                if taken == received:
                    break
            elif error == _lib.SSL_ERROR_ZERO_RETURN:
                self.ended = True
            else:
                self._raise(got)
        if self._chatter.count:
            self._check_chatter(opened)
        self._opened += opened
        return buffers.opened[:opened]

    def seal(self, data: Any) -> memoryview:
        """At most one slice of plaintext as ciphertext ready to send. Raises TlsRefused."""
        _lib.ERR_clear_error()
        sealed = _lib.SSL_write(self._ssl, _ffi.from_buffer(data), len(data))
        if sealed <= 0:
            self._raise(sealed)
        return self.outgoing()

    def close_notify(self) -> memoryview:
        """Our end of the plaintext, as ciphertext ready to send; empty if the connection is past that."""
        _lib.ERR_clear_error()
        with contextlib.suppress(SSL.Error):
            self.connection.shutdown()
        return self.outgoing()

    def outgoing(self) -> memoryview:
        """Ciphertext OpenSSL wants sent; empty if none."""
        buffers = _buffers
        length = _lib.BIO_read(self._from_ssl, buffers.sealed_at, _SEALED)
        return buffers.sealed[: max(length, 0)]

    def _check_chatter(self, opened: int) -> None:
        chatter = self._chatter
        chatter.allowed = limits.MAX_POST_HANDSHAKE + (self._opened + opened) // limits.POST_HANDSHAKE_EARNED
        if chatter.count > chatter.allowed:
            raise TlsRefused("key_update_flood", "the peer sends key updates and no data")

    def _raise(self, result: int) -> NoReturn:
        try:
            self.connection._raise_ssl_error(self._ssl, result)  # noqa: SLF001
        except SSL.Error as error:
            raise explain(error) from None
        raise TlsRefused("bad_tls", "TLS failed without a reason")


def explain(error: SSL.Error) -> TlsRefused:
    """OpenSSL's error as a reason code and a sentence."""
    if isinstance(error, SSL.SysCallError):
        return TlsRefused("closed", "the connection ended in the middle of TLS")
    reasons = [entry[2] for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    text = "; ".join(reasons) or "TLS failed"
    if "alert" in text:
        return TlsRefused("refused_by_peer", f"the peer refused: {text}")
    for part, reason, sentence in _EXPLANATIONS:
        if part in text:
            return TlsRefused(reason, sentence)
    return TlsRefused("bad_tls", f"TLS failed: {text}")


_EXPLANATIONS: Final = (
    ("peer did not return a certificate", "no_certificate", "the peer showed no certificate"),
    ("certificate verify failed", "bad_certificate", "the peer's certificate does not verify"),
    ("http request", "not_tls", "plain HTTP where TLS is spoken"),
    ("wrong version number", "not_tls", "not TLS"),
    ("unsupported protocol", "old_tls", "TLS older than 1.3"),
    ("no suitable key share", "no_group", "no key exchange in common"),
    ("no suitable groups", "no_group", "no key exchange in common"),
    ("no shared cipher", "no_cipher", "no cipher in common"),
    ("packet length too long", "not_tls", "not TLS"),
    ("record layer failure", "not_tls", "not TLS"),
)
