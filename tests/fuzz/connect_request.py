"""Fuzz target: what a client sends to ask for a tunnel, TCP or UDP.

The first three bytes say in which pieces it arrives.
"""

from collections.abc import Iterator
from typing import Final

from tests.fuzz.target import Reached, Target, pieces
from wire.connect import (
    BadRequest,
    ClientHandshake,
    ConnectRequest,
    NeedMore,
    Refused,
    ServerHandshake,
    UdpHandshake,
    UdpRequest,
    refuse_response,
)
from wire.limits import MAX_CONNECT_HEADER

CUTS: Final = 3
LONGEST_REFUSAL: Final = 2 * MAX_CONNECT_HEADER


def check(data: bytes, reached: Reached) -> None:
    cuts, sent = data[:CUTS], data[CUTS:]
    answer = ServerHandshake().receive(sent)
    handshake, arrived, left = ServerHandshake(), NeedMore(), pieces(sent, cuts)
    while left and isinstance(arrived, NeedMore):
        arrived = handshake.receive(left.pop(0))
    match answer:
        case NeedMore():
            assert len(sent) <= MAX_CONNECT_HEADER, "what is kept has no bound"
            assert arrived == answer
        case BadRequest(status, error, details):
            reached(details.partition("'")[0][:40])  # h11 repeats what it refuses
            assert arrived == answer, "the answer depends on how the bytes arrive"
            said = refuse_response(status, error, details)
            assert len(said) <= LONGEST_REFUSAL
            assert ClientHandshake("wiki", 80).receive(said) == Refused(status, error, details)
        case ConnectRequest(name, port, rest) | UdpRequest(name, port, rest):
            assert isinstance(arrived, type(answer))
            assert (arrived.name, arrived.port) == (name, port)
            assert arrived.rest + b"".join(left) == rest, "a byte of the tunnel was lost"
            assert sent.endswith(b"\r\n\r\n" + rest)
            # What was understood can be said again, and then means the same.
            assert ServerHandshake().receive(said_again(answer)) == type(answer)(name, port, b"")


def said_again(request: ConnectRequest | UdpRequest) -> bytes:
    if isinstance(request, ConnectRequest):
        return ClientHandshake(request.name, request.port).request()
    name = request.name.replace(":", "%3a")  # our own client asks for names alone
    plain = UdpHandshake("dns", request.port, "[::1]:443").request()
    return plain.replace(b"/dns/", f"/{name}/".encode(), 1)


def seeds() -> Iterator[bytes]:
    for request in (
        ClientHandshake("wiki", 80).request(),
        ClientHandshake("[2001:db8::1]", 443).request() + b"\x16\x03\x01\r\n\r\n",
        b"CONNECT wiki:22 HTTP/1.1\r\nHost: wiki:22\r\nUser-Agent: curl\r\nProxy-Connection: Keep-Alive\r\n\r\n",
        UdpHandshake("dns", 53, "192.0.2.1:443").request() + b"\x00\x04\x00abc",
        UdpHandshake("dns", 53, "gw.example.test").request().replace(b"/dns/", b"/%64ns/"),
        b"GET / HTTP/1.1\r\nHost: wiki\r\n\r\n",
        b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nX: " + b"x" * MAX_CONNECT_HEADER,
    ):
        for cuts in (bytes(CUTS), b"\x01\x01\x01", b"\x07\x00\x0b"):
            yield cuts + request


WORDS: Final = (
    b"CONNECT ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n\r\n", b"\r\n", b"\n\n", b"\r\n ", b"Host: ", b"host:",
    b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: connect-udp",
    b"Connection: Upgrade",
    b"GET ", b"/.well-known/masque/udp/", b"%64", b"Capsule-Protocol: ?1",
    b"Upgrade: websocket", b"Trailer: a",
    b"TE: trailers", b"wiki:80", b"[::1]:1", b":65536", b"http://", b"%00", b"\x00", b"\x80", b"@",
)  # fmt: skip

TARGET: Final = Target(check, seeds, longest=MAX_CONNECT_HEADER + 256, words=WORDS)
