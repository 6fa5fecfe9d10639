"""libnftables in this process: text in, one transaction of the kernel's packet filter (libnftables(3)).

A binding of our own, of the five functions that are needed. Measured beside it, for one added element: this 0.06 ms;
the project's own binding, which PyPI has only as copies by third parties, 0.08 ms as text and 0.10 ms as JSON; pyroute2
0.9.7 cannot change sets (its nftables module was left behind by its move to asyncio) and takes 0.2 s to import; the
`nft` command 5 ms.
"""

import ctypes
from typing import Any, Final

from spa.cloak.netlink import Ask, ask, packet_filter_socket
from spa.errors import CloakError

_LIBRARY: Final = "libnftables.so.1"
_INSTEAD: Final = "or use the socket-filter or on-demand cloak"
_FIXES: Final = {
    "Operation not permitted": "give the process CAP_NET_ADMIN, or use the on-demand cloak",
}
_KERNEL: Final = f"this kernel needs nf_tables and nft_socket (modprobe nf_tables nft_socket), {_INSTEAD}"


class LibNftables:
    """A context of the library. `CloakError` if there is none to be had here."""

    def __init__(self) -> None:
        _may_change_tables()
        self._library = _load()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise refused("libnftables has no memory for a context")
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> None:
        """All of `text` comes into force at once, or none of it: `CloakError`."""
        if self._library.nft_run_cmd_from_buffer(self._context, text.encode()) != 0:
            said = (self._library.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
            raise refused(_sentence(said))

    def close(self) -> None:
        """Frees the context."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None


def refused(why: str) -> CloakError:
    """The error for what the system said, with what helps."""
    return CloakError(f"the nftables cloak does not work here: {why}", _FIXES.get(why, _KERNEL))


def _sentence(said: str) -> str:
    """What the kernel answered, out of the library's lines for a terminal."""
    lines = [line.partition("Error: ")[2] for line in said.splitlines() if "Error: " in line]
    return (lines[0] if lines else "libnftables gave no reason").rpartition(": ")[2]


def _may_change_tables() -> None:
    """The library writes to stderr, or ends the process, where it may not; so we ask before it does."""
    try:
        with packet_filter_socket() as sock:
            list(ask(sock, Ask.GENERATION, {}))
    except PermissionError as error:
        raise refused(str(error.strerror)) from error
    except OSError as error:
        raise CloakError(
            f"the nftables cloak does not work here: no netlink: {error.strerror or error}",
            f"allow AF_NETLINK (systemd: RestrictAddressFamilies=), {_INSTEAD}",
        ) from error


def _load() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise CloakError(
            f"the nftables cloak does not work here: {_LIBRARY} is not installed",
            f"install it (Debian: apt-get install libnftables1), {_INSTEAD}",
        ) from error
    context = ctypes.c_void_p
    library.nft_ctx_new.argtypes, library.nft_ctx_new.restype = [ctypes.c_uint32], context
    library.nft_ctx_free.argtypes, library.nft_ctx_free.restype = [context], None
    library.nft_ctx_buffer_error.argtypes = [context]
    library.nft_ctx_get_error_buffer.argtypes = [context]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    return library
