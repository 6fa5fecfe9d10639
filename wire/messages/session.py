"""What devices and the controller say: enrolment (an HTTPS request), and the WebSocket of a live session."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from wire.messages.values import (
    LATER,
    Address,
    Code,
    ControllerAddress,
    Count,
    CsrPem,
    GatewayAddress,
    Hash32,
    IpAddress,
    Label,
    Message,
    Pem,
    Port,
    Text,
    Time,
)

# --- Enrolment: one HTTPS request with no client certificate, inside an enrol window -----------------------------


class EnrolRequest(Message):
    """Sent to `POST /v1/enrol` by whoever holds an invite, device or gateway."""

    invite: UUID
    proof: Hash32  # HMAC-SHA256(HKDF(invite secret, info="gloam enrol proof v1"), TLS exporter 32 bytes ‖ CSR PEM)
    csr: CsrPem
    device_name: Annotated[str, Field(max_length=64)] = ""
    platform: Annotated[str, Field(max_length=128)] = ""


class EnrolReply(Message):
    """What makes the invitee a device or a gateway."""

    id: Text  # the device's UUID, or the gateway's name
    user: Text  # the device's owner; empty for a gateway
    certificate: Pem  # leaf first, then the intermediate
    trust: Pem  # the root and every intermediate
    knock_secret: Annotated[Hash32, Field(repr=False)]
    controllers: Annotated[tuple[ControllerAddress, ...], Field(min_length=1, max_length=16)]
    listen: Address | None = None  # gateways: where tunnels are accepted
    knock: Address | None = None  # gateways: where knocks are accepted
    advertise: Address | None = None  # gateways: where clients connect, and so which port they knock for
    time: Time


# --- A session as its device sees it ----------------------------------------------------------------------------


class ResourceView(Message):
    """A resource as its session sees it."""

    name: Label
    port: Port
    protocol: Literal["tcp", "udp", "http"]
    gateways: Annotated[tuple[Label, ...], Field(max_length=64)]
    allowed: bool
    code: Code = "ok"
    sentence: Text = ""
    fix: Text = ""


class SessionView(Message):
    """A session as its client sees it. The client knocks at gateways with keys it derives itself."""

    id: UUID
    user: Text
    certificate: Pem
    valid_until: Time
    resources: tuple[ResourceView, ...]
    gateways: tuple[GatewayAddress, ...]
    lagging: tuple[Label, ...] = ()  # gateways that have not acknowledged the lease yet
    backup_codes: Count | None = 0  # how many the person has left; none where codes are not for this account (services)
    seen_at: IpAddress | None = None  # where the controller sees this client: what its knocks may name at gateways


class Refusal(Message):
    """The body of every HTTP answer that is not a success."""

    code: Code
    sentence: Text
    fix: Text = ""


# --- The WebSocket of a live session, `GET /v1/session` ----------------------------------------------------------


class Attach(Message):
    """Client: the first message; which session this connection keeps alive."""

    type: Literal["attach"] = "attach"
    session: UUID
    trust: Hash32 | None = None  # SHA-256 of the trust bundle this device holds: another one is told first


class Heartbeat(Message):
    """Client: still here."""

    type: Literal["heartbeat"] = "heartbeat"


class Renew(Message):
    """Client: a certificate for this (new) session key, please."""

    type: Literal["renew"] = "renew"
    csr: CsrPem


class ExplainRequest(Message):
    """Client: may I reach this resource, and if not, why and what helps?"""

    type: Literal["explain"] = "explain"
    resource: Label


class Logout(Message):
    """Client: end this session."""

    type: Literal["logout"] = "logout"


class Session(Message):
    """Controller: the session as it is now: after attach, after each renewal, and whenever resources change."""

    type: Literal["session"] = "session"
    session: SessionView


class TrustUpdate(Message):
    """Controller: whom to trust now; comes before anything that needs it."""

    type: Literal["trust"] = "trust"
    trust: Pem


class Explained(Message):
    """Controller: the answer to `explain`."""

    type: Literal["explained"] = "explained"
    resource: ResourceView


class StepUpNeeded(Message):
    """Controller: something needs a fresher or stronger proof of who you are. Without a fix: that code is settled."""

    type: Literal["step_up"] = "step_up"
    code: Code
    sentence: Text
    fix: Text


class Revoked(Message):
    """Controller: this session has ended."""

    type: Literal["revoked"] = "revoked"
    code: Code
    sentence: Text
    fix: Text = ""


class Beat(Message):
    """Controller: the answer to a heartbeat, with the time to correct a wrong clock by."""

    type: Literal["beat"] = "beat"
    time: Time


FromClient = Annotated[Attach | Heartbeat | Renew | ExplainRequest | Logout, Field(discriminator="type")]
ToClient = Annotated[Session | TrustUpdate | Explained | StepUpNeeded | Revoked | Beat, Field(discriminator="type")]

from_client: TypeAdapter[FromClient] = TypeAdapter(FromClient, config=LATER)
to_client: TypeAdapter[ToClient] = TypeAdapter(ToClient, config=LATER)
