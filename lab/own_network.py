"""A network of one's own, for a while: this thread moves into a fresh network namespace that has only a loopback.

Sockets made and processes started by the thread meanwhile belong to it; nothing of the machine's own network is touched
or reachable. It has no name, so nothing can be left behind: it goes with the last process in it. Needs root (Linux).

Every address of `ULA` is the namespace's own, as every address of 127.0.0.0/8 is any machine's: nodes can be told
apart.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from lab.processes import LabError

ULA: Final = "fd00:9:c0de:"
"""The first 48 bits of a unique local prefix (RFC 4193); blocks of addresses are /64s of it."""

_CLONE_NEWNET: Final = 0x40000000
_SETUP: Final[Sequence[Sequence[str]]] = (
    ("ip", "link", "set", "lo", "up"),
    # Binding to addresses of a local route is what Linux lets everybody do for IPv4; for IPv6 it has to be told.
    ("sysctl", "-q", "-w", "net.ipv6.ip_nonlocal_bind=1"),
    ("ip", "-6", "route", "add", "local", f"{ULA}:/48", "dev", "lo"),
)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Inside the block this thread is in a network namespace of its own. Raises LabError where it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise LabError(f"a network namespace cannot be made: {os.strerror(ctypes.get_errno())}")
        try:
            for command in _SETUP:
                subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - commands of ours alone
            yield
        finally:
            if libc.setns(home, _CLONE_NEWNET) != 0:
                raise LabError(f"there is no way back into the first network: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(home)
