"""Events of certificates that follow one another: renewed in time, recovered after their end, put to use, refused."""

from typing import Literal

from pydantic import AwareDatetime

from controller.audit.event import Event, Ocsf, Text


class CertificateRenewed(Event):
    """A device or gateway was given its next certificate and knock secret; both count beside the present ones."""

    ocsf = Ocsf.ENTITY_MANAGEMENT
    activity = 3
    kind: Literal["certificate.renewed"] = "certificate.renewed"
    holder: Text  # "device/ID" or "gateway/NAME"
    user: Text = ""
    source: Text = ""
    until: AwareDatetime
    recovered: bool = False  # after the end of the one before, by its key


class KeyReplaced(Event):
    """The next key was used for the first time: the one before is refused from now on."""

    ocsf = Ocsf.ENTITY_MANAGEMENT
    activity = 3
    kind: Literal["key.replaced"] = "key.replaced"
    holder: Text
    source: Text = ""


class RenewalRefused(Event):
    """Somebody asked for the next certificate of a device or gateway, and did not get it."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    failure = True
    kind: Literal["renewal.refused"] = "renewal.refused"
    holder: Text  # as they say
    source: Text = ""
    code: Text
    recovery: bool = False
