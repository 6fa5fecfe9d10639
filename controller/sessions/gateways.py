"""What sessions ask of gateways: put this lease, drop that session; waited for, and audited when one lags."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from controller.audit.events import Event, LeaseLagging, SessionEnded
from controller.sessions.rows import Closed
from controller.sessions.rules import LiveSession
from wire.messages import Lease

Ended = Mapping[UUID, frozenset[str]]
"""The sessions that were ended, each with the gateways that had not acknowledged in time."""


class LinksToGateways(Protocol):
    """What is needed of the links (controller/gateways/link.py). Both enqueue before they wait."""

    async def put(self, leases: Mapping[str, Lease], timeout: float) -> set[str]: ...  # noqa: ASYNC109, D102
    async def drop(self, session: UUID, code: str, sentence: str, timeout: float) -> set[str]: ...  # noqa: ASYNC109, D102


class Gateways:
    """Every gateway at once. `acknowledge`: the seconds they get."""

    def __init__(self, links: LinksToGateways, note: Callable[[Event], None], acknowledge: float) -> None:
        self._links = links
        self._note = note
        self._acknowledge = acknowledge

    async def put(self, session: LiveSession, leases: Mapping[str, Lease]) -> frozenset[str]:
        """Gives the session's leases; answers the gateways that lag."""
        lagging = frozenset(await self._links.put(leases, self._acknowledge))
        if lagging:
            late = tuple(sorted(lagging))
            self._note(LeaseLagging(session=session.id, user=session.user, gateways=late, what="put"))
        return lagging

    async def drop(self, closed: Sequence[Closed], code: str, sentence: str) -> dict[UUID, frozenset[str]]:
        """Has these sessions cut everywhere; answers, for each, the gateways that lag."""
        drops = [self._links.drop(each.session, code, sentence, self._acknowledge) for each in closed]
        return {
            each.session: frozenset(lagging) for each, lagging in zip(closed, await asyncio.gather(*drops), strict=True)
        }


def end_events(
    closed: Sequence[Closed], lagging: Ended, *, code: str, sentence: str, actor: str, seconds: float
) -> list[Event]:
    """The audit events of sessions that ended, and how long it took until the gateways had cut them."""
    events: list[Event] = []
    for each in closed:
        events.append(
            SessionEnded(
                user=each.user,
                device=each.device,
                session=each.session,
                code=code,
                detail=sentence,
                actor=actor,
                milliseconds=round(seconds * 1000, 3),
            )
        )
        if late := lagging.get(each.session):
            gateways = tuple(sorted(late))
            events.append(LeaseLagging(session=each.session, user=each.user, gateways=gateways, what="drop"))
    return events
