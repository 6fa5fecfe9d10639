"""`connect-udp` over HTTP/1.1 Upgrade (RFC 9298 §3.2, §3.3), both sides, pure: bytes in, values and bytes out.

1. The only request is `GET /.well-known/masque/udp/NAME/PORT/` with `Upgrade: connect-udp`: no query, one field each of
   Host, Connection and Upgrade, and no content.
2. The resource is named by the path alone. `%XX` is decoded once, and what comes out must be a name: nothing is left
   that a second reader could decode again. `Host` is the gateway's own and names no resource.
3. What follows the empty line are capsules. Our client sends none before the 101: an HTTP server that knows no upgrade
   would take them for its next request.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import h11

from wire.errors import LocalError
from wire.head import BadHead, HeadReader, NeedMore, read_answer, values
from wire.refusal import BadRequest, Refused, read_refusal

PREFIX: Final = b"/.well-known/masque/udp/"
TOKEN: Final = b"connect-udp"
_PATH = re.compile(rb"/\.well-known/masque/udp/([A-Za-z0-9._%-]{1,765})/([0-9]{1,5})/")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_NAME = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_FORBIDDEN: Final = (b"content-length", b"transfer-encoding", b"expect", b"trailer", b"te")
_MAX_PORT: Final = 65_535
_SWITCHING: Final = 101


@dataclass(frozen=True, slots=True)
class UdpRequest:
    """A UDP tunnel asked for: the resource's name (lower case), its port, and the capsules already here."""

    protocol: ClassVar[Literal["udp"]] = "udp"
    name: str
    port: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The gateway opened the UDP tunnel; `rest` are its first capsules if they are already here."""

    rest: bytes


def judge_upgrade(request: h11.Request, rest: bytes) -> UdpRequest | BadRequest:  # noqa: PLR0911 (one for each rule)
    """The tunnel that a GET below `PREFIX` asks for, or what is wrong with it."""
    if request.http_version != b"1.1":
        return _bad("only HTTP/1.1 is spoken here")
    for name in _FORBIDDEN:
        if values(request.headers, name):
            return _bad(f"a connect-udp has no {name.decode()}")
    for name, wanted in ((b"upgrade", TOKEN), (b"connection", b"upgrade")):
        if [value.lower() for value in values(request.headers, name)] != [wanted]:
            return _bad("a connect-udp has one Upgrade: connect-udp and one Connection: Upgrade")
    if values(request.headers, b"capsule-protocol") not in ([], [b"?1"]):
        return _bad("a connect-udp speaks the capsule protocol: Capsule-Protocol: ?1")
    path = _PATH.fullmatch(request.target)
    if path is None or not 0 < int(path[2]) <= _MAX_PORT:
        return _bad("the target must be /.well-known/masque/udp/NAME/PORT/ with a port from 1 to 65535")
    name = _PERCENT.sub(lambda pair: bytes([int(pair[1], 16)]), path[1])
    if not _NAME.fullmatch(name):  # also whatever is left of a broken escape, or of one that was escaped again
        return _bad("the target's name is not a host or resource name")
    return UdpRequest(name.decode().lower(), int(path[2]), rest)


def _bad(details: str) -> BadRequest:
    return BadRequest(400, "http_request_error", details)


def upgrade_response() -> bytes:
    """The answer that opens the UDP tunnel; capsules follow it."""
    fields = (
        b"HTTP/1.1 101 Switching Protocols",
        b"Connection: Upgrade",
        b"Upgrade: connect-udp",
        b"Capsule-Protocol: ?1",
    )
    return b"\r\n".join((*fields, b"", b""))


class UdpHandshake:
    """The client's side: send `request()`, then feed the answer until it is `Upgraded` or `Refused`.

    `authority` is the gateway's HOST:PORT. Raises LocalError for a name, port or authority no request can carry.
    """

    def __init__(self, name: str, port: int, authority: str) -> None:
        plain = name.isascii() and _NAME.fullmatch(name.encode()) and ":" not in name
        if not plain or not 0 < port <= _MAX_PORT or not _AUTHORITY.fullmatch(authority):
            raise LocalError(f"{name!r}:{port} cannot be asked for at {authority!r}")
        self._request = h11.Request(
            method="GET",
            target=PREFIX + f"{name}/{port}/".encode(),
            headers=[
                ("Host", authority),
                ("Connection", "Upgrade"),
                ("Upgrade", "connect-udp"),
                ("Capsule-Protocol", "?1"),
            ],
        )
        self._head = HeadReader()

    def request(self) -> bytes:
        """The bytes to send; capsules wait for the answer."""
        return h11.Connection(h11.CLIENT).send(self._request) or b""

    def receive(self, data: bytes) -> NeedMore | Upgraded | Refused:
        """What the answer received so far amounts to. Raises LocalError when called after an answer."""
        head = self._head.receive(data)
        if isinstance(head, NeedMore):
            return head
        answer = head if isinstance(head, BadHead) else read_answer(head.section, self._request)
        if isinstance(answer, BadHead):
            return Refused(502, "http_protocol_error", answer.details)
        if isinstance(answer, h11.Response):
            return read_refusal(answer)
        switched = [value.lower() for value in values(answer.headers, b"upgrade")] == [TOKEN]
        if answer.status_code != _SWITCHING or not switched or isinstance(head, BadHead):
            return Refused(502, "http_protocol_error", "the gateway answered, but did not switch to connect-udp")
        return Upgraded(head.rest)
