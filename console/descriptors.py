"""File descriptors: a server holds thousands of sockets, and the usual soft limit of 1,024 is a leftover."""

import contextlib
import resource


def allow_many() -> None:
    """Raises the soft limit as far as the hard one lets us, here and in the processes we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # "unlimited" is more than some kernels grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
