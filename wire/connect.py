"""Asking for a tunnel, both sides, pure: bytes in, values and bytes out.

1. The only requests are `CONNECT NAME:PORT HTTP/1.1` in authority form (RFC 9110 §9.3.6) and `connect-udp`
   (`connect_udp.py`). Anything else is refused.
2. A CONNECT has no content. A request with `Content-Length`, `Transfer-Encoding`, `Expect` or `Upgrade` is refused
   whole, so no two parsers can disagree where the tunnel's bytes begin: they begin after the first empty line. `Host`
   must name the target.
3. The header section is bounded before it is parsed, it is parsed once, and bytes behind it come back as `rest`
   (`head.py`).
4. Refusals carry RFC 9209 `Proxy-Status: gloam; error=…; details="…"` (`refusal.py`).
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import h11

from wire.connect_udp import PREFIX, UdpHandshake, UdpRequest, Upgraded, judge_upgrade, upgrade_response
from wire.errors import LocalError
from wire.head import BadHead, HeadReader, NeedMore, read_answer, read_request, values
from wire.refusal import BadRequest, Refused, read_refusal, refuse_response

__all__ = [
    "Accepted",
    "BadRequest",
    "ClientHandshake",
    "ConnectRequest",
    "NeedMore",
    "Refused",
    "ServerHandshake",
    "UdpHandshake",
    "UdpRequest",
    "Upgraded",
    "accept_response",
    "refuse_response",
    "upgrade_response",
]

_ALLOWED_HOST = re.compile(rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])")
_PORT = re.compile(rb"[0-9]{1,5}")
_FORBIDDEN_HEADERS: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"}
)
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A tunnel asked for: the resource's name (lower case), its port, and the tunnel bytes already here."""

    protocol: ClassVar[Literal["tcp"]] = "tcp"
    name: str
    port: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway opened the tunnel; `rest` are its first bytes if they are already here."""

    rest: bytes


class ServerHandshake:
    """The gateway's side: feed it bytes until it answers something other than `NeedMore`; then it is spent."""

    def __init__(self) -> None:
        self._head = HeadReader()

    def receive(self, data: bytes) -> NeedMore | ConnectRequest | UdpRequest | BadRequest:
        """What the bytes received so far amount to. Raises LocalError when called after an answer."""
        head = self._head.receive(data)
        if isinstance(head, NeedMore):
            return head
        if isinstance(head, BadHead):
            return BadRequest(head.status, "http_request_error", head.details)
        request = read_request(head.section)
        if isinstance(request, BadHead):
            return BadRequest(request.status, "http_request_error", request.details)
        if request.method == b"GET" and request.target.startswith(PREFIX):
            return judge_upgrade(request, head.rest)
        return _judge_connect(request, head.rest)


def _judge_connect(request: h11.Request, rest: bytes) -> ConnectRequest | BadRequest:  # noqa: PLR0911 (one for each rule)
    if request.method != b"CONNECT":
        return BadRequest(405, "http_request_denied", "only CONNECT and connect-udp are spoken here")
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
    hosts = values(request.headers, b"host")
    if hosts[0].lower() not in {request.target.lower(), name.lower()}:
        return BadRequest(400, "http_request_error", "the Host field names something other than the target")
    return ConnectRequest(name.decode().lower(), int(port), rest)


def accept_response() -> bytes:
    """The answer that opens the tunnel; what follows it are the tunnel's bytes."""
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


class ClientHandshake:
    """The client's side: send `request()`, then feed the answer until it is `Accepted` or `Refused`.

    Raises LocalError for a name or port no request can carry.
    """

    def __init__(self, name: str, port: int) -> None:
        if not name.isascii() or not _ALLOWED_HOST.fullmatch(name.encode()) or not 0 < port <= _MAX_PORT:
            raise LocalError(f"{name!r}:{port} cannot be asked for")
        self._authority = f"{name}:{port}"
        self._head = HeadReader()

    def request(self) -> bytes:
        """The bytes to send; the tunnel's own bytes may follow at once."""
        return f"CONNECT {self._authority} HTTP/1.1\r\nHost: {self._authority}\r\n\r\n".encode()

    def receive(self, data: bytes) -> NeedMore | Accepted | Refused:
        """What the answer received so far amounts to. Raises LocalError when called after an answer."""
        head = self._head.receive(data)
        if isinstance(head, NeedMore):
            return head
        if isinstance(head, BadHead):
            return Refused(502, "http_protocol_error", head.details)
        asked = h11.Request(method="CONNECT", target=self._authority, headers=[("Host", self._authority)])
        answer = read_answer(head.section, asked)
        if isinstance(answer, BadHead):
            return Refused(502, "http_protocol_error", answer.details)
        if isinstance(answer, h11.InformationalResponse):
            return Refused(
                502, "http_protocol_error", "the gateway answered with something that is no answer to CONNECT"
            )
        if 200 <= answer.status_code < 300:  # noqa: PLR2004 (the class of success)
            return Accepted(head.rest)
        return read_refusal(answer)
