"""Fuzz target: what a gateway answers to a tunnel asked for, TCP or UDP.

The first three bytes say in which pieces it arrives.
"""

from collections.abc import Iterator
from typing import Final

from tests.fuzz.target import Reached, Target, pieces
from wire.connect import (
    Accepted,
    ClientHandshake,
    NeedMore,
    Refused,
    UdpHandshake,
    Upgraded,
    accept_response,
    refuse_response,
    upgrade_response,
)
from wire.limits import MAX_CONNECT_HEADER

CUTS: Final = 3
LONGEST_DETAILS: Final = 1024
Handshake = ClientHandshake | UdpHandshake


def check(data: bytes, reached: Reached) -> None:
    answered(ClientHandshake("wiki", 80), ClientHandshake("wiki", 80), data, reached)
    asked, again = (UdpHandshake("dns", 53, "192.0.2.1:443") for _ in range(2))
    answered(asked, again, data, reached)


def answered(whole: Handshake, handshake: Handshake, data: bytes, reached: Reached) -> None:
    """`whole` gets the answer in one piece, `handshake` in several."""
    cuts, sent = data[:CUTS], data[CUTS:]
    answer, arrived, left = whole.receive(sent), NeedMore(), pieces(sent, cuts)
    while left and isinstance(arrived, NeedMore):
        arrived = handshake.receive(left.pop(0))
    match answer:
        case NeedMore():
            assert len(sent) <= MAX_CONNECT_HEADER, "what is kept has no bound"
            assert arrived == answer
        case Refused(status, error, details):
            reached(f"{status // 100} {details.partition(chr(39))[0][:40] if status == 502 else ''}")
            assert arrived == answer, "the answer depends on how the bytes arrive"
            assert 200 <= status <= 999
            assert error.isascii()
            assert 0 < len(error) <= 64
            assert len(details) <= LONGEST_DETAILS
        case Accepted(rest) | Upgraded(rest):
            reached(type(answer).__name__)
            assert isinstance(arrived, type(answer))
            assert arrived.rest + b"".join(left) == rest, "a byte of the tunnel was lost"
            assert sent.endswith(b"\r\n\r\n" + rest)
            assert sent.startswith(b"HTTP/1.1 101" if isinstance(answer, Upgraded) else b"HTTP/1.1 2")


def seeds() -> Iterator[bytes]:
    for answer in (
        upgrade_response() + b"\x00\x04\x00abc",
        accept_response() + b"SSH-2.0-gloam\r\n",
        refuse_response(403, "http_request_denied", 'no grant covers "wiki"; ask for \\ access', [("X-Trace", "1")]),
        refuse_response(504, "connection_timeout", ""),
        b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 403 No\r\nX: " + b"x" * MAX_CONNECT_HEADER,
    ):
        for cuts in (bytes(CUTS), b"\x01\x01\x01", b"\x07\x00\x0b"):
            yield cuts + answer


WORDS: Final = (
    b"HTTP/1.1 ", b"HTTP/1.0 ", b"200 ", b"101 ", b"403 ", b"502 ", b"\r\n\r\n", b"\r\n", b"\n\n", b"\r\n ",
    b"Proxy-Status: gloam; error=", b'; details="', b'\\"', b"\\", b"Content-Length: 0", b"Transfer-Encoding: chunked",
    b"Connection: close", b"\x00", b"\x80",
)  # fmt: skip

TARGET: Final = Target(check, seeds, longest=MAX_CONNECT_HEADER + 256, words=WORDS)
