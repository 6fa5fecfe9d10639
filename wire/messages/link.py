"""What a gateway and the controller say on their link: `GET /v1/link`, a WebSocket."""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from wire.messages.values import LATER, Address, Code, Count, IpAddress, Key64, Label, Message, Pem, Port, Text, Time

Protocol = Literal["tcp", "udp", "http"]
"""What a resource speaks. `http` is carried as `tcp` is."""


class Permit(Message):
    """One resource a lease permits, and where the gateway dials for it (never an address from the client)."""

    resource: Label
    port: Port  # what the client says in CONNECT
    target: Address
    protocol: Protocol
    policies: tuple[Text, ...]  # the policies that allowed it, for the audit record


class Denial(Message):
    """A resource this gateway serves that the session may not reach for a reason worth saying (not "no grant")."""

    resource: Label
    code: Code
    sentence: Text
    fix: Text


class Lease(Message):
    """What one live session may do at one gateway. Gateways keep leases in memory only."""

    session: UUID
    device: UUID
    user: Text
    knock_keys: Annotated[
        tuple[Key64, ...], Field(min_length=1, max_length=2, repr=False)
    ]  # derived for this gateway alone
    permits: tuple[Permit, ...]
    denials: tuple[Denial, ...] = ()
    valid_until: Time
    policy_revision: int
    # Where the controller sees the session's client: its knocks may name this address whatever they are seen from.
    addresses: Annotated[tuple[IpAddress, ...], Field(max_length=4)] = ()


class ServedResource(Message):
    """A resource this gateway serves, so that 404 (not here) and 403 (not for you) can be told apart."""

    name: Label
    port: Port


class Hello(Message):
    """Gateway: the first message; what it has applied, so that the controller can resume."""

    type: Literal["hello"] = "hello"
    stream: UUID | None = None
    seq: Count = 0
    version: Annotated[str, Field(max_length=32)]
    cloak: Annotated[str, Field(max_length=32)]


class Acknowledged(Message):
    """Gateway: every change up to `seq` is in force (dropped leases: their tunnels are cut)."""

    type: Literal["ack"] = "ack"
    seq: Count


class TunnelOpened(Message):
    """Gateway: bytes may flow."""

    type: Literal["tunnel.opened"] = "tunnel.opened"
    tunnel: UUID
    session: UUID
    resource: Label
    source: Address
    target: Address  # the address actually dialled
    group: Annotated[str, Field(max_length=64)]  # the TLS key exchange group
    protocol: Protocol = "tcp"
    at: Time


class TunnelClosed(Message):
    """Gateway: a tunnel is over; exact byte counts of what was relayed."""

    type: Literal["tunnel.closed"] = "tunnel.closed"
    tunnel: UUID
    session: UUID
    resource: Label
    bytes_up: Count  # from the client to the resource
    bytes_down: Count
    seconds: Annotated[float, Field(ge=0)]
    reason: Code
    dropped: Count = 0  # datagrams of a UDP tunnel that were not carried, both ways together
    at: Time


class TunnelRefused(Message):
    """Gateway: a CONNECT that was answered with a refusal."""

    type: Literal["tunnel.refused"] = "tunnel.refused"
    session: UUID | None
    resource: Text
    source: Address
    status: Annotated[int, Field(ge=100, le=599)]
    code: Code
    at: Time


class HandshakeRefused(Message):
    """Gateway: a TLS handshake from a knocked address that failed."""

    type: Literal["handshake.refused"] = "handshake.refused"
    source: Address
    code: Code
    detail: Text
    at: Time


class KnockRefused(Message):
    """Gateway: knocks that opened under a known key and were refused. `count` of them since the last report."""

    type: Literal["knock.refused"] = "knock.refused"
    key_id: Text
    source: Text
    code: Code
    count: Annotated[Count, Field(ge=1)]
    at: Time


class CloakTrouble(Message):
    """Gateway: something happened to what keeps its port dark. `count` times since the last report of this code."""

    type: Literal["cloak.trouble"] = "cloak.trouble"
    code: Code
    detail: Text
    count: Annotated[Count, Field(ge=1)]
    at: Time


Report = Annotated[
    TunnelOpened | TunnelClosed | TunnelRefused | HandshakeRefused | KnockRefused | CloakTrouble,
    Field(discriminator="type"),
]
"""What the audit log shall hold of a gateway."""

REPORTS_AT_ONCE: Final = 8
"""So many of the longest (12 KiB: two texts of a thousand characters that JSON escapes) fit into one message."""


class Reported(Message):
    """Gateway: what happened there, in order."""

    type: Literal["reports"] = "reports"
    reports: Annotated[tuple[Report, ...], Field(min_length=1, max_length=REPORTS_AT_ONCE)]


class Counters(Message):
    """Gateway: totals since it started, for `status`; sent every few seconds while they change."""

    type: Literal["counters"] = "counters"
    admitted: Count
    dropped: Annotated[dict[Code, Count], Field(max_length=64)]
    tunnels: Count
    leases: Count
    windows: Count
    reports_lost: Count = 0  # reports that an outage was too long for
    cloak: Annotated[str, Field(max_length=32)] = ""  # the one in use; `hello` comes before the door opens


class Welcome(Message):
    """Controller: the first message."""

    type: Literal["welcome"] = "welcome"
    gateway: Label
    time: Time
    outage_grace_seconds: Annotated[float, Field(ge=0)]
    ping_seconds: Annotated[float, Field(gt=0)]


class Snapshot(Message):
    """Controller: everything, replacing all the gateway knew. `stream` names the numbering `seq` belongs to."""

    type: Literal["snapshot"] = "snapshot"
    stream: UUID
    seq: int
    resources: tuple[ServedResource, ...]
    leases: tuple[Lease, ...]
    trust: Pem  # the root and every intermediate


class Resumed(Message):
    """Controller: instead of a snapshot; the changes after the gateway's `seq`, up to this one, follow."""

    type: Literal["resumed"] = "resumed"
    stream: UUID
    seq: Count  # once this is applied nothing of the outage is missing


class LeasePut(Message):
    """Controller: a new lease, or one that replaces the session's present one."""

    type: Literal["lease.put"] = "lease.put"
    seq: int
    lease: Lease


class LeaseDrop(Message):
    """Controller: the session is over here: drop the lease, cut its tunnels, then acknowledge."""

    type: Literal["lease.drop"] = "lease.drop"
    seq: int
    session: UUID
    code: Code
    sentence: Text = ""


class Resources(Message):
    """Controller: what this gateway serves now."""

    type: Literal["resources"] = "resources"
    seq: int
    resources: tuple[ServedResource, ...]


class TrustPut(Message):
    """Controller: whom to trust now; in force once it is on the disk and every new handshake begins with it."""

    type: Literal["trust.put"] = "trust.put"
    seq: int
    trust: Pem


class Ping(Message):
    """Controller: still here."""

    type: Literal["ping"] = "ping"
    time: Time


FromGateway = Annotated[Hello | Acknowledged | Reported | Counters, Field(discriminator="type")]
ToGateway = Annotated[
    Welcome | Snapshot | Resumed | LeasePut | LeaseDrop | Resources | TrustPut | Ping, Field(discriminator="type")
]

from_gateway: TypeAdapter[FromGateway] = TypeAdapter(FromGateway, config=LATER)
to_gateway: TypeAdapter[ToGateway] = TypeAdapter(ToGateway, config=LATER)
