"""Commands about sessions, the audit log, and how the controller is doing."""

import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import Field

from controller.admin.documents import Documents
from controller.admin.people import ById, one_of
from controller.admin.server import Arguments, Command, Nothing
from controller.audit.reading import follow, newest
from controller.errors import Refused
from controller.sessions.rules import LiveSession

if TYPE_CHECKING:
    from controller.assembly import Controller


class RevokeSessions(Arguments):
    """`session revoke`: one of a session, a person, a device."""

    id: str | None = None
    user: str | None = None
    device: str | None = None
    reason: str = Field("", max_length=1024)


class Tail(Arguments):
    """`audit tail`."""

    lines: int = Field(ge=0, le=10_000)
    follow: bool = False


def live(controller: "Controller") -> dict[str, Command]:
    """The commands of this file."""
    sessions, storage = controller.sessions, controller.storage

    async def session_list(_: Nothing, __: str) -> Documents:
        return [_session(session) for session in sessions.live()]

    async def session_show(asked: ById, _: str) -> Documents:
        live_now = {session.id: session for session in sessions.live()}
        session = live_now[one_of(asked.id, list(live_now), "session")]
        told = [view.model_dump(mode="json") for view in session.outlook.resources]
        return {**_session(session), "mfa_at": session.mfa_at, "methods": sorted(session.methods), "resources": told}

    async def session_revoke(asked: RevokeSessions, actor: str) -> Documents:
        if not asked.reason.isprintable():
            raise Refused("bad_reason", "the reason is more than a line of text", "write printable characters only")
        sentence = asked.reason or "an administrator ended this session"
        began = time.monotonic()
        lagging = await _revoke(controller, asked, sentence, actor)
        milliseconds = (time.monotonic() - began) * 1000
        late = sorted({gateway for gateways in lagging.values() for gateway in gateways})
        return {"ended": len(lagging), "sessions": list(lagging), "lagging": late, "milliseconds": milliseconds}

    async def audit_tail(asked: Tail, _: str) -> AsyncIterator[Documents]:
        if asked.follow:
            async for entry in follow(storage, asked.lines):
                yield entry.document()
            return
        await storage.audit.flush()
        async with storage.read() as db:
            entries = await newest(db, asked.lines)
        for entry in entries:
            yield entry.document()

    async def status(_: Nothing, __: str) -> Documents:
        door, directory = controller.door, controller.directory.current
        return {
            "controller": str(controller.name),
            "since": controller.started,
            "listen": str(controller.settings.listen),
            "knock": str(controller.settings.knock),
            "cloak": door.cloak_name,
            "cloak_reason": door.cloak_reason,
            "cloak_trouble": None if door.cloak_trouble is None else asdict(door.cloak_trouble),
            "certificate_until": controller.identity.leaf.not_valid_after_utc,
            "revision": directory.revision,
            "policies_problem": directory.engine.problem,
            "users": len(directory.users),
            "devices": len(directory.devices),
            "resources": len(directory.resources),
            "gateways": {name: "up" if name in controller.links.connected() else "down" for name in directory.gateways},
            "sessions": len(sessions.live()),
            "windows": len(door.windows),
            "counters": door.counters,
            "audit_waiting": storage.audit.waiting,
        }

    return {
        "session.list": Command(Nothing, session_list),
        "session.show": Command(ById, session_show),
        "session.revoke": Command(RevokeSessions, session_revoke),
        "audit.tail": Command(Tail, stream=audit_tail),
        "status": Command(Nothing, status),
    }


async def _revoke(
    controller: "Controller", asked: RevokeSessions, sentence: str, actor: str
) -> dict[UUID, frozenset[str]]:
    """Ended sessions, each with the gateways that lag."""
    sessions = controller.sessions
    if asked.id is not None:
        session = one_of(asked.id, [each.id for each in sessions.live()], "session")
        return {session: await sessions.end(session, "revoked", sentence, actor)}
    if asked.device is not None:
        device = one_of(asked.device, [each.id for each in await controller.devices.list()], "device")
        return dict(await sessions.end_where(device=device, sentence=sentence, actor=actor))
    user = controller.directory.current.user_named(asked.user or "")
    if user is None:
        raise Refused("not_found", f"there is no user {asked.user}", "see: gloam-controller user list")
    return dict(await sessions.end_where(user=user.id, sentence=sentence, actor=actor))


def _session(session: LiveSession) -> dict[str, object]:
    return {
        "id": session.id,
        "user": session.user,
        "device": session.device_id,
        "source": session.source,
        "started_at": session.started_at,
        "valid_until": session.valid_until,
        "resources": [view.name for view in session.outlook.resources if view.allowed],
    }
