"""What the commands and their agent say to each other over its Unix socket: one call and one answer a connection.

Each is one line of JSON. The rules are those of `wire.messages`: frozen, no unknown fields, bounded texts.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from client.profile import ClockCorrection, Ended
from wire.messages import (
    Ask,
    BackupCodes,
    Code,
    GatewayAddress,
    IpAddress,
    Label,
    Message,
    OidcBegin,
    OidcBegun,
    OidcFinish,
    OidcFinished,
    PasskeyReply,
    PasskeyWish,
    Port,
    Proof,
    ResourceView,
    SessionView,
    Text,
    UserName,
)
from wire.messages.values import LATER


class LoginCall(Message):
    """Log in; repeated with what the answer asks for. The fields are those of `LoginRequest`."""

    type: Literal["login"] = "login"
    user: UserName | None = None
    proofs: Annotated[tuple[Proof, ...], Field(max_length=4)] = ()
    step_up: bool = False


class OidcBeginCall(Message):
    """Begin a login at an identity provider."""

    type: Literal["oidc_begin"] = "oidc_begin"
    asked: OidcBegin


class OidcFinishCall(Message):
    """What the browser brought, or whether the person has agreed meanwhile."""

    type: Literal["oidc_finish"] = "oidc_finish"
    asked: OidcFinish


class PasskeyCall(Message):
    """Something about one's passkeys."""

    type: Literal["passkeys"] = "passkeys"
    wish: PasskeyWish


class StatusCall(Message):
    """How are things?"""

    type: Literal["status"] = "status"


class RouteCall(Message):
    """How do I reach this resource? `fresh` asks the controller first (after a gateway's refusal)."""

    type: Literal["route"] = "route"
    resource: Label
    port: Port | None = None
    fresh: bool = False


class LogoutCall(Message):
    """End the session, and the agent."""

    type: Literal["logout"] = "logout"


class LoginAnswer(Message):
    """What the controller said to a login."""

    type: Literal["login"] = "login"
    status: Literal["done", "more", "refused"]
    asks: tuple[Ask, ...] = ()
    backup_codes: BackupCodes = ()
    code: Code = "ok"
    sentence: Text = ""
    fix: Text = ""
    session: SessionView | None = None


class OidcBeginAnswer(Message):
    """Where the person goes."""

    type: Literal["oidc_begin"] = "oidc_begin"
    begun: OidcBegun


class OidcFinishAnswer(Message):
    """What the controller said to what came of it."""

    type: Literal["oidc_finish"] = "oidc_finish"
    finished: OidcFinished


class PasskeyAnswer(Message):
    """What the controller said to it."""

    type: Literal["passkeys"] = "passkeys"
    reply: PasskeyReply


class Notice(Message):
    """Something the controller wants of the person: a fresher or stronger proof."""

    code: Code
    sentence: Text
    fix: Text


class StatusAnswer(Message):
    """The agent's state. `problem` is what stands in the way of the controller, if anything does.

    `resuming`: there is a session, taken up from the disk, that the controller has not described yet.
    """

    type: Literal["status"] = "status"
    agent: int  # its process
    session: SessionView | None = None
    resuming: bool = False
    connected: bool = False
    problem: Text = ""
    notice: Notice | None = None
    ended: Ended | None = None
    clock_offset_us: int = 0
    renewal_due: datetime | None = None  # of the session's certificate
    renewal_problem: Text = ""  # of the device's certificate


class RouteAnswer(Message):
    """The gateways to try, in order. The keys are in the state directory; only their owner gets this far."""

    type: Literal["route"] = "route"
    session: Annotated[str, Field(max_length=36)]
    resource: ResourceView
    gateways: Annotated[tuple[GatewayAddress, ...], Field(min_length=1)]
    clock: ClockCorrection  # for the knocks there
    seen_at: IpAddress | None = None  # where the controller sees this machine


class LogoutAnswer(Message):
    """No session is here any more; `told` says whether the controller confirmed its end, None that there was none."""

    type: Literal["logout"] = "logout"
    told: bool | None


class Problem(Message):
    """The call came to nothing; `exit` is the command's exit code, `code` that of the decision, if one said no."""

    type: Literal["problem"] = "problem"
    what: Text
    fix: Text
    exit: Annotated[int, Field(ge=1, le=4)]
    code: Code | None = None


Call = Annotated[
    LoginCall | OidcBeginCall | OidcFinishCall | PasskeyCall | StatusCall | RouteCall | LogoutCall,
    Field(discriminator="type"),
]
Answer = Annotated[
    LoginAnswer
    | OidcBeginAnswer
    | OidcFinishAnswer
    | PasskeyAnswer
    | StatusAnswer
    | RouteAnswer
    | LogoutAnswer
    | Problem,
    Field(discriminator="type"),
]

call: TypeAdapter[Call] = TypeAdapter(Call, config=LATER)
answer: TypeAdapter[Answer] = TypeAdapter(Answer, config=LATER)
