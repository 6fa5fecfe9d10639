"""The CONNECT handshake of a tunnel, both sides, pure: bytes in, values and bytes out.

1. The only request is `CONNECT NAME:PORT HTTP/1.1` in authority form (RFC 9110 §9.3.6). Anything else is refused.
2. A CONNECT has no content. A request with `Content-Length`, `Transfer-Encoding`, `Expect` or `Upgrade` is refused
   whole, so no two parsers can disagree where the tunnel's bytes begin: they begin after the first empty line. Lines
   end in CRLF only, no field is folded, and `Host` must name the target.
3. The header section is bounded (`limits.MAX_CONNECT_HEADER`) before it is parsed, and it is parsed once.
4. Bytes behind the header section belong to the tunnel and come back as `rest`, never dropped.
5. Refusals carry RFC 9209 `Proxy-Status: gloam; error=…; details="…"`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import h11

from wire.errors import LocalError
from wire.limits import MAX_CONNECT_HEADER

_ALLOWED_HOST = re.compile(rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])")
_PORT = re.compile(rb"[0-9]{1,5}")
_FORBIDDEN_HEADERS: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"}
)
_TOKEN = re.compile(r"[a-z0-9_]{1,64}")
_STATUS_ERROR = re.compile(r"error=([A-Za-z0-9_]{1,64})")
_STATUS_DETAILS = re.compile(r'details="((?:[^"\\]|\\["\\]){0,1024})"')
_MAX_PORT: Final = 65_535
_REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The header section is not complete yet."""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A tunnel asked for: the resource's name (lower case), its port, and the tunnel bytes already here."""

    name: str
    port: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that is not a tunnel's: what to answer with (`refuse_response`)."""

    status: int
    error: str
    details: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway opened the tunnel; `rest` are its first bytes if they are already here."""

    rest: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway refused: HTTP status, RFC 9209 error token, and a sentence for a person."""

    status: int
    error: str
    details: str


class ServerHandshake:
    """The gateway's side: feed it bytes until it answers something other than `NeedMore`; then it is spent."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._done = False

    def receive(self, data: bytes) -> NeedMore | ConnectRequest | BadRequest:
        """What the bytes received so far amount to. Raises LocalError when called after an answer."""
        if self._done:
            raise LocalError("the CONNECT handshake is already over")
        answer = self._judge(data)
        self._done = not isinstance(answer, NeedMore)
        return answer

    def _judge(self, data: bytes) -> NeedMore | ConnectRequest | BadRequest:
        head = _split_head(self._received, data)
        if len(self._received if head is None else head) > MAX_CONNECT_HEADER:
            return BadRequest(431, "http_request_error", "the request's header section is too large")
        if head is None:
            return NeedMore()
        if problem := _line_problem(head):
            return BadRequest(400, "http_request_error", problem)
        rest = bytes(self._received[len(head) :])
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_CONNECT_HEADER)
        try:
            parser.receive_data(head)
            request = parser.next_event()
        except h11.RemoteProtocolError as error:
            return BadRequest(400, "http_request_error", _plain(str(error)))
        if not isinstance(request, h11.Request):
            return BadRequest(400, "http_request_error", "not an HTTP request")
        return _judge_request(request, rest)


def _judge_request(request: h11.Request, rest: bytes) -> ConnectRequest | BadRequest:  # noqa: PLR0911 (one for each rule)
    if request.method != b"CONNECT":
        return BadRequest(405, "http_request_denied", "only CONNECT is spoken here")
    if request.http_version != b"1.1":
        return BadRequest(400, "http_request_error", "only HTTP/1.1 is spoken here")
    for name, _ in request.headers:
        if name in _FORBIDDEN_HEADERS:
            return BadRequest(400, "http_request_error", f"a CONNECT has no {name.decode()}")
    name, colon, port = request.target.rpartition(b":")
    if not colon or not _PORT.fullmatch(port) or not 0 < int(port) <= _MAX_PORT:
        return BadRequest(400, "http_request_error", "the target must be NAME:PORT with a port from 1 to 65535")
    if not _ALLOWED_HOST.fullmatch(name):
        return BadRequest(400, "http_request_error", "the target's name is not a host or resource name")
    hosts = [value for field, value in request.headers if field == b"host"]
    if hosts[0].lower() not in {request.target.lower(), name.lower()}:
        return BadRequest(400, "http_request_error", "the Host field names something other than the target")
    return ConnectRequest(name.decode().lower(), int(port), rest)


def accept_response() -> bytes:
    """The answer that opens the tunnel; what follows it are the tunnel's bytes."""
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


