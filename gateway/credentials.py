"""What a gateway proves itself with: identity and knock secret; with the trust they change together or not at all."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from certs.identity import Identity
from certs.secret import Secret
from certs.staging import Staging
from certs.store import IdentityStore, read_private, write_private, write_public
from certs.trust import Trust
from gateway.config import IDENTITY, KNOCK_SECRET, TRUST


@dataclass(frozen=True, slots=True)
class Credentials:
    """As they were read, or as they were renewed."""

    identity: Identity
    knock_secret: Secret = field(repr=False)

    @classmethod
    def load(cls, state: Path) -> Self:
        """Those of a state directory; finishes what a crash left, so read the trust later. Raises CertsError."""
        _staging(state).finish()
        return cls(IdentityStore(state).load(IDENTITY), Secret(read_private(state / KNOCK_SECRET)))

    def save(self, state: Path, trust: Trust) -> None:
        """Replaces those of a state directory, and the trust, whole or not at all. Raises StoreError, OSError."""
        staging = _staging(state)
        new = staging.begin()
        write_public(new / TRUST, trust.to_pem())
        write_private(new / KNOCK_SECRET, self.knock_secret.reveal())
        IdentityStore(new).save(IDENTITY, self.identity)
        staging.commit()


def _staging(state: Path) -> Staging:
    return Staging(state, "renewal", (TRUST, KNOCK_SECRET, f"{IDENTITY}.key", f"{IDENTITY}.pem"))
