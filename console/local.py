"""Unix sockets in state directories: how the processes of one user talk to each other.

Laws:

1. The socket file is born 0600: there is no moment at which others could connect.
2. The kernel says who is at the other end (SO_PEERCRED, unix(7)); what it cannot tell is nobody.
3. Paths of any length work: a Unix address holds 107 bytes, so the directory is opened and named by its descriptor.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from console.errors import CommandError

NOBODY: Final = -1
_UCRED: Final = struct.Struct("3i")  # pid, uid, gid


def listen_privately(path: Path) -> socket.socket:
    """A listening, non-blocking socket at `path`; the file a killed process left there is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with named(path) as address:
            listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise CommandError(f"{path} cannot be made: {error.strerror}", "check that --state is writable") from error
    finally:
        os.umask(before)
    listener.settimeout(0)
    return listener


def may_speak(sock: socket.socket | None) -> bool:
    """Whether the other end is our own user or root."""
    return peer_uid(sock) in {0, os.geteuid()}


def peer_uid(sock: socket.socket | None) -> int:
    """The user the other end of a Unix socket had when it connected or listened."""
    option = getattr(socket, "SO_PEERCRED", None)
    if sock is None or option is None:
        return NOBODY
    return int(_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _UCRED.size))[1])


@contextmanager
def named(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a Unix address."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
