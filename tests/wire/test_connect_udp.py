"""`wire/connect_udp.py`."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wire.connect import (
    BadRequest,
    ConnectRequest,
    NeedMore,
    Refused,
    ServerHandshake,
    UdpHandshake,
    UdpRequest,
    Upgraded,
    refuse_response,
    upgrade_response,
)
from wire.errors import LocalError
from wire.limits import MAX_CONNECT_HEADER

FIELDS = ("Host: edge:8443", "Connection: Upgrade", "Upgrade: connect-udp", "Capsule-Protocol: ?1")


def get(
    path: str = "/.well-known/masque/udp/dns/53/", *changes: str, version: str = "1.1", method: str = "GET"
) -> bytes:
    """A request with the usual fields; a change `Name: value` takes the place of the field, `-Name` leaves it out."""
    gone = {change.lstrip("-+").partition(":")[0].lower() for change in changes if not change.startswith("+")}
    kept = [field for field in FIELDS if field.partition(":")[0].lower() not in gone]
    added = [change.lstrip("+") for change in changes if not change.startswith("-")]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *kept, *added, "", ""]).encode("latin-1")


def ask(data: bytes) -> NeedMore | ConnectRequest | UdpRequest | BadRequest:
    return ServerHandshake().receive(data)


@pytest.mark.parametrize(
    ("data", "name", "port", "rest"),
    [
        (get(), "dns", 53, b""),
        (get() + b"\x00\x01\x00", "dns", 53, b"\x00\x01\x00"),
        (get("/.well-known/masque/udp/DNS/65535/"), "dns", 65535, b""),
        (get("/.well-known/masque/udp/%64n%73/53/"), "dns", 53, b""),
        (get("/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/"), "2001:db8::42", 443, b""),
        (get("/.well-known/masque/udp/192.0.2.6/443/"), "192.0.2.6", 443, b""),
        (get("/.well-known/masque/udp/dns/53/", "-Capsule-Protocol"), "dns", 53, b""),
        (get("/.well-known/masque/udp/dns/53/", "connection: upgrade", "UPGRADE: Connect-UDP"), "dns", 53, b""),
        (get("/.well-known/masque/udp/dns/53/", "Host: [2001:db8::1]:8443"), "dns", 53, b""),
    ],
)
def test_a_udp_tunnel_is_asked_for(data: bytes, name: str, port: int, rest: bytes) -> None:
    assert ask(data) == UdpRequest(name, port, rest)


DNS = "/.well-known/masque/udp/dns/53/"
REFUSED = {
    "another method": (get(method="POST"), 405),
    "CONNECT to the path": (get(method="CONNECT"), 400),
    "another path": (get("/.well-known/masque/tcp/dns/53/"), 405),
    "absolute form": (get(f"https://edge{DNS}"), 405),
    "HTTP/1.0": (get(version="1.0"), 400),
    "no Host": (get(DNS, "-Host"), 400),
    "two Hosts": (get(DNS, "+Host: other"), 400),
    "no Connection": (get(DNS, "-Connection"), 400),
    "Connection: close": (get(DNS, "Connection: close"), 400),
    "Connection with more": (get(DNS, "Connection: Upgrade, close"), 400),
    "two Connections": (get(DNS, "+Connection: keep-alive"), 400),
    "no Upgrade": (get(DNS, "-Upgrade"), 400),
    "another Upgrade": (get(DNS, "Upgrade: websocket"), 400),
    "a choice of upgrades": (get(DNS, "Upgrade: connect-udp, websocket"), 400),
    "two Upgrades": (get(DNS, "+Upgrade: connect-udp"), 400),
    "no capsules": (get(DNS, "Capsule-Protocol: ?0"), 400),
    "capsules twice": (get(DNS, "+Capsule-Protocol: ?1"), 400),
    "Content-Length": (get(DNS, "+Content-Length: 3") + b"abc", 400),
    "Content-Length 0": (get(DNS, "+Content-Length: 0"), 400),
    "chunked": (get(DNS, "+Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "Expect": (get(DNS, "+Expect: 100-continue"), 400),
    "Trailer": (get(DNS, "+Trailer: x"), 400),
    "TE": (get(DNS, "+TE: trailers"), 400),
    "a query": (get(f"{DNS}?x=1"), 400),
    "no slash at the end": (get(DNS[:-1]), 400),
    "more path": (get(f"{DNS}x"), 400),
    "another segment": (get("/.well-known/masque/udp/a/dns/53/"), 400),
    "dot segments": (get("/.well-known/masque/udp/../udp/dns/53/"), 400),
    "no name": (get("/.well-known/masque/udp//53/"), 400),
    "no port": (get("/.well-known/masque/udp/dns//"), 400),
    "port zero": (get("/.well-known/masque/udp/dns/0/"), 400),
    "port too large": (get("/.well-known/masque/udp/dns/65536/"), 400),
    "port too long": (get("/.well-known/masque/udp/dns/000053/"), 400),
    "a signed port": (get("/.well-known/masque/udp/dns/+53/"), 400),
    "an escaped port": (get("/.well-known/masque/udp/dns/%35%33/"), 400),
    "half an escape": (get("/.well-known/masque/udp/dns%2/53/"), 400),
    "an escape that is none": (get("/.well-known/masque/udp/dns%zz/53/"), 400),
    "escaped twice": (get("/.well-known/masque/udp/%2564ns/53/"), 400),
    "an escaped slash": (get("/.well-known/masque/udp/a%2Fdns/53/"), 400),
    "an escaped NUL": (get("/.well-known/masque/udp/dns%00/53/"), 400),
    "an escaped line end": (get("/.well-known/masque/udp/dns%0D%0AX:y/53/"), 400),
    "an escape that is not ASCII": (get("/.well-known/masque/udp/d%C3%ADs/53/"), 400),
    "a wildcard": (get("/.well-known/masque/udp/*/53/"), 400),
    "a colon": (get("/.well-known/masque/udp/2001:db8::42/53/"), 400),
    "a user": (get("/.well-known/masque/udp/root%40dns/53/"), 400),
    "bare LF": (get().replace(b"Upgrade\r\n", b"Upgrade\n"), 400),
    "a folded field": (get(DNS, "+X: a\r\n b"), 400),
    "a header section too large": (get(DNS, f"+X: {'x' * MAX_CONNECT_HEADER}"), 431),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_whole(case: str) -> None:
    data, status = REFUSED[case]
    answer = ask(data)
    assert isinstance(answer, BadRequest), answer
    assert answer.status == status
    assert refuse_response(answer.status, answer.error, answer.details).startswith(b"HTTP/1.1 %d " % status)


@given(
    name=st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\Z"),
    port=st.integers(1, 65535),
    rest=st.binary(max_size=64),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_a_request_survives_any_chunking_and_loses_no_byte(name: str, port: int, rest: bytes, cuts: list[int]) -> None:
    data = UdpHandshake(name, port, "edge:8443").request() + rest
    handshake = ServerHandshake()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[start:end] for start, end in pairwise(edges)]
    answer: object = NeedMore()
    while isinstance(answer, NeedMore):
        answer = handshake.receive(chunks.pop(0))
    assert isinstance(answer, UdpRequest)
    assert (answer.name, answer.port, answer.rest + b"".join(chunks)) == (name, port, rest)


@given(target=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=60))
@example("/.well-known/masque/udp/%/53/")
def test_no_path_is_more_than_one_name(target: str) -> None:
    answer = ask(get(f"/.well-known/masque/udp/{target}"))
    if isinstance(answer, UdpRequest):
        assert answer.name.isascii()
        assert not set(answer.name) & set("%/?#@ \0")
    else:
        assert isinstance(answer, BadRequest)


def test_the_gateway_is_called_what_an_administrator_may_call_it() -> None:
    assert b"\r\nHost: _edge.corp:8443\r\n" in UdpHandshake("dns", 53, "_edge.corp:8443").request()


def test_the_request_is_rfc_9298s() -> None:
    assert UdpHandshake("dns", 53, "[2001:db8::1]:8443").request() == (
        b"GET /.well-known/masque/udp/dns/53/ HTTP/1.1\r\n"
        b"Host: [2001:db8::1]:8443\r\n"
        b"Connection: Upgrade\r\n"
        b"Upgrade: connect-udp\r\n"
        b"Capsule-Protocol: ?1\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("name", "port", "authority"),
    [("", 53, "edge"), ("dns/x", 53, "edge"), ("d%6es", 53, "edge"), ("dns", 0, "edge"), ("dns", 65536, "edge"),
     ("::1", 53, "edge"), ("dns", 53, ""), ("dns", 53, "edge\r\nX: y"), ("dns", 53, "edge/x")],
)  # fmt: skip
def test_what_no_request_can_carry(name: str, port: int, authority: str) -> None:
    with pytest.raises(LocalError):
        UdpHandshake(name, port, authority)


ANSWERS = {
    "switched": (upgrade_response(), Upgraded(b"")),
    "switched, capsules behind": (upgrade_response() + b"\x00\x01\x00", Upgraded(b"\x00\x01\x00")),
    "refused": (
        refuse_response(404, "destination_not_found", 'no "dns" here'),
        Refused(404, "destination_not_found", 'no "dns" here'),
    ),
    "accepted as if it were CONNECT": (b"HTTP/1.1 200 OK\r\n\r\n", Refused(200, "http_protocol_error", "")),
    "switched to something else": (upgrade_response().replace(b"connect-udp", b"websocket"), None),
    "switched to nothing": (upgrade_response().replace(b"Upgrade: connect-udp\r\n", b""), None),
    "told to wait": (b"HTTP/1.1 100 Continue\r\n\r\n", None),
    "another HTTP": (upgrade_response().replace(b"HTTP/1.1", b"HTTP/1.0"), None),
    "no answer at all": (b"\r\n\r\n", None),
    "no HTTP": (b"SSH-2.0-x\r\n\r\n", None),
    "bare LF": (upgrade_response().replace(b"\r\nUpgrade", b"\nUpgrade"), None),
    "too large": (b"HTTP/1.1 101 x\r\nX: " + b"x" * MAX_CONNECT_HEADER, None),
}


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.parametrize("bytewise", [False, True])
def test_answers(case: str, *, bytewise: bool) -> None:
    data, expected = ANSWERS[case]
    handshake = UdpHandshake("dns", 53, "edge:8443")
    answer: NeedMore | Upgraded | Refused = NeedMore()
    if bytewise:
        expected = Upgraded(b"") if isinstance(expected, Upgraded) else expected
        for byte in data:
            answer = handshake.receive(bytes([byte]))
            if not isinstance(answer, NeedMore):
                break
    else:
        answer = handshake.receive(data)
    if expected is None:
        assert isinstance(answer, Refused)
        assert (answer.status, answer.error) == (502, "http_protocol_error")
    else:
        assert answer == expected
    with pytest.raises(LocalError):
        handshake.receive(b"")
