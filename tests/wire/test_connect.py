from itertools import pairwise

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wire.connect import (
    Accepted,
    BadRequest,
    ClientHandshake,
    ConnectRequest,
    NeedMore,
    Refused,
    ServerHandshake,
    accept_response,
    refuse_response,
)
from wire.errors import LocalError
from wire.limits import MAX_CONNECT_HEADER

GOOD = b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\n\r\n"


def ask(data: bytes) -> NeedMore | ConnectRequest | BadRequest:
    return ServerHandshake().receive(data)


@pytest.mark.parametrize(
    ("data", "name", "port", "rest"),
    [
        (GOOD, "wiki", 80, b""),
        (GOOD + b"\x16\x03\x01\r\n\r\n", "wiki", 80, b"\x16\x03\x01\r\n\r\n"),
        (b"CONNECT Wiki.Example:65535 HTTP/1.1\r\nHost: wiki.example:65535\r\n\r\n", "wiki.example", 65535, b""),
        (b"CONNECT wiki:1 HTTP/1.1\r\nHost: wiki\r\n\r\n", "wiki", 1, b""),
        (b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n", "[2001:db8::1]", 443, b""),
        (
            b"CONNECT wiki:22 HTTP/1.1\r\nHost: wiki:22\r\nUser-Agent: curl\r\nProxy-Connection: Keep-Alive\r\n\r\n",
            "wiki",
            22,
            b"",
        ),
    ],
)
def test_a_connect_in_authority_form_is_a_tunnel_asked_for(data: bytes, name: str, port: int, rest: bytes) -> None:
    assert ask(data) == ConnectRequest(name, port, rest)


REFUSED = {
    "not CONNECT": (b"GET / HTTP/1.1\r\nHost: wiki\r\n\r\n", 405),
    "lower-case method": (b"connect wiki:80 HTTP/1.1\r\nHost: wiki:80\r\n\r\n", 405),
    "HTTP/1.0": (b"CONNECT wiki:80 HTTP/1.0\r\nHost: wiki:80\r\n\r\n", 400),
    "HTTP/2.0": (b"CONNECT wiki:80 HTTP/2.0\r\nHost: wiki:80\r\n\r\n", 400),
    "no version": (b"CONNECT wiki:80\r\nHost: wiki:80\r\n\r\n", 400),
    "absolute form": (b"CONNECT http://wiki:80/ HTTP/1.1\r\nHost: wiki:80\r\n\r\n", 400),
    "origin form": (b"CONNECT /wiki:80 HTTP/1.1\r\nHost: wiki:80\r\n\r\n", 400),
    "asterisk form": (b"CONNECT * HTTP/1.1\r\nHost: wiki:80\r\n\r\n", 400),
    "userinfo": (b"CONNECT root@wiki:80 HTTP/1.1\r\nHost: root@wiki:80\r\n\r\n", 400),
    "no port": (b"CONNECT wiki HTTP/1.1\r\nHost: wiki\r\n\r\n", 400),
    "empty port": (b"CONNECT wiki: HTTP/1.1\r\nHost: wiki\r\n\r\n", 400),
    "port zero": (b"CONNECT wiki:0 HTTP/1.1\r\nHost: wiki:0\r\n\r\n", 400),
    "port too large": (b"CONNECT wiki:65536 HTTP/1.1\r\nHost: wiki:65536\r\n\r\n", 400),
    "port too long": (b"CONNECT wiki:000080 HTTP/1.1\r\nHost: wiki:000080\r\n\r\n", 400),
    "signed port": (b"CONNECT wiki:+80 HTTP/1.1\r\nHost: wiki:+80\r\n\r\n", 400),
    "two ports": (b"CONNECT wiki:80:80 HTTP/1.1\r\nHost: wiki:80:80\r\n\r\n", 400),
    "no name": (b"CONNECT :80 HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
    "path behind": (b"CONNECT wiki:80/x HTTP/1.1\r\nHost: wiki:80\r\n\r\n", 400),
    "percent": (b"CONNECT wi%6bi:80 HTTP/1.1\r\nHost: wi%6bi:80\r\n\r\n", 400),
    "not ASCII": (b"CONNECT w\xc3\xadki:80 HTTP/1.1\r\nHost: w\xc3\xadki:80\r\n\r\n", 400),
    "two targets": (b"CONNECT wiki:80 git:22 HTTP/1.1\r\nHost: wiki:80\r\n\r\n", 400),
    "no Host": (b"CONNECT wiki:80 HTTP/1.1\r\nAccept: */*\r\n\r\n", 400),
    "two Hosts": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nHost: git:22\r\n\r\n", 400),
    "another Host": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: git:22\r\n\r\n", 400),
    "Host with another port": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:81\r\n\r\n", 400),
    "Content-Length": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nContent-Length: 5\r\n\r\nhello", 400),
    "Content-Length 0": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nContent-Length: 0\r\n\r\n", 400),
    "two lengths": (
        b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        400,
    ),
    "chunked": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "obscured chunked": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    "space before colon": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
    "length and chunked": (
        b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "Expect": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nExpect: 100-continue\r\n\r\n", 400),
    "Upgrade": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nUpgrade: websocket\r\n\r\n", 400),
    "bare LF": (b"CONNECT wiki:80 HTTP/1.1\nHost: wiki:80\r\n\r\n", 400),
    "bare LF ends the head": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\n\nGET / HTTP/1.1\r\n\r\n", 400),
    "bare CR": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\rX: y\r\n\r\n", 400),
    "NUL": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nX: a\x00b\r\n\r\n", 400),
    "folded field": (b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nX: a\r\n b\r\n\r\n", 400),
    "leading line": (b"\r\n\r\nCONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\n\r\n", 400),
    "TLS inside": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "header section too large": (
        b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nX: " + b"x" * MAX_CONNECT_HEADER + b"\r\n\r\n",
        431,
    ),
    "endless line": (b"CONNECT " + b"a" * (MAX_CONNECT_HEADER + 1), 431),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_whole(case: str) -> None:
    data, status = REFUSED[case]
    answer = ask(data)
    assert isinstance(answer, BadRequest)
    assert answer.status == status
    parsed = h11.Connection(h11.CLIENT)
    parsed.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    parsed.receive_data(refuse_response(answer.status, answer.error, answer.details))
    response = parsed.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_does_not_depend_on_how_the_bytes_arrive(case: str) -> None:
    data, status = REFUSED[case]
    handshake = ServerHandshake()
    for one in data:
        answer = handshake.receive(bytes([one]))
        if not isinstance(answer, NeedMore):
            break
    assert isinstance(answer, BadRequest)
    assert answer.status == status


@given(
    name=st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\Z"),
    port=st.integers(1, 65535),
    rest=st.binary(max_size=64),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_a_request_survives_any_chunking_and_loses_no_byte(name: str, port: int, rest: bytes, cuts: list[int]) -> None:
    data = ClientHandshake(name, port).request() + rest
    handshake = ServerHandshake()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[start:end] for start, end in pairwise(edges)]
    answer: object = NeedMore()
    while isinstance(answer, NeedMore):
        answer = handshake.receive(chunks.pop(0))
    assert isinstance(answer, ConnectRequest)
    assert (answer.name, answer.port, answer.rest + b"".join(chunks)) == (name, port, rest)


@given(data=st.binary(max_size=400))
@example(data=b"\r\n\r\n")
@example(data=GOOD)
def test_no_bytes_raise_anything(data: bytes) -> None:
    assert isinstance(ask(data), NeedMore | ConnectRequest | BadRequest)
    assert isinstance(ask(data + b"\r\n\r\n"), ConnectRequest | BadRequest)
    assert isinstance(ClientHandshake("wiki", 80).receive(data + b"\r\n\r\n"), Accepted | Refused)


@given(data=st.binary(max_size=200), cut=st.integers(0, 400))
def test_the_answer_to_any_bytes_does_not_depend_on_chunking(data: bytes, cut: int) -> None:
    whole = b"CONNECT wiki:80 HTTP/1.1\r\nHost: wiki:80\r\nX: " + data + b"\r\n\r\n"
    handshake = ServerHandshake()
    answer = handshake.receive(whole[: cut % len(whole)])
    if isinstance(answer, NeedMore):
        answer = handshake.receive(whole[cut % len(whole) :])
    if isinstance(answer, ConnectRequest):
        expected = ask(whole)
        assert isinstance(expected, ConnectRequest)
        assert (answer.name, answer.port) == (expected.name, expected.port)
    else:
        assert answer == ask(whole)


def test_the_client_reads_acceptance_and_what_follows() -> None:
    handshake = ClientHandshake("wiki", 80)
    data = accept_response() + b"SSH-2.0"
    assert handshake.receive(data[:10]) == NeedMore()
    assert handshake.receive(data[10:]) == Accepted(b"SSH-2.0")


@pytest.mark.parametrize("status", [200, 204, 299])
def test_every_success_opens_the_tunnel_whatever_length_it_claims(status: int) -> None:
    answer = b"HTTP/1.1 %d Fine\r\nContent-Length: 5\r\n\r\nhello" % status
    assert ClientHandshake("wiki", 80).receive(answer) == Accepted(b"hello")


@pytest.mark.parametrize(
    ("status", "error", "details"),
    [
        (403, "http_request_denied", 'no grant covers "wiki"; ask for \\ access'),
        (404, "destination_not_found", "there is no such resource"),
        (502, "connection_refused", "the resource refused"),
        (504, "connection_timeout", ""),
    ],
)
def test_a_refusal_arrives_as_it_was_meant(status: int, error: str, details: str) -> None:
    handshake = ClientHandshake("wiki", 80)
    data = refuse_response(status, error, details, [("X-Trace", "1")])
    assert handshake.receive(data) == Refused(status, error, details)


@given(details=st.text(max_size=2000))
def test_details_cannot_break_out_of_their_field(details: str) -> None:
    data = refuse_response(403, "http_request_denied", details)
    head = data.split(b"\r\n\r\n")[0].split(b"\r\n")
    assert len(head) == 5
    answer = ClientHandshake("wiki", 80).receive(data)
    assert isinstance(answer, Refused)
    assert (answer.status, answer.error) == (403, "http_request_denied")
    assert answer.details == "".join(char if " " <= char <= "~" else "?" for char in details)[:1024]


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 403 No\r\nX: " + b"x" * MAX_CONNECT_HEADER + b"\r\n\r\n",
        b"HTTP/1.1 403 No\r\nX: " + b"x" * MAX_CONNECT_HEADER,
    ],
)
def test_a_gateway_that_speaks_something_else_is_a_failure(answer: bytes) -> None:
    refused = ClientHandshake("wiki", 80).receive(answer)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error) == (502, "http_protocol_error")


def test_a_refusal_without_proxy_status_still_has_its_status() -> None:
    assert ClientHandshake("wiki", 80).receive(b"HTTP/1.1 503 Busy\r\n\r\n") == Refused(503, "http_protocol_error", "")


def test_a_handshake_is_spent_after_its_answer() -> None:
    server = ServerHandshake()
    server.receive(GOOD)
    with pytest.raises(LocalError):
        server.receive(b"more")
    client = ClientHandshake("wiki", 80)
    client.receive(accept_response())
    with pytest.raises(LocalError):
        client.receive(b"more")


@pytest.mark.parametrize(
    ("name", "port"), [("", 80), ("a b", 80), ("a\r\nb", 80), ("wíki", 80), ("wiki", 0), ("wiki", 65536)]
)
def test_a_name_no_request_can_carry_is_our_own_mistake(name: str, port: int) -> None:
    with pytest.raises(LocalError):
        ClientHandshake(name, port)


@pytest.mark.parametrize(
    ("status", "error"), [(200, "http_request_denied"), (403, 'x"'), (403, ""), (499, "http_request_denied")]
)
def test_a_refusal_needs_a_status_and_a_token(status: int, error: str) -> None:
    with pytest.raises(LocalError):
        refuse_response(status, error, "")
