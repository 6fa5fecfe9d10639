"""Where a role keeps its state."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import platformdirs

from console.errors import CommandError

STATE_VARIABLE: Final = "GLOAM_STATE"
SERVICES: Final = frozenset({"controller", "gateway"})
LOCK: Final = "run.lock"
SYSTEM: Final = Path("/var/lib/gloam")


def state_directory(
    option: Path | None, role: str, environ: Mapping[str, str], *, superuser: bool | None = None
) -> Path:
    """The state directory of ``role`` ("controller", "gateway", "client"); it is named here, not made.

    ``--state``, else ``$GLOAM_STATE``, else ``/var/lib/gloam/ROLE`` for services run as root, else the platform's
    place for this user's data.
    """
    if option is not None:
        return option.expanduser().absolute()
    if named := environ.get(STATE_VARIABLE):
        return Path(named).expanduser().absolute()
    if role in SERVICES and (os.geteuid() == 0 if superuser is None else superuser):
        return SYSTEM / role
    return Path(platformdirs.user_data_path("gloam")) / role


@contextmanager
def only_one(directory: Path, role: str) -> Iterator[None]:
    """Keeps a second process of ``role`` off this state directory; it goes with the process, however that ends."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CommandError(f"{directory} cannot be used: {error.strerror}", "check its permissions") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"a {role} runs on {directory} already", "use that one, or stop it first") from None
        yield
    finally:
        os.close(descriptor)
