"""What a device or gateway may prove itself with: the credential that counts and, during a renewal, the next one.

Laws:

1. From a renewal until its first use the next credential counts beside the present one; used, it takes its place, and
   the one before is refused. So whoever lost an answer, or stopped before it was on the disk, still gets in.
2. A credential whose certificate has ended proves nothing but that its holder may have another: for `grace`, and only
   with its key.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from wire.messages import Refusal

NOT_WELCOME: Final = Refusal(
    code="not_welcome",
    sentence="this certificate is not accepted here any more",
    fix="ask your administrator; enrolling again needs a new invite",
)
"""What everybody hears whose certificate or key does not count, whatever the reason; the audit log has that."""

Which = Literal["present", "next"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A public key (SHA-256 of its SPKI), the end of its certificate, the sealed knock secret that goes with it."""

    key_sha256: bytes
    certified_until: datetime
    sealed_knock_secret: bytes
    issuer: UUID | None = None  # the intermediate that certified it


@dataclass(frozen=True, slots=True)
class Credentials:
    """All that counts for one holder."""

    present: Credential
    next: Credential | None = None

    def which(self, key_sha256: bytes) -> Which | None:
        """Which of them this key is; None: neither."""
        if hmac.compare_digest(self.present.key_sha256, key_sha256):
            return "present"
        if self.next is not None and hmac.compare_digest(self.next.key_sha256, key_sha256):
            return "next"
        return None

    @property
    def newest_first(self) -> tuple[Credential, ...]:
        """The credentials there are."""
        return (self.present,) if self.next is None else (self.next, self.present)


def why_not_recovered(credentials: Credentials, which: Which, now: datetime, grace: timedelta) -> str | None:
    """Why the holder of this key may not have another now, as a code; None: it may."""
    held = credentials.present if which == "present" or credentials.next is None else credentials.next
    if now <= held.certified_until:
        return "not_ended"
    return "too_late" if now > held.certified_until + grace else None
