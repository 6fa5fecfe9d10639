"""The controller's end of every gateway's link: one WebSocket a gateway, over mTLS, behind a knock.

1. A gateway is who its certificate says. Its first message is `hello`; ours are `welcome`, then a snapshot or
   `resumed`, then changes in order (changes.py).
2. A change is in force when the gateway acknowledged it. `put` and `drop` wait for that, a bounded time, and answer who
   lags. A gateway without a link lags at once: the change, or a snapshot, meets it when it returns. So does one this
   process has not heard of yet (`expect`): it may hold leases of the process before.
3. One link a gateway. A newer one replaces the older: the older may be a connection whose death nobody has noticed.
4. A gateway that is silent for `PINGS_MISSED` ping periods is dead. Pings are answered by an acknowledgement.
5. A message that is not in the protocol ends the link and is audited.
6. Nothing waits without a bound: a slow gateway is behind in the kept changes; off their end, it gets a snapshot.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from aiohttp import web

from certs.names import Name, NameKind
from controller.gateways.changes import CAPACITY
from controller.gateways.conversation import (
    CLOSE_DEADLINE,
    GOING_AWAY,
    MAX_MESSAGE,
    REMOVED,
    Conversation,
    GatewayEnd,
    LeasesFor,
    LinkStatus,
    Note,
    Over,
    ServedBy,
)
from wire.messages import (
    Lease,
    LeaseDrop,
    LeasePut,
    Refusal,
    Resources,
    TrustPut,
    Welcome,
)

__all__ = ["LinkStatus", "Links"]


class Links:
    """Every gateway's link. One per controller process.

    `trust` answers the bundle everybody shall hold, `served_by` what a gateway serves, or None for one that is not (any
    more) of this perimeter. `leases_for` is set once sessions exist; until then gateways are asked to come back.
    """

    def __init__(
        self,
        *,
        served_by: ServedBy,
        trust: Callable[[], str],
        note: Note,
        outage_grace: timedelta,
        ping: timedelta = timedelta(seconds=5),
        leases_for: LeasesFor | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        capacity: int = CAPACITY,
    ) -> None:
        self.leases_for = leases_for
        self._served_by = served_by
        self._trust = trust
        self._note = note
        self._grace = outage_grace.total_seconds()
        self._ping = ping.total_seconds()
        self._now = now
        self._capacity = capacity
        self._gateways: dict[str, GatewayEnd] = {}
        self._closing = False

    # What sessions need

    def expect(self, gateways: Iterable[str]) -> None:
        """These are enrolled: what is taken away is owed to them, too, whether they ever had a link to this process."""
        for name in gateways:
            self._gateway(name)

    async def put(self, leases: Mapping[str, Lease], timeout: float) -> set[str]:  # noqa: ASYNC109
        """Gives each gateway (by name) its lease; answers those that have not acknowledged within `timeout` seconds."""
        sent = {
            name: self._gateway(name).append(lambda seq, lease=lease: LeasePut(seq=seq, lease=lease))  # type: ignore[misc]
            for name, lease in leases.items()
        }
        return await self._acknowledged(sent, timeout)

    async def drop(self, session: UUID, code: str, sentence: str, timeout: float) -> set[str]:  # noqa: ASYNC109
        """Ends a session at every gateway; answers those that have not cut it within `timeout` seconds."""
        sent = {
            name: gateway.append(lambda seq: LeaseDrop(seq=seq, session=session, code=code, sentence=sentence[:1024]))
            for name, gateway in self._gateways.items()
        }
        return await self._acknowledged(sent, timeout)

    async def resources_changed(self) -> None:
        """Tells each gateway what it serves now, if that changed; ends the links of gateways that are no more."""
        for gateway in list(self._gateways.values()):
            served = self._served_by(gateway.name)
            if served is None:
                await self.disconnect(gateway.name)
            elif gateway.served is not None and gateway.served != tuple(served):
                gateway.served = tuple(served)
                told = gateway.served
                seq = gateway.append(lambda seq, told=told: Resources(seq=seq, resources=told))  # type: ignore[misc]
                gateway.forget(seq)

    async def trust_changed(self, timeout: float) -> None:  # noqa: ASYNC109
        """Tells each gateway whom to trust now; waits at most `timeout` seconds until those with a link do."""
        told = self._trust()
        sent = {
            name: gateway.append(lambda seq: TrustPut(seq=seq, trust=told)) for name, gateway in self._gateways.items()
        }
        await self._acknowledged(sent, timeout)

    def trusting(self, gateway: str) -> bool:
        """Whether this gateway has the trust of this moment in force."""
        found = self._gateways.get(gateway)
        return found is not None and found.holds(self._trust())

    # What administration needs

    def connected(self) -> Mapping[str, LinkStatus]:
        """The links that are up, by gateway."""
        return {name: each.link.status() for name, each in self._gateways.items() if each.link is not None}

    async def disconnect(self, gateway: str) -> None:
        """Ends the link of a removed gateway and forgets it."""
        gone = self._gateways.pop(gateway, None)
        if gone is not None and gone.link is not None:
            await gone.link.end(Over("removed", "this gateway was removed from the perimeter", REMOVED))

    async def hang_up(self, gateway: str) -> None:
        """Ends the link of a gateway whose certificate is trusted no more."""
        if (end := self._gateways.get(gateway)) is not None and end.link is not None:
            await end.link.end(Over("distrusted", "this gateway's certificate is trusted no more", REMOVED))

    async def close(self) -> None:
        """Ends every link: the controller is going away. Gateways come back when it does."""
        self._closing = True
        links = [each.link for each in self._gateways.values() if each.link is not None]
        over = Over("controller_stopped", "the controller is going away", GOING_AWAY)
        await asyncio.gather(*(link.end(over) for link in links))

    # The route

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/link` (identity: GATEWAY). Returns when the link is over."""
        peer = request.transport.get_extra_info("peer") if request.transport is not None else None
        if not isinstance(peer, Name) or peer.kind is not NameKind.GATEWAY:
            return _refuse(403, "not_a_gateway", "only gateways have a link")
        if self._served_by(peer.id) is None:
            return _refuse(403, "unknown_gateway", "this gateway is not one of this perimeter")
        leases_for = self.leases_for
        if leases_for is None or self._closing:
            return _refuse(503, "not_ready", "the controller is not ready for links", "try again in a moment")
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False, timeout=CLOSE_DEADLINE)
        await socket.prepare(request)
        link = Conversation(
            self._gateway(peer.id),
            request,
            socket,
            leases_for=leases_for,
            served_by=self._served_by,
            trust=self._trust,
            note=self._note,
            now=self._now,
        )
        await link.run(Welcome(
            gateway=peer.id, time=self._now(), outage_grace_seconds=self._grace, ping_seconds=self._ping,
        ))  # fmt: skip
        return socket

    # Inside

    def _gateway(self, name: str) -> GatewayEnd:
        if name not in self._gateways:
            self._gateways[name] = GatewayEnd(name, self._capacity)
        return self._gateways[name]

    async def _acknowledged(self, sent: Mapping[str, int], timeout: float) -> set[str]:  # noqa: ASYNC109
        """The gateways of `sent` (name: number of the change) that do not acknowledge in time."""
        gateways = {name: self._gateways[name] for name in sent}
        waiting = {
            name: gateways[name].acknowledgement(seq) for name, seq in sent.items() if gateways[name].link is not None
        }
        try:
            if waiting:
                await asyncio.wait(waiting.values(), timeout=timeout)
            return {name for name in sent if name not in waiting or not waiting[name].done()}
        finally:
            for name, seq in sent.items():
                gateways[name].forget(seq)


def _refuse(status: int, code: str, sentence: str, fix: str = "check `gloam-controller gateway list`") -> web.Response:
    refusal = Refusal(code=code, sentence=sentence, fix=fix)
    return web.json_response(text=refusal.model_dump_json(), status=status)
