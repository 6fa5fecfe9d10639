"""Events of the network: tunnels, knocks, handshakes and links. Part of ``events``, where they are imported from."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from controller.audit.event import Count, Event, Ocsf, Text, Texts


class TunnelOpened(Event):
    """Bytes may flow: who reaches what, from where, by which policy."""

    ocsf = Ocsf.NETWORK_ACTIVITY
    activity = 1
    kind: Literal["tunnel.opened"] = "tunnel.opened"
    gateway: Text
    tunnel: UUID
    session: UUID
    user: Text
    device: UUID | None
    source: Text
    resource: Text
    target: Text  # the address actually dialled
    policies: Texts = ()
    group: Text = ""  # the TLS key exchange group
    protocol: Text = "tcp"
    reported_at: AwareDatetime | None = None


class TunnelClosed(Event):
    """A tunnel is over, with what went through it."""

    ocsf = Ocsf.NETWORK_ACTIVITY
    activity = 2
    kind: Literal["tunnel.closed"] = "tunnel.closed"
    gateway: Text
    tunnel: UUID
    session: UUID
    user: Text
    device: UUID | None
    source: Text = ""
    resource: Text
    target: Text = ""
    protocol: Text = ""
    policies: Texts = ()
    bytes_up: Count
    bytes_down: Count
    seconds: Annotated[float, Field(ge=0)]
    dropped: Count = 0  # datagrams of a UDP tunnel that were not carried
    code: Text
    reported_at: AwareDatetime | None = None


class TunnelRefused(Event):
    """A gateway refused to open a tunnel."""

    ocsf = Ocsf.NETWORK_ACTIVITY
    activity = 5
    failure = True
    kind: Literal["tunnel.refused"] = "tunnel.refused"
    gateway: Text
    session: UUID | None
    user: Text = ""
    device: UUID | None = None
    source: Text
    resource: Text
    status: int
    code: Text
    reported_at: AwareDatetime | None = None


class KnockRefused(Event):
    """Knocks that opened under a known key and were refused; `count` of them since the last report."""

    ocsf = Ocsf.NETWORK_ACTIVITY
    activity = 5
    failure = True
    kind: Literal["knock.refused"] = "knock.refused"
    where: Text  # "gateway/NAME" or "controller/NAME"
    key_id: Text
    source: Text
    code: Text
    count: Annotated[int, Field(ge=1)] = 1
    detail: Text = ""
    reported_at: AwareDatetime | None = None


class HandshakeRefused(Event):
    """A TLS handshake, from an address that had knocked, that failed."""

    ocsf = Ocsf.NETWORK_ACTIVITY
    activity = 4
    failure = True
    kind: Literal["handshake.refused"] = "handshake.refused"
    where: Text  # "gateway/NAME" or "controller/NAME"
    source: Text
    code: Text
    detail: Text = ""
    presented: Text = ""  # subject or serial of what was presented, if anything
    reported_at: AwareDatetime | None = None


class CloakTrouble(Event):
    """Something happened to what keeps a port dark: it was removed and put up again, is lost, or is full."""

    ocsf = Ocsf.DETECTION_FINDING
    activity = 1
    failure = True
    kind: Literal["cloak.trouble"] = "cloak.trouble"
    where: Text  # "gateway/NAME" or "controller/NAME"
    code: Text
    detail: Text
    count: Annotated[int, Field(ge=1)] = 1
    reported_at: AwareDatetime | None = None


class LinkOpened(Event):
    """A gateway is connected to this controller."""

    ocsf = Ocsf.NETWORK_ACTIVITY
    activity = 1
    kind: Literal["link.opened"] = "link.opened"
    gateway: Text
    source: Text
    detail: Text = ""


class LinkClosed(Event):
    """A gateway's link ended."""

    ocsf = Ocsf.NETWORK_ACTIVITY
    activity = 2
    kind: Literal["link.closed"] = "link.closed"
    gateway: Text
    source: Text = ""
    code: Text = ""
    detail: Text = ""


class ClientProtocolError(Event):
    """A device said something that is not in the protocol, and was disconnected."""

    ocsf = Ocsf.DETECTION_FINDING
    activity = 1
    failure = True
    kind: Literal["client.protocol_error"] = "client.protocol_error"
    device: UUID | None
    source: Text
    detail: Text


class LinkProtocolError(Event):
    """A gateway said something that is not in the protocol, and was disconnected."""

    ocsf = Ocsf.DETECTION_FINDING
    activity = 1
    failure = True
    kind: Literal["link.protocol_error"] = "link.protocol_error"
    gateway: Text
    source: Text
    detail: Text
