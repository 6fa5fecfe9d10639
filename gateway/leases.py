"""What each live session may do here: leases, their ends, and the answer to every CONNECT.

1. A session may open what its lease permits and nothing else; no lease, no answer but "no".
2. A lease ends at `valid_until` in the controller's time. It is kept as a monotonic deadline, so a wrong or jumping
   clock of this machine moves nothing (`ControllerTime`).
3. While the link is down nobody can renew a lease: live tunnels then go on for `grace` seconds past its end. New
   tunnels do not: the grace keeps work alive, it gives nothing new.
4. A snapshot is everything: what it does not name is over.
5. Whatever takes something away answers with a `Cut` that says what may stay. Whoever performs it needs no other rule.
6. A device's knock keys live exactly as long as one of its leases. A tunnel knock must name a live session of it.
7. The denied learn the rule that denied them, never who else is allowed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Literal, NamedTuple
from uuid import UUID

from console.address import HostPort
from console.text import joined
from wire.messages import Lease, Permit, ServedResource

Carried = Literal["tcp", "udp"]
"""What a request for a tunnel asks it to carry: bytes (CONNECT) or datagrams (connect-udp)."""


@dataclass(frozen=True, slots=True)
class ControllerTime:
    """One reading of the controller's clock (`time`, aware) beside ours (`monotonic`, seconds)."""

    time: datetime
    monotonic: float

    def deadline(self, time: datetime) -> float:
        """The monotonic time at which the controller's clock will show `time`."""
        return self.monotonic + (time - self.time).total_seconds()

    def at(self, monotonic: float) -> datetime:
        """What the controller's clock shows at `monotonic`."""
        return (self.time + timedelta(seconds=monotonic - self.monotonic)).astimezone(UTC)


class Reach(NamedTuple):
    """What a tunnel reaches. A permit that changes any of it is another permit, and the old tunnel is cut."""

    resource: str
    port: int
    target_host: str
    target_port: int
    protocol: str

    @classmethod
    def of(cls, permit: Permit) -> "Reach":
        """The reach of a permit: all of it but the policies behind it."""
        return cls(permit.resource, permit.port, permit.target.host, permit.target.port, permit.protocol)

    @property
    def target(self) -> str:
        """HOST:PORT, for logs and status."""
        return str(HostPort(self.target_host, self.target_port))


@dataclass(frozen=True, slots=True)
class Refusal:
    """No to a CONNECT: HTTP `status`, RFC 9209 §2.3 `error` token, `code` for the audit, a `sentence` and its `fix`."""

    status: int
    error: str
    code: str
    sentence: str
    fix: str = ""

    @property
    def details(self) -> str:
        """One line for the person who asked."""
        return joined(self.sentence, self.fix)


@dataclass(frozen=True, slots=True)
class Cut:
    """Effect: of this session's tunnels only those that reach what is in `kept` may live on."""

    session: UUID
    code: str
    sentence: str
    kept: frozenset[Reach] = frozenset()


@dataclass(frozen=True, slots=True)
class SetKeys:
    """Effect: these, and no others, are the knock keys (64 bytes each) known as `key_id`."""

    key_id: str
    keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        """Without the keys."""
        return f"SetKeys({self.key_id!r}, {len(self.keys)} keys)"


@dataclass(frozen=True, slots=True)
class ForgetKeys:
    """Effect: nobody knocks as `key_id` any more."""

    key_id: str


Effect = Cut | SetKeys | ForgetKeys


@dataclass(frozen=True, slots=True)
class Held:
    """A lease, the monotonic time of its end, and whose knocks are for it."""

    lease: Lease
    ends: float
    key_id: str


def key_id_of(device: UUID) -> str:
    """The name of a device's knock keys."""
    return f"device/{device}"


