"""Audit events: one frozen class for everything worth answering for later.

Laws:

1. An event says who, from where, what and why, in names as they were then and identifiers that never change.
2. No event holds a secret.

``at`` is not a field: the record carries when it was written. ``reported_at`` is when a gateway says it happened.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from controller.audit.event import LIST_LIMIT, TEXT_LIMIT, Count, Event, Ocsf, Text, Texts
from controller.audit.identity import (
    AccountChangeRefused,
    BackupCodesMade,
    BackupCodeUsed,
    LoginRefused,
    LoginSucceeded,
    PasswordChanged,
    TotpEnrolled,
    TotpOffered,
    TotpReplaced,
)
from controller.audit.passkeys import PasskeyAdded, PasskeyBlocked, PasskeyRefused, PasskeyRemoved
from controller.audit.renewal import CertificateRenewed, KeyReplaced, RenewalRefused
from controller.audit.traffic import (
    ClientProtocolError,
    CloakTrouble,
    HandshakeRefused,
    KnockRefused,
    LinkClosed,
    LinkOpened,
    LinkProtocolError,
    TunnelClosed,
    TunnelOpened,
    TunnelRefused,
)

__all__ = [
    "LIST_LIMIT",
    "TEXT_LIMIT",
    "AccountChangeRefused",
    "AnyEvent",
    "AuthorityChanged",
    "BackupCodeUsed",
    "BackupCodesMade",
    "CertificateRenewed",
    "ChainStarted",
    "ChangeMade",
    "ClientProtocolError",
    "CloakTrouble",
    "ControllerRestored",
    "ControllerStarted",
    "ControllerStopped",
    "DecisionMade",
    "DeviceEnrolled",
    "Event",
    "EventsDropped",
    "EventsKeptBack",
    "GatewayJoined",
    "HandshakeRefused",
    "InviteCreated",
    "InviteRefused",
    "KeyReplaced",
    "KnockRefused",
    "LeaseLagging",
    "LinkClosed",
    "LinkOpened",
    "LinkProtocolError",
    "LoginRefused",
    "LoginSucceeded",
    "Ocsf",
    "PasskeyAdded",
    "PasskeyBlocked",
    "PasskeyRefused",
    "PasskeyRemoved",
    "PasswordChanged",
    "ProviderTrouble",
    "RenewalRefused",
    "SessionEnded",
    "SessionRenewed",
    "SessionStarted",
    "TotpEnrolled",
    "TotpOffered",
    "TotpReplaced",
    "TunnelClosed",
    "TunnelOpened",
    "TunnelRefused",
    "Witnessed",
    "any_event",
    "decode_event",
    "encode_event",
]

# --- The controller and its log ----------------------------------------------------------------------------------


class ControllerStarted(Event):
    """A controller process began to serve."""

    ocsf = Ocsf.APPLICATION_LIFECYCLE
    activity = 3
    kind: Literal["controller.started"] = "controller.started"
    controller: Text
    version: Text = ""


class ControllerRestored(Event):
    """A backup became a controller: what happened between the two moments is not known here."""

    ocsf = Ocsf.APPLICATION_LIFECYCLE
    activity = 99
    kind: Literal["controller.restored"] = "controller.restored"
    controller: Text
    backup_made_at: AwareDatetime
    backup_by: Text  # the version of gloam
    sessions_ended: Count = 0
    invites_closed: Count = 0


class ControllerStopped(Event):
    """A controller process ended in good order."""

    ocsf = Ocsf.APPLICATION_LIFECYCLE
    activity = 4
    kind: Literal["controller.stopped"] = "controller.stopped"
    controller: Text
    reason: Text = ""


class Witnessed(BaseModel):
    """Another chain as it was when this one began: it can never be shorter than this again."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    chain: UUID
    length: Count
    mac: str  # hex, of the record at `length`


class ChainStarted(Event):
    """The first record of every chain; it bears witness for the chains before it."""

    ocsf = Ocsf.APPLICATION_LIFECYCLE
    kind: Literal["audit.chain_started"] = "audit.chain_started"
    controller: Text
    number: Annotated[int, Field(ge=1)]
    witnessed: tuple[Witnessed, ...]


class EventsDropped(Event):
    """Events that came faster than they could be written, and were counted instead."""

    ocsf = Ocsf.APPLICATION_LIFECYCLE
    failure = True
    kind: Literal["audit.events_dropped"] = "audit.events_dropped"
    count: Annotated[int, Field(ge=1)]


class EventsKeptBack(Event):
    """Refusals of one kind and origin that were too many to be told one by one, within a minute."""

    ocsf = Ocsf.DETECTION_FINDING
    activity = 1
    failure = True
    kind: Literal["audit.events_kept_back"] = "audit.events_kept_back"
    of: Text  # the kind of event
    origin: Text  # a device, a session, a knock key, or an address
    count: Annotated[int, Field(ge=1)]


class ChangeMade(Event):
    """An administrator changed something."""

    ocsf = Ocsf.ENTITY_MANAGEMENT
    activity = 3
    kind: Literal["change.made"] = "change.made"
    actor: Text
    what: Text  # "user.added", "grant.removed", …
    detail: Text = ""


