"""A running gateway: the parts put together, and how they stop.

1. The door opens once the first snapshot is applied and the workers have begun: before, nobody could be let in, and the
   port stays dark.
2. Every task belongs to one group; whatever fails ends the gateway with its reason (fail closed: the door goes first).
3. SIGTERM and SIGINT drain: the door closes, live tunnels have their time, then they are cut and the controller is
   told. A second signal stops at once. Either way no worker outlives this process.
4. The listening socket never leaves this process, so a worker that comes or goes leaves no gap and shows nobody a port.
"""

import asyncio
import os
import random
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import structlog
from aiohttp import ClientWebSocketResponse

from console.address import HostPort
from gateway import limits
from gateway.config import GatewaySettings
from gateway.credentials import Credentials
from gateway.dial import Dialler, wall_us
from gateway.enforcement import Enforcement
from gateway.keys import TUNNEL, LeaseKeys
from gateway.leases import Leases
from gateway.link import Link
from gateway.renewal import Renewal
from gateway.status import Document, StatusServer
from gateway.trust import Believed
from gateway.workers.dispatcher import Dispatcher
from gateway.workers.ledger import Connection
from gateway.workers.messages import Start
from spa.admission import Admission, Drop
from spa.cloak import try_out
from spa.cover import Trouble
from spa.door import Door
from spa.networks import parse_networks
from spa.packet import IPAddress
from wire.messages import CloakTrouble, ControllerAddress, Counters, HandshakeRefused, Report, TunnelRefused

log = structlog.get_logger()

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Gateway:
    """One gateway process. `run` returns when it has been told to stop and everything is closed."""

    def __init__(self, state: Path, settings: GatewaySettings) -> None:
        self._settings = settings
        credentials = Credentials.load(state)
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._since = datetime.now(UTC)
        self.stopping = asyncio.Event()
        leases = Leases()
        self._admission = Admission(
            started_us=wall_us(),
            kinds=TUNNEL,
            ports=frozenset({settings.listen.port, *settings.advertised_ports}),
            lease_live=lambda key_id, session: leases.live(key_id, session, self._clock()),
            session_seen_at=lambda session, address: leases.seen_at(session, str(address)),
            shared=parse_networks(settings.shared_networks),
        )
        self.tunnels = Dispatcher(
            settings.workers or len(os.sched_getaffinity(0)),
            state,
            Start(
                dial_seconds=settings.dial_timeout.total_seconds(),
                tunnel_idle=settings.tunnel_idle.total_seconds(),
                udp_idle=settings.udp_idle.total_seconds(),
                tunnel_lifetime=settings.tunnel_lifetime.total_seconds(),
                log_json=settings.log_json,
                log_level=settings.log_level,
            ),
            lambda session, knocked, name, port, protocol: leases.permits(
                session, knocked, name, port, self._clock(), protocol=protocol
            ),
            self._report,
            most=settings.max_tunnels,
            most_of_session=settings.max_tunnels_per_session,
            random=random.random,
        )
        controllers = [table.address() for table in settings.controllers]
        self._believed = Believed(state, self.tunnels.reload)
        self.renewal = Renewal(
            state, credentials, self._believed, controllers, on_renewed=self._renewed, random=random.random
        )
        self.enforcement = Enforcement(
            leases, LeaseKeys(self._admission, wall_us, self._keys_forgotten), self.tunnels.cut, self._clock
        )
        self.link = Link(
            controllers,
            self._connect,
            self.enforcement,
            self._believed.take,
            counters=self._counters,
            cloak=lambda: self._cloak,
            version=_version(),
            random=random.random,
            clock=self._clock,
        )
        self.door = Door(
            listen=(settings.listen.host, settings.listen.port),
            knock=(settings.knock.host, settings.knock.port),
            cloak=settings.cloak,
            admission=self._admission,
            on_connection=self.tunnels.accept,
            on_drop=self._knock_dropped,
            on_trouble=self._cloak_troubled,
        )
        self._door_open = False
        self._status = StatusServer(state, self.document)

    async def run(self) -> None:
        """Serves until `stopping` is set; then drains. Cancelled, it stops at once.

        `CloakError` at once where the cloak asked for by name does not work: not first when a controller was heard.
        """
        try_out(self._settings.cloak)
        await self._status.start()
        try:
            self.tunnels.start()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.enforcement.expire_forever()),
                    group.create_task(self.link.run()),
                    group.create_task(self.renewal.run()),
                ]
                opening = group.create_task(self._open_door())
                await self.stopping.wait()
                opening.cancel()
                await self._drain()
                for task in tasks:
                    task.cancel()
        finally:
            await self._close_door()
            await self.tunnels.stop()
            await self._status.close()
            log.info("stopped")

    async def _open_door(self) -> None:
        await self.link.ready.wait()
        await self.tunnels.begun()
        await self.door.start()
        self._door_open = True
        self.link.counters_changed()  # they name the cloak, which is known only now
        log.info(
            "ready",
            gateway=self._settings.name,
            listen=str(self._settings.listen),
            cloak=self._cloak,
            why=self._why_cloak,
        )

    async def _close_door(self) -> None:
        if self._door_open:
            self._door_open = False
            await self.door.close()

    async def _drain(self) -> None:
        deadline = self._settings.drain.total_seconds()
        log.info("draining", tunnels=len(self.tunnels), at_most_seconds=deadline)
        await self._close_door()
        cut = await self.tunnels.drain(deadline)
        told = await self.link.told_everything(limits.LAST_WORDS)
        log.info("drained", tunnels_cut=cut, controller_told=told)

    # What others ask of it

    def _connect(self, controller: ControllerAddress) -> AbstractAsyncContextManager[ClientWebSocketResponse]:
        mine = self.renewal.credentials
        return Dialler(mine.identity, lambda: self._believed.current, mine.knock_secret).connect(controller)

    async def _renewed(self) -> None:
        await self.tunnels.reload()
        self.link.retry()

    def _report(self, report: Report) -> None:
        match report:
            case TunnelRefused():
                log.info("tunnel refused", session=str(report.session), resource=report.resource, code=report.code)
            case HandshakeRefused():
                log.info("handshake refused", source=report.source.host, code=report.code, detail=report.detail)
            case _:
                pass
        self.link.report(report)

    def _knock_dropped(self, drop: Drop, source: IPAddress) -> None:
        if drop.key_id is not None:
            self.link.knock_refused(drop.key_id, str(source), str(drop.reason))

    def _cloak_troubled(self, trouble: Trouble) -> None:
        log.warning("trouble with the cloak", code=str(trouble.code), detail=trouble.detail, count=trouble.count)
        self.link.report(CloakTrouble(code=trouble.code, detail=trouble.detail, count=trouble.count, at=trouble.at))

    def _keys_forgotten(self, key_id: str) -> None:
        self.door.close_windows(key_id)

    @property
    def _cloak(self) -> str:
        return str(self.door.cloak_name)

    @property
    def _why_cloak(self) -> str:
        return self.door.cloak_reason if self._door_open else "the door opens once the controller has been heard"

    @property
    def _cloak_trouble(self) -> Document | None:
        trouble = self.door.cloak_trouble
        return None if trouble is None else asdict(trouble)

    def _counters(self, lost: int) -> Counters:
        return Counters(
            admitted=self._admission.admitted,
            dropped={str(reason): count for reason, count in self._admission.counters.items()},
            tunnels=len(self.tunnels),
            leases=len(self.enforcement.leases),
            windows=len(self.door.windows.open_windows),
            reports_lost=lost,
            cloak=self._cloak,
        )

    async def document(self) -> Document:
        """What `gloam-gateway status` shows."""
        await self.tunnels.count()
        pids = {worker.number: worker.pid for worker, _ in self.tunnels.workers}
        link, now = self.link.state, self._clock()
        identity = self.renewal.credentials.identity
        return {
            "gateway": self._settings.name,
            "domain": self._settings.domain,
            "since": self._since,
            "ready": self._door_open and not self.stopping.is_set(),
            "draining": self.stopping.is_set(),
            "listen": str(self._settings.listen),
            "knock": str(self._settings.knock),
            "cloak": {"name": self._cloak, "why": self._why_cloak, "trouble": self._cloak_trouble},
            "link": {
                "up": link.up,
                "controller": link.controller,
                "since": link.since,
                "problem": link.problem,
                "attempts": link.attempts,
                "applied": link.applied,
                "outage_left_seconds": None if link.up else self.enforcement.seconds_left(),
                "reports_waiting": self.link.reports_waiting,
                "reports_lost": self.link.reports_lost,
                "controller_ahead_seconds": round(self.link.time_ahead, 3),
            },
            "certificate": {
                "name": str(identity.name),
                "expires": identity.leaf.not_valid_after_utc,
                "renewal_due": identity.renewal_due,
                "problem": self.renewal.problem,
            },
            "leases": [
                {
                    "session": held.lease.session,
                    "user": held.lease.user,
                    "device": held.lease.device,
                    "seconds_left": round(held.ends - now, 1),
                    "resources": [f"{permit.resource}:{permit.port}" for permit in held.lease.permits],
                }
                for held in self.enforcement.leases.held
            ],
            "windows": [
                {
                    "source": each.source,
                    "port": each.port,
                    "for": self.door.windows.key_ids(each.source, each.port, now),
                }
                for each in self.door.windows.open_windows
            ],
            "tunnels": [_shown(each, pids, now) for each in self.tunnels.connections if each.opened is not None],
            "workers": [
                {
                    "pid": worker.pid,
                    "ready": worker.is_ready,
                    "connections": connections,
                    "cpu_seconds": round(worker.cpu_seconds, 3),
                    "memory_bytes": worker.memory_bytes,
                    "since": worker.since,
                }
                for worker, connections in self.tunnels.workers
            ],
            "counters": {**self.tunnels.counters, **self.door.counters},
        }


