"""After a restart: which of the sessions that were live when the controller stopped go on, and which end."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from controller.audit.events import SessionEnded
from controller.sessions import rows
from controller.sessions.rules import LiveSession, SessionTimes, over
from controller.storage.engine import Storage
from controller.storage.models import Session as Row

AWAY: Final = "the session ended while the controller was away"


async def take_up(
    storage: Storage, now: datetime, times: SessionTimes
) -> Sequence[tuple[LiveSession, tuple[bytes, ...]]]:
    """Those that go on, each with its device's sealed knock secrets; the others are ended and audited."""
    rejoin = now + min(times.rejoin, times.lifetime)
    kept = []
    async with storage.change() as change:
        for session, sealed in await rows.unended(change.db):
            if sealed and not over(session, now - times.outage):
                kept.append((replace(session, valid_until=max(session.valid_until, rejoin)), sealed))
                continue
            code = "expired" if sealed else "revoked"
            for each in await rows.close(change.db, Row.id == session.id, now, code, AWAY):
                change.record(
                    SessionEnded(user=each.user, device=each.device, session=each.session, code=code, detail=AWAY)
                )
    return kept