class AuthorityChanged(Event):
    """An intermediate was made, began to issue, or is trusted no more."""

    ocsf = Ocsf.ENTITY_MANAGEMENT
    activity = 3
    kind: Literal["authority.changed"] = "authority.changed"
    actor: Text  # empty: by itself, as time went by
    what: Literal["requested", "made", "issues", "retired", "distrusted"]
    purpose: Text
    intermediate: UUID
    sha256: Text = ""
    detail: Text = ""


# --- Enrolment ---------------------------------------------------------------------------------------------------


class InviteCreated(Event):
    """An administrator invited a person's device or a gateway."""

    ocsf = Ocsf.ENTITY_MANAGEMENT
    activity = 1
    kind: Literal["invite.created"] = "invite.created"
    actor: Text
    invite: UUID
    purpose: Literal["device", "gateway"]
    user: Text = ""
    gateway: Text = ""
    provider: Text = ""
    expires_at: AwareDatetime


class InviteRefused(Event):
    """Somebody tried an invite that does not count (used, expired, unknown, proof wrong)."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    failure = True
    kind: Literal["invite.refused"] = "invite.refused"
    invite: UUID | None
    source: Text
    code: Text
    detail: Text = ""


class DeviceEnrolled(Event):
    """An invite made a machine a device."""

    ocsf = Ocsf.ENTITY_MANAGEMENT
    activity = 1
    kind: Literal["device.enrolled"] = "device.enrolled"
    device: UUID
    user: Text
    invite: UUID | None = None
    name: Text = ""
    platform: Text = ""
    source: Text = ""


class GatewayJoined(Event):
    """An invite made a process a gateway."""

    ocsf = Ocsf.ENTITY_MANAGEMENT
    activity = 1
    kind: Literal["gateway.joined"] = "gateway.joined"
    gateway: Text
    invite: UUID | None = None
    source: Text = ""


# --- Sessions -------------------------------------------------------------------------------------------


class ProviderTrouble(Event):
    """An identity provider did not confirm a session: refused it, or could not be asked."""

    ocsf = Ocsf.AUTHENTICATION
    failure = True
    kind: Literal["provider.trouble"] = "provider.trouble"
    provider: Text
    session: UUID | None = None
    code: Text
    detail: Text = ""


class SessionStarted(Event):
    """A session began."""

    ocsf = Ocsf.AUTHORIZE_SESSION
    activity = 1
    kind: Literal["session.started"] = "session.started"
    user: Text
    device: UUID
    session: UUID
    source: Text
    valid_until: AwareDatetime


class SessionRenewed(Event):
    """A session got its next certificate."""

    ocsf = Ocsf.AUTHORIZE_SESSION
    activity = 1
    kind: Literal["session.renewed"] = "session.renewed"
    user: Text
    device: UUID
    session: UUID
    source: Text = ""
    valid_until: AwareDatetime


class SessionEnded(Event):
    """A session ended: logout, expiry, or by somebody (`actor`)."""

    ocsf = Ocsf.AUTHENTICATION
    activity = 2
    kind: Literal["session.ended"] = "session.ended"
    user: Text
    device: UUID
    session: UUID
    code: Text
    detail: Text = ""
    actor: Text = ""
    milliseconds: Annotated[float, Field(ge=0)] | None = None  # until the gateways had cut it, or lagged


class DecisionMade(Event):
    """What the policies answered for a session and a resource, whenever the answer changed."""

    ocsf = Ocsf.API_ACTIVITY
    kind: Literal["decision.made"] = "decision.made"
    answer: Literal["allow", "step_up", "deny"]
    user: Text
    device: UUID | None
    session: UUID | None = None
    source: Text = ""
    resource: Text
    policies: Texts = ()
    code: Text = ""
    detail: Text = ""


class LeaseLagging(Event):
    """Gateways that had not acknowledged a lease in time."""

    ocsf = Ocsf.API_ACTIVITY
    failure = True
    kind: Literal["lease.lagging"] = "lease.lagging"
    session: UUID
    user: Text = ""
    gateways: Texts
    what: Literal["put", "drop"] = "put"


AnyEvent = Annotated[
    ControllerStarted
    | ControllerStopped
    | ControllerRestored
    | ChainStarted
    | EventsDropped
    | EventsKeptBack
    | ChangeMade
    | AuthorityChanged
    | InviteCreated
    | InviteRefused
    | DeviceEnrolled
    | GatewayJoined
    | CertificateRenewed
    | KeyReplaced
    | RenewalRefused
    | LoginSucceeded
    | LoginRefused
    | TotpEnrolled
    | ProviderTrouble
    | PasskeyAdded
    | PasskeyRemoved
    | PasskeyRefused
    | PasskeyBlocked
    | TotpOffered
    | TotpReplaced
    | BackupCodesMade
    | BackupCodeUsed
    | PasswordChanged
    | AccountChangeRefused
    | SessionStarted
    | SessionRenewed
    | SessionEnded
    | DecisionMade
    | LeaseLagging
    | TunnelOpened
    | TunnelClosed
    | TunnelRefused
    | KnockRefused
    | HandshakeRefused
    | CloakTrouble
    | LinkOpened
    | LinkClosed
    | LinkProtocolError
    | ClientProtocolError,
    Field(discriminator="kind"),
]

any_event: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent, config=ConfigDict(defer_build=True))


def encode_event(event: Event) -> str:
    """The JSON text that is stored, chained and exported."""
    return event.model_dump_json()


def decode_event(text: str) -> Event:
    """The event in a stored record. Raises ValueError if it is none of this version's events."""
    return any_event.validate_json(text)
