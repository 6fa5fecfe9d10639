"""What people change about how they prove who they are: `POST /v1/account`, a request with a device certificate.

A change needs the proofs that a login needs, given in the same way: the answer says what would be accepted next.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wire.messages.login import MOST_ASKS, MOST_PROOFS, Ask, BackupCodes, Proof, one_of_a_kind
from wire.messages.values import Code, Message, Text, Time, UserName


class NewBackupCodes(Message):
    """Ten new backup codes; those before count no more."""

    type: Literal["backup_codes"] = "backup_codes"


class NewPassword(Message):
    """Another password."""

    type: Literal["password"] = "password"
    password: Annotated[str, Field(max_length=1024, repr=False)]


class NewAuthenticator(Message):
    """Another authenticator; it takes the place of the old one once a code of it was seen."""

    type: Literal["authenticator"] = "authenticator"


class ConfirmAuthenticator(Message):
    """A code of the new authenticator, from the device that asked for it. Needs no proofs: they were given for it."""

    type: Literal["authenticator.confirm"] = "authenticator.confirm"
    code: Annotated[str, Field(max_length=16, repr=False)]


AccountChange = Annotated[
    NewBackupCodes | NewPassword | NewAuthenticator | ConfirmAuthenticator, Field(discriminator="type")
]


class AccountRequest(Message):
    """Sent to `POST /v1/account`; repeated, with more proofs, as long as the answer is `more`."""

    user: UserName | None = None  # the device's owner if not named
    proofs: Annotated[tuple[Proof, ...], Field(max_length=MOST_PROOFS)] = ()
    change: AccountChange

    @model_validator(mode="after")
    def _one_of_a_kind(self) -> Self:
        one_of_a_kind(self.proofs)
        return self


class AccountReply(Message):
    """`done`, with what the change gave; or as in a login."""

    status: Literal["done", "more", "refused"]
    asks: Annotated[tuple[Ask, ...], Field(max_length=MOST_ASKS)] = ()
    code: Code = "ok"
    sentence: Text = ""
    fix: Text = ""
    backup_codes: BackupCodes = ()
    totp_uri: Annotated[str | None, Field(max_length=1024, repr=False)] = None  # of the new authenticator
    time: Time
