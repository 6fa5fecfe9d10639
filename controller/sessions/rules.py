"""The rules of sessions: a session and what happens to it, to the session after and what follows (effects).

Laws:

1. A session is live until it has ended or its certificate's end is past; nothing makes it live again.
2. Gateways are told exactly what changed for them. A gateway that has nothing left for the session is told so: it gets
   a lease without permits, never silence. A change of the policy revision alone is no change.
3. A lease ends when the session's certificate ends, never later.
4. The person is told of a resource's new answer once, and so is the audit log.
5. A session is renewed for the device it belongs to, and for no other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

from controller.decision.answers import Answer, Deny, StepUp
from wire.messages import GatewayAddress, Lease, ResourceView

WITHDRAWN: Final = Deny(code="no_grant", sentence="no policy allows this any more", fix="", policies=())


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a session may do now. `answers` (by resource) are the ones worth telling: "no grant" is not among them."""

    leases: Mapping[str, Lease] = field(default_factory=dict)  # by gateway
    resources: tuple[ResourceView, ...] = ()
    gateways: tuple[GatewayAddress, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)


SERVICE: Final = frozenset({"cert"})
"""What a service proves, and so the methods of its session: nothing but its device's certificate."""


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that is live, with the outlook gateways and client were last told."""

    id: UUID
    user_id: UUID
    user: str
    device_id: UUID
    source: str
    started_at: datetime
    mfa_at: datetime
    methods: frozenset[str]
    valid_until: datetime
    outlook: Outlook = field(default_factory=Outlook)
    backup_codes: int = 0  # how many the person had left when we last looked
    seen_at: str = ""  # where its connection comes from now; `source` is where the login came from, for policies

    @property
    def of_service(self) -> bool:
        """Whether nothing but its device's certificate was proved: services log in so, and nobody else does."""
        return self.methods == SERVICE


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """`lifetime` of certificates; `acknowledge`: seconds gateways get to answer.

    A client may come back and renew after the controller was away for up to `outage`, and gets `rejoin` for it.
    """

    lifetime: timedelta = timedelta(minutes=10)
    acknowledge: float = 0.5
    outage: timedelta = timedelta(minutes=15)
    rejoin: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Starting:
    """Who logged in, where, by what, and the request for the session's certificate."""

    user_id: UUID
    user: str
    device_id: UUID
    source: str
    csr: str
    methods: frozenset[str]
    mfa_at: datetime | None = None  # when the second factor was proved, if not just now


@dataclass(frozen=True, slots=True)
class Judged:
    """The decisions were made again."""

    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Renewed:
    """A new certificate, good until then, was issued."""

    valid_until: datetime


@dataclass(frozen=True, slots=True)
class SteppedUp:
    """The person proved a second factor again, by these methods."""

    at: datetime
    methods: frozenset[str]


Event = Judged | Renewed | SteppedUp


@dataclass(frozen=True, slots=True)
class PushLeases:
    """Effect: give these gateways these leases."""

    leases: Mapping[str, Lease]


@dataclass(frozen=True, slots=True)
class TellClient:
    """Effect: the client's view of the session is another one now."""


@dataclass(frozen=True, slots=True)
class AskStepUp:
    """Effect: ask the person for what this answer wants."""

    answer: StepUp


@dataclass(frozen=True, slots=True)
class RecordDecision:
    """Effect: the audit log learns this answer."""

    resource: str
    answer: Answer


Effect = PushLeases | TellClient | AskStepUp | RecordDecision


@dataclass(frozen=True, slots=True)
class Step:
    """The session after an event, and what is to be done."""

    session: LiveSession
    effects: tuple[Effect, ...] = ()


def advance(session: LiveSession, event: Event) -> Step:
    """What `event` makes of `session`."""
    match event:
        case Judged(outlook):
            return _judged(session, outlook)
        case Renewed(valid_until):
            leases = {name: _until(lease, valid_until) for name, lease in session.outlook.leases.items()}
            after = replace(session, valid_until=valid_until, outlook=replace(session.outlook, leases=leases))
            return Step(after, (PushLeases(leases),) if leases else ())
        case SteppedUp(at, methods):
            after = replace(session, mfa_at=max(session.mfa_at, at), methods=session.methods | methods)
            return Step(after, (TellClient(),))
        case _ as never:  # pragma: no cover
            assert_never(never)


def of_device(live: Iterable[LiveSession], device: UUID) -> LiveSession | None:
    """The live session of a device: there is one at most."""
    return next((session for session in live if session.device_id == device), None)


def over(session: LiveSession, now: datetime) -> bool:
    """Is the session past its end?"""
    return now >= session.valid_until


def why_not_renewed(session: LiveSession | None, device: UUID, now: datetime) -> str | None:
    """The code of what stands against a renewal by `device`, or None."""
    if session is None:
        return "session_unknown"
    if session.device_id != device:
        return "session_of_another_device"
    if over(session, now):
        return "session_expired"
    return None


def _judged(session: LiveSession, outlook: Outlook) -> Step:
    before = session.outlook
    leases = {name: _until(lease, session.valid_until) for name, lease in outlook.leases.items()}
    changed = {name: lease for name, lease in leases.items() if not _same(before.leases.get(name), lease)}
    for name, lease in before.leases.items():
        if name not in leases:
            leases[name] = lease.model_copy(update={"permits": (), "denials": ()})
            if lease.permits or lease.denials:
                changed[name] = leases[name]
    # What a gateway was told stays as it was told, revision and all, so that the next comparison is with that.
    kept = {name: changed.get(name, before.leases.get(name, lease)) for name, lease in leases.items()}
    effects: list[Effect] = []
    if changed:
        effects.append(PushLeases(changed))
    if (before.resources, before.gateways) != (outlook.resources, outlook.gateways):
        effects.append(TellClient())
    for resource, answer in outlook.answers.items():
        if before.answers.get(resource) != answer:
            effects.append(RecordDecision(resource, answer))
            if isinstance(answer, StepUp):
                effects.append(AskStepUp(answer))
    gone = [resource for resource in before.answers if resource not in outlook.answers]
    effects.extend(RecordDecision(resource, WITHDRAWN) for resource in gone)
    return Step(replace(session, outlook=replace(outlook, leases=kept)), tuple(effects))


def _until(lease: Lease, end: datetime) -> Lease:
    return lease.model_copy(update={"valid_until": end})


def _same(before: Lease | None, after: Lease) -> bool:
    return before is not None and before.model_copy(update={"policy_revision": after.policy_revision}) == after
