"""What people do with their passkeys in a live session: list, add, remove (`POST /v1/passkeys`).

Laws:

1. Only the device of a live session is answered, and only about its own person's passkeys. Services have none.
2. Beginning to add one, and removing one, need a second factor no older than `RECENT`: whoever finds an unlocked
   machine gets neither a way in of their own nor the owner out.
3. A passkey is added over a challenge of this session, by what the authenticator signed for it (webauthn.py). Whoever
   has the challenge began in time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID, uuid4

from sqlalchemy import select, update

from controller.audit.events import Event, PasskeyAdded, PasskeyRefused, PasskeyRemoved
from controller.identity import rules, webauthn
from controller.identity.by_passkey import told
from controller.identity.challenges import Asked
from controller.identity.passkeys import Passkeys, Why, credential_of, rows_of
from controller.identity.rules import Told
from controller.sessions.rules import LiveSession
from controller.sessions.service import Sessions
from controller.storage.conditional import changed_one
from controller.storage.engine import Storage
from controller.storage.models import Passkey
from wire.messages import (
    MAX_PASSKEYS,
    AddPasskey,
    ListPasskeys,
    OfferPasskey,
    PasskeyOffer,
    PasskeyReply,
    PasskeyRequest,
    PasskeyView,
    RemovePasskey,
)
from wire.passkey import Purpose

RECENT: Final = timedelta(minutes=5)
"""Long enough to log in and then think of it; short enough that a machine left alone adds nothing."""

NO_SESSION: Final = Told("session_unknown", "this session is over", "run gloam login")
NOT_RECENT: Final = Told(
    "step_up_needed",
    f"this needs a second factor no older than {RECENT.total_seconds() // 60:.0f} minutes",
    "prove it again: gloam login --step-up",
)
TOO_MANY: Final = Told(
    "too_many_passkeys", f"you have {MAX_PASSKEYS} passkeys already", "remove one: gloam passkey remove NAME"
)
NAME_TAKEN: Final = Told("passkey_name_taken", "you have a passkey of that name", "choose another name")
THERE_ALREADY: Final = Told(
    "passkey_there_already", "this passkey is registered already", "use another authenticator, or log in with this one"
)
NOT_FOUND: Final = Told("passkey_not_found", "you have no such passkey", "see: gloam passkey list")


@dataclass(frozen=True, slots=True)
class _Asking:
    """One wish in its session."""

    session: LiveSession
    source: str
    now: datetime


class _No(Exception):  # noqa: N818 - an answer, and it rolls a transaction back
    """The wish is not fulfilled: the true reason, and what the person is told."""

    def __init__(self, said: Told, reason: str = "", detail: str = "") -> None:
        super().__init__(said.code)
        self.told = said
        self.reason = reason or said.code
        self.detail = detail


class PasskeyWishes:
    """Answers `POST /v1/passkeys`."""

    def __init__(
        self,
        passkeys: Passkeys,
        *,
        storage: Storage,
        sessions: Sessions,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._passkeys = passkeys
        self._storage = storage
        self._sessions = sessions
        self._note = note
        self._clock = clock

    async def answer(self, request: PasskeyRequest, *, device: UUID, source: str) -> PasskeyReply:
        """The answer to a wish of `device`, whose certificate was checked. Raises StorageUnavailable."""
        live = (each for each in self._sessions.live() if each.id == request.session and each.device_id == device)
        session = next(live, None)
        try:
            return await self._fulfil(_asking(session, source, self._clock()), request)
        except _No as no:
            self._note(
                PasskeyRefused(
                    user="" if session is None else session.user,
                    device=device,
                    session=request.session,
                    source=source,
                    code=no.reason,
                    detail=no.detail,
                )
            )
            said = no.told
            return PasskeyReply(
                status="refused", code=said.code, sentence=said.sentence, fix=said.fix, time=self._clock()
            )

    async def _fulfil(self, asking: _Asking, request: PasskeyRequest) -> PasskeyReply:
        wish, offer = request.wish, None
        if asking.session.of_service:
            raise _No(rules.NOT_FOR_SERVICES)
        if isinstance(wish, OfferPasskey | RemovePasskey):
            _require_recent(asking)
        match wish:
            case ListPasskeys():
                pass
            case OfferPasskey():
                offer = await self._offer(asking)
            case AddPasskey():
                await self._add(asking, wish)
            case RemovePasskey():
                await self._remove(asking, wish)
            case _ as never:  # pragma: no cover
                assert_never(never)
        rows = await self._passkeys.of(asking.session.user_id)
        return PasskeyReply(status="done", passkeys=tuple(map(_view, rows)), offer=offer, time=self._clock())

    async def _offer(self, asking: _Asking) -> PasskeyOffer:
        session = asking.session
        rows = await self._passkeys.of(session.user_id)
        _require_room(rows)
        return PasskeyOffer(
            challenge=await self._passkeys.ask(session.device_id, _asked(session)),
            user_handle=self._passkeys.handle_of(session.user_id),
            user=session.user,
            exclude=tuple(map(credential_of, rows)),
        )

    async def _add(self, asking: _Asking, wish: AddPasskey) -> None:
        session = asking.session
        challenge = self._passkeys.answered(session.device_id, wish.client_data, _asked(session))
        if isinstance(challenge, Why):
            raise _No(told(challenge.reason), challenge.reason, challenge.detail)
        made = webauthn.verify_registration(wish, challenge=challenge)
        if isinstance(made, webauthn.Refused):
            raise _No(told(made.reason), made.reason, made.detail)
        async with self._storage.change() as change:
            rows = await rows_of(change.db, session.user_id)
            _require_room(rows)
            if any(row.name == wish.name for row in rows):
                raise _No(NAME_TAKEN)
            same = select(Passkey.user_id).where(Passkey.credential == made.credential)
            if await change.db.scalar(same) is not None:
                raise _No(THERE_ALREADY)
            row = Passkey(
                id=uuid4(),
                user_id=session.user_id,
                name=wish.name,
                credential=made.credential,
                public_key=made.public_key,
                sign_count=made.sign_count,
                synced=made.synced,
                transports=" ".join(wish.transports),
                aaguid=made.aaguid,
                created_at=asking.now,
            )
            change.db.add(row)
            change.record(
                PasskeyAdded(
                    user=session.user,
                    device=session.device_id,
                    session=session.id,
                    source=asking.source,
                    passkey=row.id,
                    name=row.name,
                    synced=row.synced,
                    aaguid=row.aaguid,
                )
            )

    async def _remove(self, asking: _Asking, wish: RemovePasskey) -> None:
        session = asking.session
        async with self._storage.change() as change:
            row = await change.db.get(Passkey, wish.passkey)
            mine = (
                Passkey.id == wish.passkey,
                Passkey.user_id == session.user_id,
                Passkey.removed_at.is_(None),
            )
            gone = update(Passkey).where(*mine).values(removed_at=asking.now)
            if row is None or not await changed_one(change.db, gone):
                raise _No(NOT_FOUND)
            change.record(
                PasskeyRemoved(
                    user=session.user,
                    device=session.device_id,
                    session=session.id,
                    source=asking.source,
                    passkey=row.id,
                    name=row.name,
                )
            )


def _asking(session: LiveSession | None, source: str, now: datetime) -> _Asking:
    if session is None:
        raise _No(NO_SESSION)
    return _Asking(session, source, now)


def _asked(session: LiveSession) -> Asked:
    return Asked(Purpose.REGISTRATION, session.user_id, session.id)


def _require_recent(asking: _Asking) -> None:
    """A clock set back makes nothing recent: it counts as no proof at all."""
    age = asking.now - asking.session.mfa_at
    if rules.MFA not in asking.session.methods or not timedelta(0) <= age <= RECENT:
        raise _No(NOT_RECENT)


def _require_room(rows: Sequence[Passkey]) -> None:
    if len(rows) >= MAX_PASSKEYS:
        raise _No(TOO_MANY)


def _view(row: Passkey) -> PasskeyView:
    return PasskeyView(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        synced=row.synced,
        blocked=row.blocked_at is not None,
    )