class Leases:
    """The leases of one gateway. Every change answers with its effects, in the order they must be performed."""

    def __init__(self) -> None:
        self._held: dict[UUID, Held] = {}
        self._by_device: dict[UUID, set[UUID]] = {}
        self._ends: list[
            tuple[float, UUID]
        ] = []  # a heap; entries of replaced or dropped leases stay until they surface
        self._served: dict[str, frozenset[int]] = {}
        self._grace = 0.0  # seconds past its end that a lease keeps live tunnels: 0 while the link is up

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held(self) -> tuple[Held, ...]:
        """All leases, oldest session first."""
        return tuple(self._held.values())

    @property
    def served(self) -> tuple[ServedResource, ...]:
        """What this gateway serves."""
        return tuple(
            ServedResource(name=name, port=port) for name, ports in self._served.items() for port in sorted(ports)
        )

    # Changes from the controller

    def replace(
        self, leases: Iterable[Lease], resources: Iterable[ServedResource], clock: ControllerTime, now: float
    ) -> tuple[Effect, ...]:
        """A snapshot."""
        fresh = {lease.session: lease for lease in leases}
        effects: list[Effect] = []
        for session in [session for session in self._held if session not in fresh]:
            effects += self._remove(session, "session_over", "the session has ended")
        for lease in fresh.values():
            effects += self.put(lease, clock, now)
        self.serve(resources)
        return tuple(effects)

    def put(self, lease: Lease, clock: ControllerTime, now: float) -> tuple[Effect, ...]:
        """A new lease, or the session's next one. One that has already ended is a drop."""
        held = Held(lease, clock.deadline(lease.valid_until), key_id_of(lease.device))
        before = self._held.get(lease.session)
        effects: list[Effect] = []
        if held.ends + self._grace <= now:
            return self._remove(lease.session, "lease_expired", "the session's lease has expired")
        if before is not None and before.lease.device != lease.device:
            # A session never changes hands: what looks like it is another session, and the old one ends here.
            effects += self._remove(lease.session, "session_over", "the session has ended")
            before = None
        self._held[lease.session] = held
        heappush(self._ends, (held.ends, lease.session))
        self._by_device.setdefault(lease.device, set()).add(lease.session)
        if before is None or before.lease.knock_keys != lease.knock_keys:
            effects.append(SetKeys(key_id_of(lease.device), lease.knock_keys))
        if before is not None:
            kept = frozenset(map(Reach.of, lease.permits))
            if not kept.issuperset(map(Reach.of, before.lease.permits)):
                effects.append(Cut(lease.session, "permit_lost", "the session may no longer reach this resource", kept))
        return tuple(effects)

    def drop(self, session: UUID, code: str, sentence: str) -> tuple[Effect, ...]:
        """The session is over here. A session unknown here is cut all the same: nothing of it may be left."""
        return self._remove(session, code, sentence) or (Cut(session, code, sentence),)

    def serve(self, resources: Iterable[ServedResource]) -> None:
        """What this gateway serves from now on, so that 404 and 403 can be told apart."""
        served: dict[str, frozenset[int]] = {}
        for resource in resources:
            served[resource.name] = served.get(resource.name, frozenset()) | {resource.port}
        self._served = served

    # Time

    def begin_outage(self, grace: float) -> None:
        """The link is down: nobody can renew, so ended leases keep their live tunnels for `grace` seconds."""
        self._grace = max(0.0, grace)

    def end_outage(self, now: float) -> tuple[Effect, ...]:
        """The link is up and everything missed has been applied: leases end when they end."""
        self._grace = 0.0
        return self.expire(now)

    def expire(self, now: float) -> tuple[Effect, ...]:
        """The leases that end at `now` or before, grace included, are over."""
        effects: list[Effect] = []
        while (ends := self.earliest_deadline()) is not None and ends <= now:
            _, session = heappop(self._ends)
            effects += self._remove(session, "lease_expired", "the session's lease has expired")
        return tuple(effects)

    def earliest_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        while self._ends:
            ends, session = self._ends[0]
            held = self._held.get(session)
            if held is not None and held.ends == ends:
                return ends + self._grace
            heappop(self._ends)
        return None

    def latest_deadline(self) -> float | None:
        """When the last lease will be over if no change comes."""
        return max((held.ends + self._grace for held in self._held.values()), default=None)

    # Questions

    def live(self, key_id: str, session: UUID, now: float) -> bool:
        """May the holder of `key_id` knock for a tunnel of `session`?"""
        held = self._held.get(session)
        return held is not None and held.ends > now and held.key_id == key_id

    def seen_at(self, session: UUID, address: str) -> bool:
        """Has the controller seen this session's client at `address`? Then its knocks may name it."""
        held = self._held.get(session)
        return held is not None and address in held.lease.addresses

    def find(self, session: UUID) -> Held | None:
        """The lease of a session, ended or not."""
        return self._held.get(session)

    def permits(
        self, session: UUID, knocked: frozenset[str], name: str, port: int, now: float, *, protocol: Carried = "tcp"
    ) -> Permit | Refusal:
        """May `session` open a tunnel to NAME:PORT? `knocked` are the key ids with an open window for its source."""
        held = self._held.get(session)
        if held is None:
            return _denied("no_lease", "this session is not known here", "log in again, or try again in a moment")
        if held.ends <= now:
            return _denied("lease_expired", "this session's lease has expired", "log in again")
        if key_id_of(held.lease.device) not in knocked:
            return _denied(
                "no_knock", "the session's own device has not knocked from this address", "knock, then connect"
            )
        for permit in held.lease.permits:
            if permit.resource == name and permit.port == port:
                return _wrong_kind(permit, protocol) or permit
        return self._refuse(held.lease, name, port)

    def _refuse(self, lease: Lease, name: str, port: int) -> Refusal:
        ports = sorted({permit.port for permit in lease.permits if permit.resource == name})
        if ports:
            listed = ", ".join(map(str, ports))
            return _not_here("wrong_port", f"{name} is not served on port {port}", f"ask for port {listed}")
        for denial in lease.denials:
            if denial.resource == name:
                return _denied(denial.code, denial.sentence, denial.fix)
        if port not in self._served.get(name, ()):
            return _not_here("not_served", f"{name}:{port} is not served here", "check the name with `gloam resources`")
        return _denied("no_grant", f"you have no grant for {name}", "ask an administrator for access")

    # Inside

    def _remove(self, session: UUID, code: str, sentence: str) -> tuple[Effect, ...]:
        held = self._held.pop(session, None)
        if held is None:
            return ()
        device = held.lease.device
        others = self._by_device[device]
        others.discard(session)
        cut = Cut(session, code, sentence)
        if others:
            return (cut,)
        del self._by_device[device]
        return (ForgetKeys(key_id_of(device)), cut)


def _wrong_kind(permit: Permit, protocol: Carried) -> Refusal | None:
    """Bytes are not cut into datagrams, nor datagrams run together: a resource is carried as what it is."""
    where = f"{permit.resource}:{permit.port}"
    if protocol == "tcp" and permit.protocol == "udp":
        return _not_here("udp_resource", f"{where} is a UDP resource", "ask for it by connect-udp")
    if protocol == "udp" and permit.protocol != "udp":
        return _not_here("tcp_resource", f"{where} is not a UDP resource", "ask for it by CONNECT")
    return None


def _denied(code: str, sentence: str, fix: str) -> Refusal:
    return Refusal(403, "http_request_denied", code, sentence, fix)


def _not_here(code: str, sentence: str, fix: str = "") -> Refusal:
    return Refusal(404, "destination_not_found", code, sentence, fix)
