"""People's passkeys: their rows, and the challenges they are asked over.

Laws:

1. A challenge is of our making, for one device, purpose, person and session, and counts once (challenges.py).
2. What a passkey signed counts by a conditional UPDATE that still finds its counter: of two uses at once, one counts.
3. A counter that went back blocks the passkey for good, in a transaction of its own: also where the login fails.
4. Removed passkeys keep their rows, so that no identifier is registered twice.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from controller.audit.events import PasskeyBlocked
from controller.identity import webauthn
from controller.identity.challenges import Asked, Challenges
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import Device, Passkey
from wire import passkey as agreed
from wire.messages import Credential, PasskeyProof
from wire.passkey import NONCE_BYTES

UNKNOWN: Final = "passkey_unknown"
OF_ANOTHER: Final = "passkey_of_another"
REMOVED: Final = "passkey_removed"
BLOCKED: Final = "passkey_blocked"


@dataclass(frozen=True, slots=True)
class Why:
    """Why a passkey does not count, truly."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Who:
    """The person, and where they are."""

    user_id: UUID
    user: str
    device: UUID
    source: str


class Passkeys:
    """Passkeys of one perimeter, of this domain and root."""

    def __init__(self, storage: Storage, *, domain: str, root_sha256: bytes, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._domain = domain
        self._root_sha256 = root_sha256
        self._clock = clock
        self._challenges = Challenges()

    async def of(self, user: UUID) -> Sequence[Passkey]:
        """A person's passkeys, the oldest first; the blocked ones too."""
        async with self._storage.read() as db:
            return await rows_of(db, user)

    async def ask(self, device: UUID, asked: Asked) -> bytes:
        """A new challenge for the device."""
        async with self._storage.read() as db:
            key = await db.scalar(select(Device.key_sha256).where(Device.id == device))
        challenge = agreed.challenge(
            secrets.token_bytes(NONCE_BYTES),
            asked.purpose,
            domain=self._domain,
            root_sha256=self._root_sha256,
            device=device,
            device_key_sha256=key or b"",
        )
        self._challenges.ask(device, challenge, asked, self._clock())
        return challenge

    def answered(self, device: UUID, client_data: bytes, asked: Asked) -> bytes | Why:
        """The challenge a response answers, used up by it; or why it does not count."""
        challenge = webauthn.challenge_of(client_data)
        if challenge is None:
            return Why(webauthn.Reason.MALFORMED, "client data")
        reason = self._challenges.answer(device, challenge, asked, self._clock())
        return challenge if reason is None else Why(reason)

    def handle_of(self, user: UUID) -> bytes:
        """What authenticators know a person by."""
        return agreed.user_handle(domain=self._domain, root_sha256=self._root_sha256, user=user)

    async def check(self, who: Who, proof: PasskeyProof, asked: Asked) -> "Signed | Why":
        """What a proof is worth. A counter that went back blocks the passkey. Raises StorageUnavailable."""
        challenge = self.answered(who.device, proof.client_data, asked)
        if isinstance(challenge, Why):
            return challenge
        async with self._storage.read() as db:
            row = await db.scalar(select(Passkey).where(Passkey.credential == proof.credential))
        why = _why_not(row, who.user_id)
        if row is None or why is not None:
            return Why(why or UNKNOWN)
        stored = webauthn.Stored(row.public_key, row.sign_count, row.synced)
        judged = webauthn.verify_assertion(proof, stored, challenge=challenge, handle=self.handle_of(who.user_id))
        if isinstance(judged, webauthn.Refused):
            if judged.reason is webauthn.Reason.COUNTER:
                await self._block(row, who, judged.detail)
            return Why(judged.reason, judged.detail)
        return Signed(row.id, row.sign_count, judged.sign_count)

    async def _block(self, row: Passkey, who: Who, detail: str) -> None:
        now = self._clock()
        async with self._storage.change() as change:
            open_still = update(Passkey).where(Passkey.id == row.id, Passkey.blocked_at.is_(None))
            if await changed_one(change.db, open_still.values(blocked_at=now)):
                change.record(
                    PasskeyBlocked(
                        user=who.user,
                        device=who.device,
                        source=who.source,
                        passkey=row.id,
                        name=row.name,
                        detail=detail,
                    )
                )


@dataclass(frozen=True, slots=True)
class Signed:
    """A passkey that signed, with its counter as it was stored and as it is now."""

    passkey: UUID
    before: int
    now: int

    async def use(self, change: Change, at: datetime) -> bool:
        """Stores the counter; False if the passkey was used, blocked or removed meanwhile (law 2)."""
        same = (
            Passkey.id == self.passkey,
            Passkey.sign_count == self.before,
            Passkey.blocked_at.is_(None),
            Passkey.removed_at.is_(None),
        )
        return await changed_one(change.db, update(Passkey).where(*same).values(sign_count=self.now, last_used_at=at))


async def rows_of(db: AsyncSession, user: UUID) -> Sequence[Passkey]:
    """A person's passkeys, the oldest first."""
    mine = select(Passkey).where(Passkey.user_id == user, Passkey.removed_at.is_(None))
    return (await db.scalars(mine.order_by(Passkey.created_at, Passkey.id))).all()


def credential_of(row: Passkey) -> Credential:
    """A passkey as browsers are told of it."""
    return Credential(id=row.credential, transports=tuple(row.transports.split()))


def _why_not(row: Passkey | None, user: UUID) -> str | None:
    if row is None:
        return UNKNOWN
    if row.user_id != user:
        return OF_ANOTHER
    if row.removed_at is not None:
        return REMOVED
    return None if row.blocked_at is None else BLOCKED
