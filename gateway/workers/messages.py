"""What the main process and a worker say to each other. Both are of one build: there are no versions.

1. Unknown types and fields are refused, like everywhere (wire/messages); whoever hears one ends the conversation, and
   with it the worker.
2. A worker says only what the main process cannot know: whose tunnel it is and what was permitted is in the ledger, so
   no worker can say otherwise.
3. A packet is a MessagePack array of messages, at most `MAX_PACKET` bytes; a message is an array, its type first. A
   `Take` comes with one open file: its socket. There are a dozen messages a tunnel, so what one costs counts.
4. `tunnel` is the name the main process gave a connection when it accepted it. It stays the tunnel's in every report.
"""

from typing import Annotated, Final, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from gateway.leases import Carried, Reach, Refusal

MAX_PACKET: Final = 65_536
"""Bytes in one packet: well within the send buffer of a Unix socket (208 KiB)."""

MAX_SOCKETS: Final = 64
"""Sockets in one packet; the kernel takes 253."""

MAX_NAMED: Final = 1_000
"""Tunnels in one message: 18 KB of their names. More are several messages."""

_Text = Annotated[str, Meta(max_length=1024)]
_Code = Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9_.-]+\Z")]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Positive = Annotated[float, Meta(gt=0)]
_Seconds = Annotated[float, Meta(ge=0)]
_Tunnels = Annotated[tuple[UUID, ...], Meta(max_length=MAX_NAMED)]


class Message(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A frozen value that knows no fields but its own."""


class Start(Message, frozen=True, tag="start"):
    """Main: the first packet, alone: how this worker is to work. Its state directory is on its command line."""

    dial_seconds: _Positive
    tunnel_idle: _Seconds
    udp_idle: _Seconds
    tunnel_lifetime: _Seconds
    log_json: bool
    log_level: Annotated[str, Meta(max_length=16)]


class Take(Message, frozen=True, tag="take"):
    """Main: a connection that came through the door; its socket comes with the packet."""

    tunnel: UUID


class Permitted(Message, frozen=True, tag="permitted"):
    """Main: yes to a question."""

    tunnel: UUID
    reach: Reach


class Refused(Message, frozen=True, tag="refused"):
    """Main: no, to a question or before there was one."""

    tunnel: UUID
    refusal: Refusal


class Leave(Message, frozen=True, tag="leave"):
    """Main: the place of a connection that has asked for nothing is needed."""

    tunnel: UUID


class CutTunnels(Message, frozen=True, tag="cut"):
    """Main: end these now, then say `CutDone`. Those that are gone already count as ended."""

    number: _Count
    tunnels: _Tunnels
    code: _Code


class CountBytes(Message, frozen=True, tag="count"):
    """Main: how much went through, and what did it take? `Counted` follows."""

    number: _Count


class Reload(Message, frozen=True, tag="reload"):
    """Main: identity and trust on the disk are others now; read them for the connections to come, then `Reloaded`."""

    number: _Count


class Ready(Message, frozen=True, tag="ready"):
    """Worker: from here on connections are served, those that came before too."""


class Verified(Message, frozen=True, tag="verified"):
    """Worker: the handshake is over; the peer has the certificate of `session`."""

    tunnel: UUID
    session: UUID


class Unverified(Message, frozen=True, tag="unverified"):
    """Worker: the handshake was refused."""

    tunnel: UUID
    code: _Code
    detail: _Text


class Parked(Message, frozen=True, tag="parked"):
    """Worker: a verified connection has said nothing for a while, and stays for a while more."""

    tunnel: UUID


class Asks(Message, frozen=True, tag="asks"):
    """Worker: the peer asks for NAME:PORT, to carry bytes or datagrams."""

    tunnel: UUID
    name: _Text
    port: _Port
    protocol: Carried


class Opened(Message, frozen=True, tag="opened"):
    """Worker: bytes may flow, to the address that was dialled, over TLS with this key exchange group."""

    tunnel: UUID
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: _Port
    group: Annotated[str, Meta(max_length=64)]


class Closed(Message, frozen=True, tag="closed"):
    """Worker: an open tunnel is over; what went through it from and to the client, exactly, and how long it took.

    `dropped` datagrams were not carried.
    """

    tunnel: UUID
    bytes_up: _Count
    bytes_down: _Count
    seconds: _Seconds
    reason: _Code
    dropped: _Count


class Declined(Message, frozen=True, tag="declined"):
    """Worker: the peer was answered with a refusal, whoever's."""

    tunnel: UUID
    status: Annotated[int, Meta(ge=100, le=599)]
    code: _Code


class Ended(Message, frozen=True, tag="ended"):
    """Worker: nothing is left of a connection here. The last that is said of it."""

    tunnel: UUID


class Reloaded(Message, frozen=True, tag="reloaded"):
    """Worker: from here on handshakes begin with what is on the disk."""

    number: _Count


class CutDone(Message, frozen=True, tag="cut.done"):
    """Worker: everything that cut named is gone, both sockets closed."""

    number: _Count


class Counted(Message, frozen=True, tag="counted"):
    """Worker: bytes from and to the client and datagrams dropped, of each open tunnel; its CPU time and memory so far.

    If there are `more`, another follows.
    """

    number: _Count
    tunnels: Annotated[tuple[tuple[UUID, _Count, _Count, _Count], ...], Meta(max_length=MAX_NAMED // 2)]
    cpu_seconds: _Seconds
    memory_bytes: _Count
    more: bool


ToWorker = Take | Permitted | Refused | Leave | CutTunnels | CountBytes | Reload
Report = Opened | Closed | Declined | Unverified
"""What the controller shall hear of."""
ToMain = Ready | Verified | Parked | Asks | Report | Ended | CutDone | Counted | Reloaded

M = TypeVar("M", bound=Message)


class Reader(Generic[M]):
    """Reads packets of one direction."""

    def __init__(self, of: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[list[M]] = msgspec.msgpack.Decoder(list[of])  # type: ignore[valid-type]

    def read(self, packet: bytes) -> list[M]:
        """The messages in a packet. Raises ValueError (msgspec's DecodeError) for anything else."""
        return self._decoder.decode(packet)


to_worker: Reader[ToWorker] = Reader(ToWorker)
to_main: Reader[ToMain] = Reader(ToMain)
_starts: Reader[Start] = Reader(Start)

encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
"""One message, to be a part of a packet."""

_ARRAY_16: Final = b"\xdc"  # a MessagePack array, its length in the next two bytes


def packet_of(parts: list[bytes]) -> bytes:
    """The packet of these encoded messages, at most 65,535."""
    return b"".join((_ARRAY_16, len(parts).to_bytes(2, "big"), *parts))


def read_start(packet: bytes) -> Start:
    """The first packet. Raises ValueError."""
    (start,) = _starts.read(packet)
    return start