def refuse_response(status: int, error: str, details: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """The whole answer that refuses a tunnel: `error` is an RFC 9209 §2.3 token, `details` a sentence for who asked.

    `headers` are further fields, such as `Allow`. Raises LocalError for a status or token that no refusal has.
    """
    if status not in _REASONS or not _TOKEN.fullmatch(error):
        raise LocalError(f"no refusal has status {status} and error {error!r}")
    details = _plain(details)
    body = f"gloam: {details}\n".encode()
    quoted = details.replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f'Proxy-Status: gloam; error={error}; details="{quoted}"',
        *(f"{name}: {value}" for name, value in headers),
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


class ClientHandshake:
    """The client's side: send `request()`, then feed the answer until it is `Accepted` or `Refused`.

    Raises LocalError for a name or port no request can carry.
    """

    def __init__(self, name: str, port: int) -> None:
        if not name.isascii() or not _ALLOWED_HOST.fullmatch(name.encode()) or not 0 < port <= _MAX_PORT:
            raise LocalError(f"{name!r}:{port} cannot be asked for")
        self._authority = f"{name}:{port}"
        self._received = bytearray()
        self._done = False

    def request(self) -> bytes:
        """The bytes to send; the tunnel's own bytes may follow at once."""
        return f"CONNECT {self._authority} HTTP/1.1\r\nHost: {self._authority}\r\n\r\n".encode()

    def receive(self, data: bytes) -> NeedMore | Accepted | Refused:
        """What the answer received so far amounts to. Raises LocalError when called after an answer."""
        if self._done:
            raise LocalError("the CONNECT handshake is already over")
        answer = self._judge(data)
        self._done = not isinstance(answer, NeedMore)
        return answer

    def _judge(self, data: bytes) -> NeedMore | Accepted | Refused:  # noqa: PLR0911 (one for each rule)
        head = _split_head(self._received, data)
        if len(self._received if head is None else head) > MAX_CONNECT_HEADER:
            return Refused(502, "http_protocol_error", "the gateway's answer is too large")
        if head is None:
            return NeedMore()
        if problem := _line_problem(head):
            return Refused(502, "http_protocol_error", problem)
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_CONNECT_HEADER)
        parser.send(h11.Request(method="CONNECT", target=self._authority, headers=[("Host", self._authority)]))
        try:
            parser.receive_data(head)
            response = parser.next_event()
        except h11.RemoteProtocolError as error:
            return Refused(502, "http_protocol_error", _plain(str(error)))
        if not isinstance(response, h11.Response):
            return Refused(
                502, "http_protocol_error", "the gateway answered with something that is no answer to CONNECT"
            )
        if 200 <= response.status_code < 300:  # noqa: PLR2004 (the class of success)
            return Accepted(bytes(self._received[len(head) :]))
        return _read_refusal(response)


def _read_refusal(response: h11.Response) -> Refused:
    status = b"".join(value for name, value in response.headers if name == b"proxy-status").decode("latin-1")
    error = _STATUS_ERROR.search(status)
    details = _STATUS_DETAILS.search(status)
    return Refused(
        response.status_code,
        error[1] if error else "http_protocol_error",
        re.sub(r"\\(.)", r"\1", details[1]) if details else "",
    )


def _split_head(received: bytearray, data: bytes) -> bytes | None:
    """Add `data` to `received`; the header section up to and with its empty line, or None while it is incomplete."""
    start = max(0, len(received) - 3)
    received += data
    end = received.find(b"\r\n\r\n", start)
    return None if end < 0 else bytes(received[: end + 4])


def _line_problem(head: bytes) -> str:
    """What is wrong with the lines of a header section that h11 would put up with; "" if nothing."""
    bare = head.replace(b"\r\n", b"")
    if b"\n" in bare or b"\r" in bare:
        return "lines must end in CRLF"
    if b"\r\n " in head or b"\r\n\t" in head:
        return "header fields may not be folded"
    return ""


def _plain(text: str) -> str:
    """`text` as one line of printable ASCII, as a quoted string of a header field needs it."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:1024]
