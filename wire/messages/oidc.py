"""What a device and the controller say about a login at an OpenID provider: `POST /v1/oidc/begin` and `/finish`.

The login itself is `POST /v1/login` with the proof `oidc`, which names what was proved here.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from wire.messages.values import Code, Label, Message, Port, Text, Time

Url = Annotated[str, Field(min_length=1, max_length=8_192)]
Opaque = Annotated[str, Field(min_length=1, max_length=4_096)]
"""What a provider made: an authorization code, a state of ours that came back."""


class OidcBegin(Message):
    """Client: I want to log in at this provider (the only one, if none is named).

    With the `port` of 127.0.0.1 where the browser will be sent back to; without, by the device flow. `fresh`: the
    person is to log in there anew, whatever the provider remembers of them.
    """

    provider: Label | None = None
    port: Port | None = None
    fresh: bool = False


class OidcBegun(Message):
    """Controller: send the person to `url`; to the device flow belong what to type there and how often to ask."""

    login: UUID
    provider: Label
    url: Annotated[Url, Field(repr=False)]
    page: Url | None = None  # the device flow's page without the code in it
    user_code: Annotated[str, Field(max_length=64)] | None = None
    state: Annotated[str | None, Field(max_length=64, repr=False)] = None  # what the redirect must carry
    interval_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0
    expires_at: Time
    time: Time


class OidcFinish(Message):
    """Client: what the redirect brought (`code` or `error`), or nothing: has the person agreed meanwhile?

    `stray`: a redirect came with another state. It was refused here, and the login goes on; the audit log is to know.
    """

    login: UUID
    code: Annotated[Opaque | None, Field(repr=False)] = None
    state: Annotated[Opaque | None, Field(repr=False)] = None
    issuer: Annotated[str, Field(max_length=2_048)] | None = None
    error: Annotated[str, Field(max_length=64)] | None = None
    stray: bool = False


class OidcFinished(Message):
    """Controller: proved (now log in with it), not yet, or no."""

    status: Literal["proved", "pending", "refused"]
    code: Code = "ok"
    sentence: Text = ""
    fix: Text = ""
    interval_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0
    time: Time
