"""What devices and the controller say about passkeys: a proof at login, and `POST /v1/passkeys` of a live session.

Only what differs from one passkey to the next is said. What may not differ (the relying party, that the person is
verified) is no field: each end has it from `wire.passkey`.
"""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from wire.messages.values import Blob, Code, Message, Text, Time
from wire.passkey import CHALLENGE_BYTES, HANDLE_BYTES

MAX_PASSKEYS: Final = 16
"""Passkeys of one person: their identifiers go into every request of a browser."""

CredentialId = Annotated[Blob, Field(min_length=16, max_length=1023)]  # WebAuthn section 4: 16 bytes to 1023
Challenge = Annotated[Blob, Field(min_length=CHALLENGE_BYTES, max_length=CHALLENGE_BYTES)]
Handle = Annotated[Blob, Field(min_length=HANDLE_BYTES, max_length=HANDLE_BYTES)]
ClientData = Annotated[Blob, Field(min_length=1, max_length=4_096)]
PagePort = Annotated[int, Field(ge=1_024, le=65_535)]
Transport = Annotated[str, Field(max_length=16, pattern=r"^[a-z-]+$")]
Transports = Annotated[tuple[Transport, ...], Field(max_length=8)]
_IN_A_NAME: Final = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]"
_AT_ITS_ENDS: Final = r"[^\x00-\x1f\x7f-\x9f\s]"
PasskeyName = Annotated[
    str, Field(min_length=1, max_length=64, pattern=f"^{_AT_ITS_ENDS}(?:{_IN_A_NAME}*{_AT_ITS_ENDS})?$")
]
"""What its owner calls it: one line of anything printable, without space at its ends, so that no name looks blank."""


class Credential(Message):
    """A credential a browser may ask its authenticators for."""

    id: CredentialId
    transports: Transports = ()


class PasskeyAsk(Message):
    """Controller, at login: a passkey would be accepted, over this challenge."""

    type: Literal["passkey"] = "passkey"
    challenge: Challenge
    credentials: Annotated[tuple[Credential, ...], Field(min_length=1, max_length=MAX_PASSKEYS)]


class PasskeyProof(Message):
    """Client, at login: what an authenticator signed. `port` is where the command served the page that asked."""

    type: Literal["passkey"] = "passkey"
    port: PagePort
    credential: CredentialId
    client_data: ClientData
    authenticator_data: Annotated[Blob, Field(min_length=37, max_length=2_048)]
    signature: Annotated[Blob, Field(min_length=1, max_length=1_024)]
    user_handle: Annotated[Blob | None, Field(max_length=64)] = None


class ListPasskeys(Message):
    """Client: which passkeys do I have?"""

    type: Literal["list"] = "list"


class OfferPasskey(Message):
    """Client: I want to add one."""

    type: Literal["offer"] = "offer"


class AddPasskey(Message):
    """Client: what an authenticator made for the offer."""

    type: Literal["add"] = "add"
    name: PasskeyName
    port: PagePort
    credential: CredentialId
    client_data: ClientData
    attestation: Annotated[Blob, Field(min_length=37, max_length=8_192)]
    transports: Transports = ()


class RemovePasskey(Message):
    """Client: I do not want this one any more."""

    type: Literal["remove"] = "remove"
    passkey: UUID


PasskeyWish = Annotated[ListPasskeys | OfferPasskey | AddPasskey | RemovePasskey, Field(discriminator="type")]


class PasskeyRequest(Message):
    """Sent to `POST /v1/passkeys` by the device of a live session."""

    session: UUID
    wish: PasskeyWish


class PasskeyView(Message):
    """A passkey as its owner sees it. `blocked`: its counter went back, and it is not accepted any more."""

    id: UUID
    name: Text
    created_at: Time
    last_used_at: Time | None = None
    synced: bool = False  # it may be on several machines of its owner
    blocked: bool = False


class PasskeyOffer(Message):
    """Controller: what to have an authenticator make a passkey with."""

    challenge: Challenge
    user_handle: Handle
    user: Text
    exclude: Annotated[tuple[Credential, ...], Field(max_length=MAX_PASSKEYS)] = ()


class PasskeyReply(Message):
    """The answer to a wish: the passkeys there are after it, and the offer if one was wanted."""

    status: Literal["done", "refused"]
    code: Code = "ok"
    sentence: Text = ""
    fix: Text = ""
    passkeys: Annotated[tuple[PasskeyView, ...], Field(max_length=MAX_PASSKEYS)] = ()
    offer: PasskeyOffer | None = None
    time: Time
