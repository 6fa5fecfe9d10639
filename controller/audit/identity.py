"""Events of people proving who they are: logins, and what they prove it by."""

from typing import Literal
from uuid import UUID

from controller.audit.event import Count, Event, Ocsf, Text, Texts


class LoginSucceeded(Event):
    """A person proved who they are."""

    ocsf = Ocsf.AUTHENTICATION
    activity = 1
    kind: Literal["login.succeeded"] = "login.succeeded"
    user: Text
    device: UUID
    source: Text
    session: UUID | None = None
    methods: Texts = ()  # what they proved it by


class LoginRefused(Event):
    """A login that failed; `code` is the true reason, which the person is not told."""

    ocsf = Ocsf.AUTHENTICATION
    activity = 1
    failure = True
    kind: Literal["login.refused"] = "login.refused"
    user: Text
    device: UUID | None
    source: Text
    code: Text
    detail: Text = ""


class AccountChangeRefused(Event):
    """A person could not change how they prove who they are; `code` is the true reason."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    failure = True
    kind: Literal["account.change_refused"] = "account.change_refused"
    user: Text
    device: UUID | None
    source: Text
    what: Text
    code: Text


class TotpEnrolled(Event):
    """A person's authenticator was confirmed."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    activity = 10
    kind: Literal["totp.enrolled"] = "totp.enrolled"
    user: Text
    device: UUID | None = None
    source: Text = ""


class TotpOffered(Event):
    """A person was shown a new authenticator; a code of it puts it in the place of the old one."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    activity = 10
    kind: Literal["totp.offered"] = "totp.offered"
    user: Text
    device: UUID | None = None
    source: Text = ""


class TotpReplaced(Event):
    """A person put a new authenticator in the place of the old one."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    activity = 10
    kind: Literal["totp.replaced"] = "totp.replaced"
    user: Text
    device: UUID | None = None
    source: Text = ""


class BackupCodesMade(Event):
    """A person got new backup codes; those before count no more."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    activity = 10
    kind: Literal["backup_codes.made"] = "backup_codes.made"
    user: Text
    count: Count


class BackupCodeUsed(Event):
    """A backup code stood in for an authenticator; `left` are left."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    kind: Literal["backup_code.used"] = "backup_code.used"
    user: Text
    device: UUID | None = None
    source: Text = ""
    left: Count


class PasswordChanged(Event):
    """A person changed their password."""

    ocsf = Ocsf.ACCOUNT_CHANGE
    activity = 3
    kind: Literal["password.changed"] = "password.changed"
    user: Text
    device: UUID | None = None
    source: Text = ""
