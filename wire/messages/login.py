"""Login as a conversation: proofs in, and either a session, or what would be accepted next, or a refusal.

1. Every request holds all proofs so far: the controller keeps nothing between two requests but its own challenges.
2. There is one proof of a kind in a request: each counts as one guess.
3. Proofs and asks are unions tagged by `type`. A new method adds one class to each, here, and nothing else on the wire.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from wire.messages.passkey import PasskeyAsk, PasskeyProof
from wire.messages.session import SessionView
from wire.messages.values import Code, CsrPem, Message, Pem, Text, Time, UserName

MOST_PROOFS: Final = 4  # a login takes two; the others are room for methods that need a step more
MOST_ASKS: Final = 8  # one of each kind


class PasswordProof(Message):
    """What the person knows."""

    type: Literal["password"] = "password"
    password: Annotated[str, Field(max_length=1024, repr=False)]


class OtpProof(Message):
    """The code an authenticator shows now; the first one confirms an authenticator that was just set up."""

    type: Literal["otp"] = "otp"
    code: Annotated[str, Field(max_length=16, repr=False)]


class BackupCodeProof(Message):
    """One of the codes that were shown once, for when the authenticator is out of reach."""

    type: Literal["backup_code"] = "backup_code"
    code: Annotated[str, Field(max_length=32, repr=False)]


class OidcProof(Message):
    """What an OpenID provider said of the person: the login that `/v1/oidc/finish` called proved (oidc.py)."""

    type: Literal["oidc"] = "oidc"
    login: UUID


Proof = Annotated[PasswordProof | OtpProof | BackupCodeProof | PasskeyProof | OidcProof, Field(discriminator="type")]


class PasswordAsk(Message):
    """A password would be accepted."""

    type: Literal["password"] = "password"


class OtpAsk(Message):
    """A code of the authenticator would be accepted."""

    type: Literal["otp"] = "otp"


class TotpEnrolmentAsk(Message):
    """No authenticator is set up yet: a code of this one would be accepted, and confirm it."""

    type: Literal["totp_enrolment"] = "totp_enrolment"
    uri: Annotated[str, Field(max_length=1024, repr=False)]  # otpauth://, with the secret


class BackupCodeAsk(Message):
    """A backup code would be accepted."""

    type: Literal["backup_code"] = "backup_code"


Ask = Annotated[PasswordAsk | OtpAsk | TotpEnrolmentAsk | BackupCodeAsk | PasskeyAsk, Field(discriminator="type")]


def one_of_a_kind(proofs: Sequence[Proof]) -> None:
    """Raises ValueError if two proofs are of one kind (law 2)."""
    if len({proof.type for proof in proofs}) < len(proofs):
        raise ValueError("two proofs of one kind")


BackupCodes = Annotated[tuple[Annotated[str, Field(max_length=32)], ...], Field(max_length=10, repr=False)]
"""Shown once, when they are made."""


class LoginRequest(Message):
    """Sent to `POST /v1/login`; repeated, with more proofs, as long as the answer is `more`."""

    user: UserName | None = None  # the device's owner if not named
    proofs: Annotated[tuple[Proof, ...], Field(max_length=MOST_PROOFS)] = ()
    step_up: bool = False  # a fresh proof for the device's live session instead of a new one
    csr: CsrPem = ""  # of the session key; a step-up needs none

    @model_validator(mode="after")
    def _whole(self) -> Self:
        one_of_a_kind(self.proofs)
        if not (self.csr or self.step_up):
            raise ValueError("a login names the key its session shall have")
        return self


class LoginReply(Message):
    """`status` says what happened: `done` has a session, `more` has what would be accepted next."""

    status: Literal["done", "more", "refused"]
    asks: Annotated[tuple[Ask, ...], Field(max_length=MOST_ASKS)] = ()
    code: Code = "ok"
    sentence: Text = ""
    fix: Text = ""
    session: SessionView | None = None
    trust: Pem = ""  # with a session: whom to trust now
    backup_codes: BackupCodes = ()  # where an authenticator was set up just now
    time: Time
