"""What the main process and a worker say to each other. Both are of one build: there are no versions.

1. Unknown types and fields are refused, like everywhere (wire/messages); whoever hears one ends the conversation, and
   with it the worker.
2. A packet is a JSON array of messages, at most `MAX_PACKET` bytes. A `Take` comes with one open file: its socket.
3. `tunnel` is the name the main process gave a connection when it accepted it. It stays the tunnel's in every report.
"""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from wire.messages import Address, HandshakeRefused, Permit, TunnelClosed, TunnelOpened, TunnelRefused
from wire.messages.values import Code, Count, Message, Port, Text

MAX_PACKET: Final = 65_536
"""Bytes in one packet: well within the send buffer of a Unix socket (208 KiB)."""

MAX_SOCKETS: Final = 64
"""Sockets in one packet; the kernel takes 253."""

MAX_NAMED: Final = 1_000
"""Tunnels in one message: 39 KB of their names. More are several messages."""

_Seconds = Annotated[float, Field(gt=0)]
_SecondsOrNone = Annotated[float, Field(ge=0)]
_Tunnels = Annotated[tuple[UUID, ...], Field(max_length=MAX_NAMED)]


class Start(Message):
    """Main: the first packet, alone: how this worker is to work. Its state directory is on its command line."""

    type: Literal["start"] = "start"
    dial_seconds: _Seconds
    tunnel_idle: _SecondsOrNone
    udp_idle: _SecondsOrNone
    tunnel_lifetime: _SecondsOrNone
    log_json: bool
    log_level: Annotated[str, Field(max_length=16)]


class Take(Message):
    """Main: a connection that came through the door; its socket comes with the packet."""

    type: Literal["take"] = "take"
    tunnel: UUID
    source: Address


class Permitted(Message):
    """Main: yes to a question."""

    type: Literal["permitted"] = "permitted"
    tunnel: UUID
    permit: Permit


class Refused(Message):
    """Main: no, to a question or before there was one."""

    type: Literal["refused"] = "refused"
    tunnel: UUID
    status: Annotated[int, Field(ge=100, le=599)]
    error: Code
    code: Code
    sentence: Text
    fix: Text


class Leave(Message):
    """Main: the place of a connection that has asked for nothing is needed."""

    type: Literal["leave"] = "leave"
    tunnel: UUID


class CutTunnels(Message):
    """Main: end these now, then say `CutDone`. Those that are gone already count as ended."""

    type: Literal["cut"] = "cut"
    number: Count
    tunnels: _Tunnels
    code: Code


class CountBytes(Message):
    """Main: how much went through, and what did it take? `Counted` follows."""

    type: Literal["count"] = "count"
    number: Count


class Reload(Message):
    """Main: identity and trust on the disk are others now; read them for the connections to come, then `Reloaded`."""

    type: Literal["reload"] = "reload"
    number: Count


class Ready(Message):
    """Worker: from here on connections are served, those that came before too."""

    type: Literal["ready"] = "ready"


class Verified(Message):
    """Worker: the handshake is over; the peer has the certificate of `session`."""

    type: Literal["verified"] = "verified"
    tunnel: UUID
    session: UUID


class Parked(Message):
    """Worker: a verified connection has said nothing for a while, and stays for a while more."""

    type: Literal["parked"] = "parked"
    tunnel: UUID


class Asks(Message):
    """Worker: the peer asks for NAME:PORT, to carry bytes or datagrams."""

    type: Literal["asks"] = "asks"
    tunnel: UUID
    name: Text
    port: Port
    protocol: Literal["tcp", "udp"]


class Told(Message):
    """Worker: something the controller shall hear of."""

    type: Literal["told"] = "told"
    report: Annotated[TunnelOpened | TunnelClosed | TunnelRefused | HandshakeRefused, Field(discriminator="type")]


class Ended(Message):
    """Worker: nothing is left of a connection here. The last that is said of it."""

    type: Literal["ended"] = "ended"
    tunnel: UUID


class Reloaded(Message):
    """Worker: from here on handshakes begin with what is on the disk."""

    type: Literal["reloaded"] = "reloaded"
    number: Count


class CutDone(Message):
    """Worker: everything that cut named is gone, both sockets closed."""

    type: Literal["cut.done"] = "cut.done"
    number: Count


class Counted(Message):
    """Worker: bytes from and to the client and datagrams dropped, of each open tunnel; its CPU time and memory so far.

    If there are `more`, another follows.
    """

    type: Literal["counted"] = "counted"
    number: Count
    tunnels: Annotated[tuple[tuple[UUID, Count, Count, Count], ...], Field(max_length=MAX_NAMED // 2)]
    cpu_seconds: Annotated[float, Field(ge=0)]
    memory_bytes: Count
    more: bool


ToWorker = Annotated[Take | Permitted | Refused | Leave | CutTunnels | CountBytes | Reload, Field(discriminator="type")]
ToMain = Annotated[
    Ready | Verified | Parked | Asks | Told | Ended | CutDone | Counted | Reloaded,
    Field(discriminator="type"),
]

to_worker: TypeAdapter[list[ToWorker]] = TypeAdapter(list[ToWorker])
to_main: TypeAdapter[list[ToMain]] = TypeAdapter(list[ToMain])
