"""Fuzz target: addresses and durations as people type them."""

from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

from console.address import (
    LONGEST_DURATION,
    LONGEST_HOST,
    BadAddress,
    BadDuration,
    HostPort,
    format_duration,
    parse_duration,
    parse_host,
)
from tests.fuzz.target import Reached, Target

LONGEST_REFUSAL: Final = 100 + 10 * (LONGEST_HOST + 3)  # an escaped character takes up to ten


def check(data: bytes, reached: Reached) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for spelled in (text, f"[{text}]:443", f"{text}:443"):
        try:
            address = HostPort.parse(spelled)
        except BadAddress as error:
            bounded(error, error.fix)
        else:
            reached("address")
            assert HostPort.parse(str(address)) == address
            assert parse_host(address.host) == address.host
            assert 0 <= address.port <= 65535
            plain(address.host)
    try:
        duration = parse_duration(text)
    except BadDuration as error:
        bounded(error, error.fix)
    else:
        reached("duration")
        assert timedelta() <= duration <= LONGEST_DURATION
        assert parse_duration(format_duration(duration)) == duration


def plain(host: str) -> None:
    """A host is one thing to every reader: an address as `ipaddress` writes it, or a name no resolver takes for one."""
    assert host.isprintable()
    assert host.isascii()
    if ":" in host or host.rpartition(".")[2].isdigit():
        assert str(ip_address(host)) == host


def bounded(error: ValueError, fix: str) -> None:
    assert str(error).isprintable()
    assert str(error).isascii()
    assert len(str(error)) <= LONGEST_REFUSAL
    assert fix


def seeds() -> Iterator[bytes]:
    for text in (
        "127.0.0.1:8443",
        "[::1]:443",
        "[fe80::1%eth0]:1",
        "::ffff:192.0.2.1",
        "gateway.example.test:8443",
        "my_db:0",
        "1h30m",
        "7d",
        "90s",
        "250ms",
        "52w1d",
        "0x7f.1",
    ):
        yield text.encode()


WORDS: Final = (b"::", b"%", b".", b"[", b"]", b":65535", b":65536", b"ms", b"w", b"h", b"ffff:", b"\xd9\xa1", b"127.")

TARGET: Final = Target(check, seeds, longest=512, words=WORDS)