async def serve(state: Path, settings: GatewaySettings) -> None:
    """Runs the gateway of a state directory until a signal ends it. Raises CommandError, CertsError, DoorError."""
    gateway = Gateway(state, settings)
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()

    at_once = False

    def told(name: str) -> None:
        nonlocal at_once
        if gateway.stopping.is_set() and task is not None:
            log.warning("stopping at once", signal=name)
            at_once = True
            task.cancel()
        else:
            log.info("stopping", signal=name)
            gateway.stopping.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, told, number.name)
    try:
        await gateway.run()
    except asyncio.CancelledError:
        if not at_once:
            raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _shown(connection: Connection, pids: Mapping[int, int], now: float) -> Document:
    reach, opened = connection.reach, connection.opened
    if reach is None or opened is None:
        raise AssertionError("only open tunnels are shown")
    return {
        "tunnel": connection.tunnel,
        "session": connection.session,
        "resource": reach.resource,
        "port": reach.port,
        "protocol": reach.protocol,
        "source": str(HostPort(str(connection.source.address), connection.source.port)),
        "target": str(HostPort(opened.target.host, opened.target.port)),
        "group": opened.group,
        "bytes_up": connection.bytes_up,
        "bytes_down": connection.bytes_down,
        "dropped": connection.dropped,
        "seconds": now - connection.since,
        "worker": pids.get(connection.worker),
    }


def _version() -> str:
    try:
        return version("gloam")[:32]
    except PackageNotFoundError:
        return "unknown"
