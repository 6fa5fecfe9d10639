"""Sessions: the live ones, in memory and in the database, their leases at gateways and their listeners.

Laws:

1. Memory follows the database under one lock (`_turn`): whoever changes rows of sessions holds it around the commit and
   the memory. There is one exception, and it fails closed: what ends is cut even if the database does not answer.
2. A lease is put only for a session that is live at that moment, and what ends a session is sent after: gateways
   apply changes in order, so an ended session never comes back.
3. A client is answered after its gateways acknowledged its lease, or after `acknowledge`, with the names of those that
   lag. Ending is over when the gateways acknowledged it, or after the same time; the audit event has the milliseconds.
4. A certificate lives `lifetime` from its issue, a lease as long as its certificate, and the row says until when.
5. After a restart, sessions that were live when the controller stopped go on: their clients get `rejoin` to renew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID, uuid4

import structlog

from certs.names import NameKind
from certs.secret import Secret
from controller.audit.events import Event
from controller.authority.authority import Authority, Issued
from controller.decision import Deny, next_change, standing
from controller.devices.sealed import device_knock
from controller.errors import StorageError
from controller.sessions import outlook, rows, telling
from controller.sessions.ending import Ending
from controller.sessions.gateways import Ended, Gateways, LinksToGateways, end_events
from controller.sessions.live import CurrentDirectory, Entry, Listener, Live
from controller.sessions.resuming import take_up
from controller.sessions.rules import (
    AskStepUp,
    Effect,
    Judged,
    LiveSession,
    PushLeases,
    RecordDecision,
    Renewed,
    SessionTimes,
    Starting,
    SteppedUp,
    TellClient,
    advance,
    over,
    why_not_renewed,
)
from controller.sessions.turns import Turns
from controller.storage.engine import Change, Storage
from controller.storage.models import Session as Row
from wire import messages
from wire.messages import Lease, ResourceView, Revoked, SessionView, StepUpNeeded, ToClient

__all__ = ["SessionTimes", "Sessions"]

_log = structlog.get_logger("sessions")

NEWER_LOGIN: Final = "a newer login on this device replaced this session"
LATE: Final = "the session was not renewed in time"
SHUT_OUT: Final = "the user was disabled or the device revoked"
SHORTEST_NAP: Final = timedelta(milliseconds=50)
"""Between two looks at the clock: a deadline that has just passed must not make the loop spin."""


class Sessions:
    """Every live session of this controller. `load` once before the first request; `run` while it serves."""

    def __init__(
        self,
        *,
        storage: Storage,
        directory: CurrentDirectory,
        authority: Authority,
        links: LinksToGateways,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
        times: SessionTimes | None = None,
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._authority = authority
        self._note = note
        self._clock = clock
        self._times = times or SessionTimes()
        self._gateways = Gateways(links, note, self._times.acknowledge)
        self._live = Live()
        self._turn = asyncio.Lock()
        self._ending = Ending(self._live, self._gateways, storage, self._turn, note=note, clock=clock)
        self._news = asyncio.Event()
        self._judge_again = Turns(self._judge_all)

    # What links and administration see

    async def leases_for(self, gateway: str) -> tuple[Lease, ...]:
        """The leases this gateway should hold now."""
        leases = (session.outlook.leases.get(gateway) for session in self.live())
        return tuple(lease for lease in leases if lease is not None and (lease.permits or lease.denials))

    def live(self) -> Sequence[LiveSession]:
        """Every live session, the oldest first."""
        now = self._clock()
        return [entry.session for entry in self._live if not over(entry.session, now)]

    # The life of a session

    async def load(self) -> int:
        """Takes up the sessions that were live when the controller stopped; answers how many. Once, before serving."""
        now = self._clock()
        async with self._turn:
            for session, sealed in await take_up(self._storage, now, self._times):
                # Nobody is told: no gateway has a link yet, and each gets its leases with its snapshot.
                entry = self._entry(session, sealed)
                self._judge(entry, now)
                self._live.add(entry)
        return len(self._live)

    async def start(self, starting: Starting, within: Callable[[Change, UUID], Awaitable[None]]) -> SessionView:
        """A new session. An earlier one of the device ends ("replaced").

        `within` is awaited inside the transaction, before anything of the session is written, with the session's id;
        what it raises undoes everything and passes. Raises BadCertificate, NoLongerAllowed, StorageUnavailable.
        """
        began = asyncio.get_running_loop().time()
        identifier = uuid4()
        async with self._turn:
            now = self._clock()
            issued = self._issue(identifier, starting.csr, now)
            session = LiveSession(
                id=identifier,
                user_id=starting.user_id,
                user=starting.user,
                device_id=starting.device_id,
                source=starting.source,
                started_at=now,
                mfa_at=starting.mfa_at or now,
                methods=starting.methods,
                valid_until=issued.valid_until,
                seen_at=starting.source,
            )
            async with self._storage.change() as change:
                await within(change, identifier)
                sealed = await rows.knock_secrets_of(change.db, starting.user_id, starting.device_id)
                if not sealed:
                    raise rows.NoLongerAllowed
                device = Row.device_id == starting.device_id
                replaced = await rows.close(change.db, device, now, rows.REPLACED, NEWER_LOGIN)
                session = await rows.insert(change.db, session)
                change.record(telling.beginning(session))
            entry = self._entry(session, sealed)
            self._live.add(entry)
            gone = {each.session for each in replaced}
            self._live.forget(lambda each: each.id in gone, rows.REPLACED, NEWER_LOGIN)
            effects = self._judge(entry, now)
        self._news.set()
        lagging, dropped = await asyncio.gather(
            self._perform(entry, effects), self._gateways.drop(replaced, rows.REPLACED, NEWER_LOGIN)
        )
        took = asyncio.get_running_loop().time() - began
        await self._ending.record(
            end_events(replaced, dropped, code=rows.REPLACED, sentence=NEWER_LOGIN, actor=session.user, seconds=took)
        )
        return telling.view(entry.session, issued.chain_pem, lagging)

    async def renew(self, session: UUID, device: UUID, csr: str) -> SessionView | Revoked:
        """The next certificate for a session of this device. Raises BadCertificate, StorageUnavailable."""
        async with self._turn:
            now = self._clock()
            entry = self._live.get(session)
            why = why_not_renewed(None if entry is None else entry.session, device, now)
            if entry is None or why is not None:
                return telling.revoked(why or "session_unknown")
            issued = self._issue(session, csr, now)
            try:
                async with self._storage.change() as change:
                    await rows.extend(change.db, entry.session, issued.valid_until)
                    entry.session = await rows.counted(change.db, entry.session)
                    change.record(telling.renewal(entry.session, issued.valid_until))
            except rows.NoLongerAllowed:
                return telling.revoked("session_over")
            renewed = advance(entry.session, Renewed(issued.valid_until))
            entry.session = renewed.session
            judged = self._judge(entry, now)
        # The answer itself is the client's new view.
        effects = [each for each in (*renewed.effects, *judged) if not isinstance(each, TellClient)]
        return telling.view(entry.session, issued.chain_pem, await self._perform(entry, effects))

    async def step_up(
        self, session: UUID, device: UUID, proved: SteppedUp, within: Callable[[Change, UUID], Awaitable[None]]
    ) -> SessionView | None:
        """A session whose person proved a second factor again; None if it is over. `within`, errors: as in `start`."""
        async with self._turn:
            now = self._clock()
            entry = self._live.get(session)
            if entry is None or why_not_renewed(entry.session, device, now) is not None:
                return None
            step = advance(entry.session, proved)
            async with self._storage.change() as change:
                await within(change, session)
                await rows.step_up(change.db, step.session)
                stepped_up = await rows.counted(change.db, step.session)
            entry.session = replace(stepped_up, outlook=entry.session.outlook, seen_at=entry.session.seen_at)
            effects = (*step.effects, *self._judge(entry, now))
        self._news.set()
        return telling.view(entry.session, lagging=await self._perform(entry, effects))

    def backup_codes_made(self, user: UUID, left: int) -> None:
        """Tells a person's sessions how many backup codes there are now."""
        for entry in self._live:
            if entry.session.user_id == user:
                entry.session = replace(entry.session, backup_codes=left)
                entry.tell(messages.Session(session=telling.view(entry.session)))

    async def end(self, session: UUID, code: str, sentence: str, actor: str) -> frozenset[str]:
        """Ends one session; answers the gateways that lag. Raises StorageUnavailable, having cut it nevertheless."""
        ended = await self._ending.end(Row.id == session, lambda each: each.id == session, code, sentence, actor)
        return ended.get(session, frozenset())

    async def end_where(
        self,
        *,
        user: UUID | None = None,
        device: UUID | None = None,
        code: str = "revoked",
        sentence: str = "an administrator ended this session",
        actor: str = "",
    ) -> Ended:
        """Ends every session of a user, or else of a device. Raises StorageUnavailable, having cut them."""
        if user is not None:
            return await self._ending.end(Row.user_id == user, lambda each: each.user_id == user, code, sentence, actor)
        return await self._ending.end(
            Row.device_id == device, lambda each: each.device_id == device, code, sentence, actor
        )

    async def rekey(self, device: UUID) -> frozenset[str]:
        """The device's knock secrets are others now: its leases carry their keys. Answers the gateways that lag."""
        changed: list[tuple[Entry, tuple[Effect, ...]]] = []
        async with self._turn:  # a session that is starting reads its secrets before this, or after
            for entry in self._live:
                if entry.session.device_id != device:
                    continue
                async with self._storage.read() as db:
                    sealed = await rows.knock_secrets_of(db, entry.session.user_id, device)
                if sealed:  # else shut out, and whoever did that ends the session
                    entry.knock_secrets = self._opened(device, sealed)
                    changed.append((entry, self._judge(entry, self._clock())))
        lagging: frozenset[str] = frozenset()
        for entry, effects in changed:
            lagging |= await self._perform(entry, effects)
        return lagging

    async def expire(self) -> None:
        """Ends the sessions whose certificate was not renewed in time."""
        now = self._clock()
        late = {entry.session.id for entry in self._live if over(entry.session, now)}
        if late:
            await self._ending.end(Row.id.in_(late), lambda each: each.id in late, "expired", LATE, "")

    async def reevaluate(self) -> None:
        """Judges every live session by the directory as it is now; returns when gateways know, or lag."""
        await self._judge_again()

    async def run(self, period: timedelta) -> None:
        """Ends what is over and judges again: when an answer is known to change, and at least every `period`."""
        loop = asyncio.get_running_loop()
        regular = loop.time() + period.total_seconds()
        while True:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._until_next_change().total_seconds(), regular - loop.time())):
                    await self._news.wait()
                    continue  # there is a new session: its deadlines count as well
            regular = loop.time() + period.total_seconds()
            try:
                await self.expire()
                await self.reevaluate()
            except StorageError as error:
                _log.warning("sessions wait for the database", reason=error.what)

    # Clients that listen

    def attach(self, session: UUID, device: UUID, listener: Listener, seen_at: str = "") -> SessionView | Revoked:
        """From now on `listener` is told what happens to the session of this device, whose address is `seen_at`.

        Where that is new, `follow` has the gateways told.
        """
        entry = self._live.get(session)
        why = why_not_renewed(None if entry is None else entry.session, device, self._clock())
        if entry is None or why is not None:
            return telling.revoked(why or "session_unknown")
        if entry.listener is not None:
            entry.listener.replaced()
        entry.listener = listener
        if seen_at:
            entry.session = replace(entry.session, seen_at=seen_at)
        return telling.view(entry.session)

    async def follow(self, session: UUID) -> None:
        """Tells the session's gateways where its client is now, if they know another place."""
        entry = self._live.get(session)
        if entry is None:
            return
        known = {lease.addresses for lease in entry.session.outlook.leases.values()}
        if known - {(entry.session.seen_at,)}:
            await self._perform(entry, self._judge(entry, self._clock()))

    def tell(self, message: ToClient, session: UUID | None = None) -> None:
        """Tells every client that listens, or the one of a session."""
        for entry in (each for each in self._live if session in {None, each.session.id}):
            entry.tell(message)

    def detach(self, session: UUID, listener: Listener) -> None:
        """The connection is over. The session lives on until its end."""
        entry = self._live.get(session)
        if entry is not None and entry.listener is listener:
            entry.listener = None

    def explain(self, session: UUID, resource: str) -> ResourceView | None:
        """What the session is answered for `resource`, which there may not be; None if the session is over."""
        entry = self._live.get(session)
        if entry is None:
            return None
        view, answer = outlook.explain(self._directory.current, entry.session, resource, self._clock())
        self._note(telling.decision(entry.session, resource, answer))
        return view

    def standing(self, session: UUID) -> Deny | None:
        """Why a live session can reach nothing at all, if so: its device waits for approval."""
        entry = self._live.get(session)
        if entry is None:
            return None
        return standing(self._directory.current, entry.session.user_id, entry.session.device_id)

    # Inside

    def _entry(self, session: LiveSession, sealed: Sequence[bytes]) -> Entry:
        return Entry(session, self._opened(session.device_id, sealed))

    def _opened(self, device: UUID, sealed: Sequence[bytes]) -> tuple[Secret, ...]:
        return tuple(self._storage.sealer.open(each, device_knock(device)) for each in sealed)

    def _issue(self, session: UUID, csr: str, now: datetime) -> Issued:
        name = self._authority.name(NameKind.SESSION, session)
        return self._authority.issue(name, csr, now=now, lifetime=self._times.lifetime)

    def _judge(self, entry: Entry, now: datetime) -> tuple[Effect, ...]:
        """Brings the entry up to date with the directory; answers what is to be done about it."""
        directory = self._directory.current
        made = outlook.make(directory, entry.session, entry.knock_secrets, self._authority.domain, now)
        step = advance(entry.session, Judged(made))
        entry.session = step.session
        entry.changes_at = next_change(directory, outlook.facts_of(entry.session), now)
        return step.effects

    def _until_next_change(self) -> timedelta:
        now = self._clock()
        moments = (at for entry in self._live for at in (entry.session.valid_until, entry.changes_at) if at is not None)
        return max(min((at - now for at in moments), default=timedelta.max), SHORTEST_NAP)

    async def _judge_all(self) -> None:
        # First who is out: a cut must not wait for a thousand decisions about others.
        shut_out = (entry.session for entry in self._live)
        lost = {each.id for each in shut_out if outlook.why_shut_out(self._directory.current, each) is not None}
        if lost:
            await self._ending.end(Row.id.in_(lost), lambda each: each.id in lost, "revoked", SHUT_OUT, "")
        async with asyncio.TaskGroup() as group:
            for entry in self._live:
                if entry.session.id not in self._live or over(entry.session, self._clock()):
                    continue
                if effects := self._judge(entry, self._clock()):
                    group.create_task(self._perform(entry, effects))
                await asyncio.sleep(0)  # a thousand sessions are a second of decisions: others get their turn

    async def _perform(self, entry: Entry, effects: Iterable[Effect]) -> frozenset[str]:
        """Does what a step asks for; answers the gateways that lag."""
        session = entry.session
        changed: set[str] = set()
        for effect in effects:
            match effect:
                case PushLeases():
                    changed |= effect.leases.keys()
                case TellClient():
                    entry.tell(messages.Session(session=telling.view(session)))
                case AskStepUp(answer):
                    entry.tell(StepUpNeeded(code=answer.code, sentence=answer.sentence, fix=answer.fix))
                case RecordDecision(resource, answer):
                    self._note(telling.decision(session, resource, answer))
                case _ as never:  # pragma: no cover
                    assert_never(never)
        if not changed or session.id not in self._live:
            return frozenset()
        # The leases as they are now, not as they were when this was asked for: somebody may have been faster, and the
        # last put is the one that counts.
        leases = entry.session.outlook.leases
        return await self._gateways.put(session, {gateway: leases[gateway] for gateway in sorted(changed)})
