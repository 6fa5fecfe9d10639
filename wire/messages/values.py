"""What messages are made of, and how text becomes one of them.

1. Unknown types and unknown fields are refused (`extra="forbid"`): the caller closes the connection and audits it.
2. Everything is JSON text. Bytes travel as unpadded base64url, times as aware ISO 8601 UTC, identifiers as UUID text.
   There is one type for each thing: no number in a string, no truth for a number, no seconds for a time.
3. Text from a peer is bounded in length here, before any role looks at it; what is wrong is told in one printable line
   without the value.
4. A time that was read can be reckoned with: it is in UTC and far from both ends of the calendar.
"""

import base64
import binascii
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Final, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
)
from pydantic import ValidationError as PydanticValidationError

from console.address import plain_host
from wire.errors import RemoteError

NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
USER = r"^[a-z0-9]([a-z0-9._@-]{0,62}[a-z0-9])?$"
YEARS: Final = range(1970, 9000)
"""Python's calendar ends in 9999, and a time near its ends can neither be moved to another zone nor added to."""


def _bytes_from_text(value: object) -> object:
    if isinstance(value, str):
        try:
            return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("not base64url") from error
    return value


def _an_address(text: str) -> str:
    if str(ip_address(text)) != text or plain_host(text) != text:
        raise ValueError("not an address in its plain spelling")
    return text


def _text_from_bytes(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _in_utc(value: datetime) -> datetime:
    if value.year not in YEARS:
        raise ValueError(f"not a year from {YEARS.start} to {YEARS.stop - 1}")
    return value.astimezone(UTC)


Blob = Annotated[bytes, BeforeValidator(_bytes_from_text), PlainSerializer(_text_from_bytes, when_used="json")]
Key64 = Annotated[Blob, Field(min_length=64, max_length=64)]
Hash32 = Annotated[Blob, Field(min_length=32, max_length=32)]
Label = Annotated[str, Field(pattern=NAME)]
UserName = Annotated[str, Field(pattern=USER)]
Port = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, Field(max_length=1024)]
Code = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_.-]+$")]
Pem = Annotated[str, Field(max_length=32_768)]
CsrPem = Annotated[str, Field(max_length=8_192)]
Host = Annotated[str, Field(min_length=1, max_length=253)]
IpAddress = Annotated[str, AfterValidator(_an_address)]
"""An IPv4 or IPv6 address in its one spelling: no interface, no IPv4 address written as IPv6."""

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""How many: what every database and every reader of an export can hold."""
Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]


LATER: Final = ConfigDict(defer_build=True)
"""For the adapters of messages: their validators are built when the first message is read, not when a command starts
that may read none. Building all of them takes longer than all else that most commands do."""


class Message(BaseModel):
    """A frozen value that knows no fields but its own."""

    # JSON has no infinity and no NaN (RFC 8259 section 6): Python's parser takes them, and no reader could after us.
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )


class Address(Message):
    """A host and a port somebody can be reached at."""

    host: Host
    port: Port


class ControllerAddress(Message):
    """A controller as invites and clients know it."""

    name: Label
    tls: Address
    knock: Address


class GatewayAddress(Message):
    """A gateway as clients know it."""

    name: Label
    tls: Address
    knock: Address


T = TypeVar("T")
M = TypeVar("M", bound=Message)


def decode(adapter: TypeAdapter[T], text: str | bytes) -> T:
    """The message in `text`, for `from_client`, `to_client`, `from_gateway`, `to_gateway`. Raises RemoteError."""
    try:
        return adapter.validate_json(text, strict=True)
    except PydanticValidationError as error:
        raise RemoteError(_first_problem(error)) from None


def parse(model: type[M], text: str | bytes) -> M:
    """The one message `model` in `text` (an HTTP body). Raises RemoteError."""
    try:
        return model.model_validate_json(text, strict=True)
    except PydanticValidationError as error:
        raise RemoteError(_first_problem(error)) from None


def _first_problem(error: PydanticValidationError) -> str:
    """Where and what, never the value: it may be a password. Names of unknown fields are the peer's own text."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "message"
    what = "no such type" if first["type"] == "union_tag_invalid" else first["msg"]
    return "".join(char if " " <= char <= "~" else "?" for char in f"{where[:128]}: {what[:128]}")
