"""Events of passkeys."""

from typing import Literal
from uuid import UUID

from controller.audit.event import Event, Ocsf, Text


class PasskeyAdded(Event):
    """A person added a passkey."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    activity = 10  # an MFA factor was enabled
    kind: Literal["passkey.added"] = "passkey.added"
    user: Text
    device: UUID
    session: UUID
    source: Text
    passkey: UUID
    name: Text
    synced: bool
    aaguid: Text = ""  # the authenticator's model, unless it keeps that to itself


class PasskeyRemoved(Event):
    """A passkey was removed by its owner, or by an administrator (`actor`)."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    activity = 11  # an MFA factor was disabled
    kind: Literal["passkey.removed"] = "passkey.removed"
    user: Text
    device: UUID | None = None
    session: UUID | None = None
    source: Text = ""
    passkey: UUID
    name: Text
    actor: Text = ""


class PasskeyRefused(Event):
    """Somebody could not change their passkeys; `code` is the true reason."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    failure = True
    kind: Literal["passkey.refused"] = "passkey.refused"
    user: Text  # empty where the session is none of this device's
    device: UUID
    session: UUID
    source: Text
    code: Text
    detail: Text = ""


class PasskeyBlocked(Event):
    """A passkey's counter went back: there may be a copy of it, and neither is accepted any more.

    What to do: ask its owner, remove it (`gloam-controller passkey remove`), and have them add another.
    """

    ocsf = Ocsf.DETECTION_FINDING
    activity = 1
    failure = True
    kind: Literal["passkey.blocked"] = "passkey.blocked"
    user: Text
    device: UUID
    source: Text
    passkey: UUID
    name: Text
    detail: Text = ""
