"""How a gateway refuses a tunnel: an HTTP answer with RFC 9209 `Proxy-Status: gloam; error=…; details="…"`, pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import h11

from wire.errors import LocalError
from wire.head import plain, values

_TOKEN = re.compile(r"[a-z0-9_]{1,64}")
_STATUS_ERROR = re.compile(r"error=([A-Za-z0-9_]{1,64})")
_STATUS_DETAILS = re.compile(r'details="((?:[^"\\]|\\["\\]){0,1024})"')
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
class BadRequest:
    """A request that is not a tunnel's: what to answer with (`refuse_response`)."""

    status: int
    error: str
    details: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway refused: HTTP status, RFC 9209 error token, and a sentence for a person."""

    status: int
    error: str
    details: str


def refuse_response(status: int, error: str, details: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """The whole answer that refuses a tunnel: `error` is an RFC 9209 §2.3 token, `details` a sentence for who asked.

    `headers` are further fields, such as `Allow`. Raises LocalError for a status or token that no refusal has.
    """
    if status not in _REASONS or not _TOKEN.fullmatch(error):
        raise LocalError(f"no refusal has status {status} and error {error!r}")
    details = plain(details)
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


def read_refusal(response: h11.Response | h11.InformationalResponse) -> Refused:
    """Why, from an answer that opens no tunnel."""
    status = b"".join(values(response.headers, b"proxy-status")).decode("latin-1")
    error = _STATUS_ERROR.search(status)
    details = _STATUS_DETAILS.search(status)
    return Refused(
        response.status_code,
        error[1] if error else "http_protocol_error",
        re.sub(r"\\(.)", r"\1", details[1]) if details else "",
    )
