"""Whom this gateway trusts: the bundle on the disk, replaced whole when the controller sends another.

1. Another root is refused: the link ends, and nothing changes.
2. A bundle is in force when it is on the disk and every worker begins its handshakes with it; only then may it be
   acknowledged. A worker that starts meanwhile reads the disk.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from certs.errors import CertsError
from certs.store import Trust, write_public
from console.errors import CommandError
from gateway.config import TRUST
from wire.errors import RemoteError


class Believed:
    """The trust of a state directory. `reload` has the workers read it again."""

    def __init__(self, state: Path, reload: Callable[[], Awaitable[None]]) -> None:
        self._path = state / TRUST
        self._reload = reload
        try:
            self.current = Trust.from_pem(self._path.read_bytes())
        except OSError as error:
            raise CommandError(
                f"{self._path} cannot be read: {error.strerror}", "join the perimeter again in a new --state"
            ) from error

    async def take(self, pem: str) -> None:
        """From now on this is trusted. Raises RemoteError for a bundle of another root, or none."""
        try:
            new = self.current.succeeded_by(pem.encode())
        except CertsError as error:
            raise RemoteError(f"a trust that cannot be taken: {error}") from error
        if new == self.current:
            return
        write_public(self._path, new.to_pem())
        self.current = new
        await self._reload()
