import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from console.address import (
    BadAddress,
    BadDuration,
    HostPort,
    format_duration,
    parse_duration,
    parse_host,
    plain_host,
)

hosts = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(re.compile(r"[a-z][a-z0-9]{0,9}(\.[a-z][a-z0-9-]{0,9}[a-z0-9])*"), fullmatch=True),
)


@given(hosts, st.integers(0, 65535))
def test_every_address_reads_back(host: str, port: int) -> None:
    address = HostPort(parse_host(host), port)
    assert HostPort.parse(str(address)) == address


@given(st.text(alphabet="abA:.[]%019 -_\n\u0661é", max_size=20))
def test_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = HostPort.parse(text)
    except BadAddress as error:
        assert str(error).isprintable()  # noqa: PT017 - both ends of the law
        return
    assert HostPort.parse(str(address)) == address
    assert str(address).isprintable()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:443", "::1", 443),
        ("[2001:DB8:0::1]:1", "2001:db8::1", 1),
        ("[fd00:0:0:0::5]:22", "fd00::5", 22),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1", 1),
        ("[::FFFF:7f00:1]:1", "127.0.0.1", 1),
        ("[::]:0", "::", 0),
        ("Wiki.Example.Test:8080", "wiki.example.test", 8080),
        ("localhost:0", "localhost", 0),
        ("my_db:65535", "my_db", 65535),
        ("7up.test:080", "7up.test", 80),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = HostPort.parse(text)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "80",
        "host",
        ":80",
        "host:",
        "host:http",
        "host:65536",
        "host:-1",
        "host:+1",
        "host:1 ",
        "host:1\n",
        "host:\u0661",
        "host:000080",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1]:",
        "[host]:80",
        "[127.0.0.1]:80",
        "[::g]:80",
        "[::1%]:80",
        "[::1%a b]:80",
        "[::1%eth0%x]:80",
        "[fe80::1%eth0]:80",
        "[fe80::1%25eth0]:80",
        "fe80::1%eth0",
        "[::ffff:256.0.0.1]:80",
        "[::1]:80%eth0",
        "[[::1]]:80",
        "127.1:80",
        "0x7f.0.0.1:80",
        "127.0.0.01:80",
        "256.0.0.1:80",
        "1:80",
        "a..b:80",
        "a.:80",
        "-a:80",
        "user@host:80",
        "http://host:80",
        "bücher.test:80",
        f"{'a' * 64}:80",
        f"{'a.' * 127}a:80",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress) as refused:
        HostPort.parse(text)
    assert str(refused.value).isprintable()
    assert "HOST:PORT" in refused.value.fix


def test_an_interface_is_refused_by_name() -> None:
    with pytest.raises(BadAddress, match=r"fe80::1%eth0.* names an interface"):
        HostPort.parse("[fe80::1%eth0]:80")


@pytest.mark.parametrize(
    ("told", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8:0::1", "2001:db8::1"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_what_the_kernel_tells_gets_the_same_spelling(told: str, plain: str) -> None:
    assert plain_host(told) == plain


def test_an_address_cannot_be_made_wrong_either() -> None:
    wrong = (
        ("HOST", 1),
        ("host", 65536),
        ("host", -1),
        ("a b", 1),
        ("0::1", 1),
        ("::ffff:7f00:1", 1),
        ("fe80::1%a", 1),
    )
    for host, port in wrong:
        with pytest.raises(BadAddress):
            HostPort(host, port)


class Listener(BaseModel):
    listen: HostPort


def test_addresses_are_text_in_models() -> None:
    model = Listener.model_validate({"listen": "[::1]:80"})
    assert model.listen == HostPort("::1", 80)
    assert model.model_dump(mode="json") == {"listen": "[::1]:80"}
    assert Listener.model_validate_json(model.model_dump_json()) == model
    assert Listener(listen=HostPort("::1", 80)) == model
    for mode in ("validation", "serialization"):
        assert Listener.model_json_schema(mode=mode)["properties"]["listen"]["type"] == "string"
    for wrong in ("::1:80", 80, None):
        with pytest.raises(ValidationError):
            Listener.model_validate({"listen": wrong})


@given(st.integers(0, 36525 * 86_400_000))
def test_every_duration_reads_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("1h30m", timedelta(minutes=90)),
        ("1m500ms", timedelta(seconds=60.5)),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "m",
        "-1m",
        "+1m",
        "1 m",
        "1M",
        "1.5h",
        "30m1h",
        "1h1h",
        "1y",
        "1m\n",
        "\u0661m",
        "9" * 13 + "s",
        "36526d",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(BadDuration) as refused:
        parse_duration(text)
    assert "1h30m" in refused.value.fix


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(microseconds=-1), "0s"),
        (timedelta(seconds=-90), "-1m30s"),
        (timedelta(days=8), "8d"),
        (timedelta(seconds=0.25), "250ms"),
    ],
)
def test_durations_for_people(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text
