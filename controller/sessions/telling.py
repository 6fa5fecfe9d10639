"""What clients and the audit log are told about a session (pure)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from controller.audit.events import DecisionMade, SessionRenewed, SessionStarted
from controller.decision import Answer
from controller.sessions.rules import LiveSession
from wire.messages import Revoked, SessionView

LOG_IN: Final = "run gloam login"
ENROL_ANEW: Final = "ask your administrator for a new invite, then: gloam enrol --replace -"
UNCHANGED: Final = ""
"""A view's certificate when none was issued just now: the client goes on with the one it has."""

_OVER: Final = {
    "session_expired": "the session was not renewed in time",
    "session_unknown": "there is no such session on this device",
    "session_over": "the session is over",
}


def view(session: LiveSession, certificate: str = UNCHANGED, lagging: Iterable[str] = ()) -> SessionView:
    """The session as its client sees it."""
    return SessionView(
        id=session.id,
        user=session.user,
        certificate=certificate,
        valid_until=session.valid_until,
        resources=session.outlook.resources,
        gateways=session.outlook.gateways,
        lagging=tuple(sorted(lagging)),
        backup_codes=None if session.of_service else session.backup_codes,
        seen_at=session.seen_at or None,
    )


def helps(code: str) -> str:
    """What a person does about the end of their session: a revoked device never logs in again."""
    return ENROL_ANEW if code == "device_revoked" else LOG_IN


def revoked(why: str) -> Revoked:
    """Why a session cannot go on. Another device's session looks like none."""
    code = "session_unknown" if why == "session_of_another_device" else why
    return Revoked(code=code, sentence=_OVER[code], fix=LOG_IN)


def decision(session: LiveSession, resource: str, answer: Answer) -> DecisionMade:
    """The audit event of an answer."""
    return DecisionMade(
        answer=answer.kind,
        user=session.user,
        device=session.device_id,
        session=session.id,
        source=session.source,
        resource=resource,
        policies=answer.policies,
        code=answer.code,
        detail=answer.sentence,
    )


def beginning(session: LiveSession) -> SessionStarted:
    """The audit event of a session's start."""
    return SessionStarted(
        user=session.user,
        device=session.device_id,
        session=session.id,
        source=session.source,
        valid_until=session.valid_until,
    )


def renewal(session: LiveSession, valid_until: datetime) -> SessionRenewed:
    """The audit event of a session's next certificate."""
    return SessionRenewed(
        user=session.user,
        device=session.device_id,
        session=session.id,
        source=session.source,
        valid_until=valid_until,
    )
