"""The facts decisions are made of: frozen values, made by the directory from the database and by sessions.

Laws:

1. Names are keys: nothing is ever renamed, and users and groups are never removed, so no name changes hands.
2. Ages are rounded up and times down, so that a fact is never younger and a deadline never later than it is.
3. ``now`` is always an argument.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, Literal, Self
from uuid import UUID

from console.address import HostPort
from controller.decision.hours import Hours

Protocol = Literal["tcp", "udp", "http"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Group:
    """People granted things together; ``ancestors`` are the groups it is in, directly or not, without itself."""

    id: UUID
    name: str
    parent: str | None = None
    ancestors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class User:
    """A person; ``groups`` includes those their groups are in."""

    id: UUID
    name: str
    disabled_at: datetime | None = None
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Device:
    """A machine, of a person's or of nobody's yet."""

    id: UUID
    user_id: UUID | None
    name: str
    platform: str
    approved_at: datetime | None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where tunnels end; reachable once enrolled."""

    id: UUID
    name: str
    listen: HostPort
    knock: HostPort
    advertise: HostPort
    enrolled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """Something hidden behind gateways; ``port`` is what clients name, ``target`` what gateways dial."""

    id: UUID
    name: str
    target: HostPort
    port: int
    protocol: Protocol = "tcp"
    segment: str | None = None
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """Who (one of ``group``, ``user``) may reach what (one of ``resource``, ``segment``), under which conditions."""

    id: UUID
    group: str | None = None
    user: str | None = None
    resource: str | None = None
    segment: str | None = None
    hours: Hours | None = None
    mfa_within: timedelta | None = None
    expires_at: datetime | None = None
    reason: str = ""

    @property
    def policy_id(self) -> str:
        """The ``@id`` of the policy it compiles to."""
        return f"grant/{self.id}"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a session contributes to a decision. ``source`` is the address it was begun from, ``methods`` by what."""

    user_id: UUID
    device_id: UUID
    mfa_at: datetime
    source: str
    started_at: datetime
    methods: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Context:
    """The request's context, as the schema spells it; ``open_windows`` is added by the engine."""

    now: datetime
    source: IPv4Address | IPv6Address
    mfa_age_seconds: int
    session_age_seconds: int
    methods: frozenset[str]
    device: Device

    @classmethod
    def of(cls, session: SessionFacts, device: Device, now: datetime) -> Self:
        """The context of ``session`` at ``now``. Raises ValueError if its source is no address."""
        return cls(
            now=now,
            source=_address(session.source),
            mfa_age_seconds=_age(session.mfa_at, now),
            session_age_seconds=_age(session.started_at, now),
            methods=session.methods,
            device=device,
        )

    def at(self, now: datetime) -> Self:
        """The same facts at another time, with a second factor proved then."""
        return replace(self, now=now, mfa_age_seconds=0)

    def by(self, method: str) -> Self:
        """The same facts, had ``method`` been used as well."""
        return replace(self, methods=self.methods | {method})

    def as_cedar(self) -> dict[str, Any]:
        """The attributes in Cedar's JSON, each apart, without ``open_windows``."""
        milliseconds = (self.now - _EPOCH) // timedelta(milliseconds=1)
        return {
            "now": _extension("datetime", format_datetime(_EPOCH + timedelta(milliseconds=milliseconds))),
            "source": _extension("ip", str(self.source)),
            "mfa_age_seconds": self.mfa_age_seconds,
            "session_age_seconds": self.session_age_seconds,
            "methods": sorted(self.methods),
            "device": {"id": str(self.device.id), "name": self.device.name, "platform": self.device.platform},
        }


def format_datetime(time: datetime) -> str:
    """``time`` as Cedar's ``datetime("…")`` takes it: UTC, milliseconds, the rest cut off."""
    utc = time.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03}Z"


def _extension(function: str, argument: str) -> dict[str, Any]:
    return {"__extn": {"fn": function, "arg": argument}}


def _age(then: datetime, now: datetime) -> int:
    """Whole seconds, rounded up; what lies in the future by another replica's clock is new."""
    return max(0, -((then - now) // timedelta(seconds=1)))


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
