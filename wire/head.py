"""The header section of a request for a tunnel, or of its answer: bounded, whole, and read once; pure.

1. It is bounded (`limits.MAX_CONNECT_HEADER`) before it is parsed, and h11 parses it once.
2. Lines end in CRLF only and no field is folded, so no two parsers can disagree where it ends.
3. Bytes behind it belong to the tunnel and come back as `rest`, never dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import h11

from wire.errors import LocalError
from wire.limits import MAX_CONNECT_HEADER

_PLAIN: Final = 1024


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The header section is not complete yet."""


@dataclass(frozen=True, slots=True)
class Head:
    """A header section with its empty line, and what came behind it."""

    section: bytes
    rest: bytes


@dataclass(frozen=True, slots=True)
class BadHead:
    """A header section that is refused: 431 if it is too large, else 400, and why."""

    status: int
    details: str


class HeadReader:
    """Feed it bytes until it answers something other than `NeedMore`; then it is spent."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._done = False

    def receive(self, data: bytes) -> NeedMore | Head | BadHead:
        """What the bytes received so far amount to. Raises LocalError when called after an answer."""
        if self._done:
            raise LocalError("the header section is already over")
        answer = self._judge(data)
        self._done = not isinstance(answer, NeedMore)
        return answer

    def _judge(self, data: bytes) -> NeedMore | Head | BadHead:
        start = max(0, len(self._received) - 3)
        self._received += data
        end = self._received.find(b"\r\n\r\n", start) + 4
        if (len(self._received) if end < 4 else end) > MAX_CONNECT_HEADER:  # noqa: PLR2004 (the empty line was found)
            return BadHead(431, "the header section is too large")
        if end < 4:  # noqa: PLR2004 (as above)
            return NeedMore()
        section = bytes(self._received[:end])
        if problem := _line_problem(section):
            return BadHead(400, problem)
        return Head(section, bytes(self._received[end:]))


def read_request(section: bytes) -> h11.Request | BadHead:
    """The request in a header section."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_CONNECT_HEADER)
    try:
        parser.receive_data(section)
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        return BadHead(400, plain(str(error)))
    return request if isinstance(request, h11.Request) else BadHead(400, "not an HTTP request")


def read_answer(section: bytes, request: h11.Request) -> h11.Response | h11.InformationalResponse | BadHead:
    """The answer to `request` in a header section."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_CONNECT_HEADER)
    parser.send(request)
    try:
        parser.receive_data(section)
        answer = parser.next_event()
    except h11.RemoteProtocolError as error:
        return BadHead(400, plain(str(error)))
    if not isinstance(answer, h11.Response | h11.InformationalResponse):
        return BadHead(400, "the gateway answered with something that is no answer to a request")
    if answer.http_version != b"1.1":  # h11 takes any digits
        return BadHead(400, "the gateway does not speak HTTP/1.1")
    return answer


def values(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of every field of that name (lower case), in order."""
    return [value for field, value in headers if field == name]


def plain(text: str) -> str:
    """`text` as one line of printable ASCII, as a quoted string of a header field needs it."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:_PLAIN]


def _line_problem(section: bytes) -> str:
    """What is wrong with the lines of a header section that h11 would put up with; "" if nothing."""
    bare = section.replace(b"\r\n", b"")
    if b"\n" in bare or b"\r" in bare:
        return "lines must end in CRLF"
    if b"\r\n " in section or b"\r\n\t" in section:
        return "header fields may not be folded"
    return ""
