"""TLS records in and out of OpenSSL's memory BIOs, without an allocation or an exception per record.

pyOpenSSL's `recv`, `send`, `bio_read` and `bio_write` each allocate, copy or raise for every 16 KiB. Here the same five
OpenSSL functions work on buffers one thread shares among its connections; only this file and `wire.tls` reach below
pyOpenSSL's public API, through the same binding pyOpenSSL itself uses.

1. A view this module returns is valid until the callback that got it returns: whoever keeps bytes copies them.
2. Ciphertext is opened where the socket put it: OpenSSL reads the receive buffer through a BIO that owns nothing, and
   has read all of it, or never will, before the buffer is used again. Plaintext is sealed in slices, so the one memory
   BIO of a connection stays small; `shrink` gives back what a busy one grew to.
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
_SHRINK: Final = 16_384  # a BIO that never held more is left as it is
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
    """Counts the handshake messages a peer sends after the handshake, and how many it may send."""

    __slots__ = ("allowed", "count")

    def __init__(self) -> None:
        self.count = 0
        self.allowed = limits.MAX_POST_HANDSHAKE


def _note(ssl: Any, where: int, _result: int) -> None:
    """One callback for all connections, each of which carries its `_Chatter`: stops reading beyond what is allowed."""
    if not where & SSL.SSL_CB_LOOP:
        return
    connection = SSL.Connection._reverse_mapping[ssl]  # noqa: SLF001
    chatter = connection.get_app_data()
    if isinstance(chatter, _Chatter) and b" read " in connection.get_state_string():
        chatter.count += 1
        if chatter.count > chatter.allowed:
            # OpenSSL then drops what follows and SSL_read returns as if the peer had closed; `open` looks why.
            connection.set_shutdown(SSL.RECEIVED_SHUTDOWN)


_on_info: Final = _ffi.callback("void (*)(const SSL *, int, int)", _note)


class Records:
    """The record layer of one connection, whose handshake may still be going on."""

    __slots__ = ("_chatter", "_from_ssl", "_into_ssl", "_kept", "_opened", "_sealed", "_ssl", "connection", "ended")

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.ended = False
        self._opened = 0
        self._sealed = 0  # the most the outgoing BIO has held since it was made
        self._kept = b""  # ciphertext that came while nobody took plaintext
        self._chatter = _Chatter()
        self._ssl: Any = connection._ssl  # noqa: SLF001
        self._into_ssl: Any = connection._into_ssl  # noqa: SLF001
        self._from_ssl: Any = connection._from_ssl  # noqa: SLF001

    def handshake(self, received: int) -> bool:
        """Feed `received` bytes of the receive buffer to the handshake; whether it is done. Raises SSL.Error.

        Once it is done, `outgoing` must be asked before anything else: the last of the handshake is in it.
        """
        _lib.ERR_clear_error()
        if received:
            _lib.BIO_write(self._into_ssl, _buffers.received_at, received)
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        self.connection.set_app_data(self._chatter)
        _lib.SSL_set_info_callback(self._ssl, _on_info)
        self._keep_rest()
        return True

    @property
    def waiting(self) -> bool:
        """Whether there is ciphertext that `open` has not been given room for."""
        return bool(self._kept) and not self.ended

    def keep(self, received: int) -> None:
        """Keep `received` bytes of the receive buffer for the next `open`."""
        if received:
            self._kept += _buffers.received[:received]

    def open(self, received: int) -> memoryview:
        """The plaintext that the first `received` bytes of the receive buffer complete; sets `ended` at close_notify.

        Raises TlsRefused for an alert, for anything that is not TLS, and for a flood of messages that carry nothing.
        """
        buffers = _buffers
        _lib.ERR_clear_error()
        if self._kept:
            opened = self._open_kept(received)
        elif received and not self.ended:
            opened = self._open(buffers.received_at, received)
        else:
            opened = 0
        if self._chatter.count:
            self._check_chatter(opened)
        self._opened += opened
        return buffers.opened[:opened]

    def _open(self, ciphertext: Any, length: int) -> int:
        """Opens the `length` bytes at `ciphertext`, at most one read; how much that makes."""
        at, ssl, read, opened = _buffers.opened_at, self._ssl, _lib.SSL_read, 0
        self._read_from(_lib.BIO_new_mem_buf(ciphertext, length))
        while (got := read(ssl, at + opened, _RECORD)) > 0:
            opened += got
        error = _lib.SSL_get_error(ssl, got)
        if error != _lib.SSL_ERROR_WANT_READ:  # which says that all of it has been read
            self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))
            if error != _lib.SSL_ERROR_ZERO_RETURN:
                self._raise(got)
            self.ended = True
        return opened

    def _open_kept(self, received: int) -> int:
        """The same for what was kept and what came since, as far as there is room; `waiting` says if that is not all.

        It is rare: at most one read comes while nobody takes plaintext.
        """
        kept = self._kept + _buffers.received[:received]
        piece, self._kept = kept[: limits.READ_SIZE], kept[limits.READ_SIZE :]
        if self.ended:
            return 0
        opened = self._open(_ffi.from_buffer(piece), len(piece))
        self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))  # `piece` does not outlive this
        return opened

    def _read_from(self, source: Any) -> None:
        """OpenSSL reads from this BIO from now on; its end is no end of the connection."""
        _lib.BIO_set_mem_eof_return(source, -1)
        _lib.SSL_set_bio(self._ssl, source, self._from_ssl)

    def _keep_rest(self) -> None:
        """After the handshake: take back what OpenSSL has not read, and the BIO that served for it."""
        rest = _ffi.buffer(_buffers.sealed_at, max(_lib.BIO_read(self._into_ssl, _buffers.sealed_at, _SEALED), 0))
        self._kept = bytes(rest)
        self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))
        self._into_ssl = self.connection._into_ssl = None  # noqa: SLF001 (it is gone)

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
        if length <= 0:
            return buffers.sealed[:0]
        self._sealed = max(self._sealed, length)
        return buffers.sealed[:length]

    def shrink(self) -> None:
        """Give back the memory of a connection that was busy and is not; `outgoing` must be empty."""
        if self._sealed > _SHRINK:
            self._sealed = 0
            self._from_ssl = self.connection._from_ssl = _lib.BIO_new(_lib.BIO_s_mem())  # noqa: SLF001
            _lib.SSL_set_bio(self._ssl, _lib.BIO_new(_lib.BIO_s_mem()), self._from_ssl)

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
