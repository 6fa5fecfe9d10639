"""Addresses and durations as people type them.

Laws:

1. ``HOST:PORT`` has exactly one meaning: an IPv6 address stands in brackets, a host whose last label is a number is
   an IPv4 address in four decimal parts, and everything else is a host name.
2. What is printed can be typed back: ``parse(str(x)) == x``, for durations too.
3. One address has one spelling: a v4-mapped IPv6 address (RFC 4291 section 2.5.5.2) is its IPv4 address. An interface
   (``%eth0``) is refused: it means something on one machine only, and addresses are told to others.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

HIGHEST_PORT: Final = 65535
LONGEST_HOST: Final = 253
LONGEST_DURATION: Final = timedelta(days=36525)  # a century: anything longer is a typing error
_LABEL: Final = re.compile(r"\A[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_PORT: Final = re.compile(r"\A[0-9]{1,5}\Z")
_BRACKETED: Final = re.compile(r"\A\[([^\[\]]*)\]:([^:]*)\Z")
_PART: Final = re.compile(r"([0-9]{1,12})(ms|[wdhms])")
_DURATION: Final = re.compile(rf"\A(?:{_PART.pattern})+\Z")
_MILLISECONDS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


class BadAddress(ValueError):  # noqa: N818 - reads as what it is
    """Text that is not an address; ``fix`` shows one."""

    fix = "write HOST:PORT, as in 127.0.0.1:8443, [::1]:8443 or gateway.example.test:8443"


class BadDuration(ValueError):  # noqa: N818 - the same
    """Text that is not a duration; ``fix`` shows some."""

    fix = "write a number and a unit, as in 90s, 10m, 24h, 7d or 1h30m"


@dataclass(frozen=True, slots=True, order=True)
class HostPort:
    """A host (name, IPv4 or IPv6 address, without brackets) and a port; port 0 means "choose one"."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if parse_host(self.host) != self.host:
            msg = f"{self.host!a} is not written in its plain form"
            raise BadAddress(msg)
        if not 0 <= self.port <= HIGHEST_PORT:
            msg = f"{self.port} is not a port: 0 to {HIGHEST_PORT}"
            raise BadAddress(msg)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address ``text`` spells; :class:`BadAddress` for anything else."""
        if bracketed := _BRACKETED.match(text):
            host, port = bracketed.groups()
            if ":" not in host:
                msg = f"{_short(text)} has brackets around something that is no IPv6 address"
                raise BadAddress(msg)
        else:
            host, colon, port = text.rpartition(":")
            if not colon:
                msg = f"{_short(text)} has no port"
                raise BadAddress(msg)
            if ":" in host:
                msg = f"{_short(text)} is not an address: IPv6 addresses stand in brackets"
                raise BadAddress(msg)
        if not _PORT.match(port) or int(port) > HIGHEST_PORT:
            msg = f"{_short(text)} has no port from 0 to {HIGHEST_PORT}"
            raise BadAddress(msg)
        return cls(parse_host(host), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> "CoreSchema":
        """Text in configuration and messages, both ways."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls._validated,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema()),
        )

    @classmethod
    def _validated(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        msg = "an address is text, HOST:PORT"
        raise BadAddress(msg)


def parse_host(text: str) -> str:
    """A host in its plain form: a name in lowercase, or an address as ``ipaddress`` writes it."""
    if ":" in text:
        return _parse_ipv6(text)
    host = text.lower() if text.isascii() else ""
    labels = host.split(".")
    if labels[-1].isdigit():
        try:
            return str(IPv4Address(host))
        except AddressValueError as error:
            msg = f"{_short(text)} is not an IPv4 address"
            raise BadAddress(msg) from error
    if len(host) > LONGEST_HOST or not all(_LABEL.match(label) for label in labels):
        msg = f"{_short(text)} is not a host"
        raise BadAddress(msg)
    return host


def _parse_ipv6(text: str) -> str:
    address, percent, _ = text.partition("%")
    try:
        plain = IPv6Address(address)
    except AddressValueError as error:
        msg = f"{_short(text)} is not an IPv6 address"
        raise BadAddress(msg) from error
    if percent:
        msg = f"{_short(text)} names an interface, which means nothing to other machines: use an address without %"
        raise BadAddress(msg)
    return str(plain.ipv4_mapped or plain)


def plain_host(text: str) -> str:
    """The host part of a socket's name in the one spelling of :func:`parse_host`, without its interface, if any.

    What is no address is left as it is: it names a Unix socket, or nothing.
    """
    try:
        return _parse_ipv6(text.partition("%")[0]) if ":" in text else text
    except BadAddress:
        return text


def parse_duration(text: str) -> timedelta:
    """``"10m"``, ``"24h"``, ``"1h30m"``: numbers with w, d, h, m, s or ms, each unit once and the largest first."""
    parts = _PART.findall(text) if _DURATION.match(text) else []
    units = [list(_MILLISECONDS).index(unit) for _, unit in parts]
    if not parts or units != sorted(set(units)):
        msg = f"{_short(text)} is not a duration"
        raise BadDuration(msg)
    total = sum(int(number) * _MILLISECONDS[unit] for number, unit in parts)
    if total > LONGEST_DURATION // timedelta(milliseconds=1):
        msg = f"{_short(text)} is more than a century"
        raise BadDuration(msg)
    return timedelta(milliseconds=total)


def format_duration(duration: timedelta) -> str:
    """As :func:`parse_duration` reads it, to the millisecond; a negative one begins with a hyphen."""
    left = round(abs(duration) / timedelta(milliseconds=1))
    sign = "-" if left and duration < timedelta() else ""
    text = ""
    for unit, size in _MILLISECONDS.items():
        if unit != "w":  # "7d" is what people write
            count, left = divmod(left, size)
            text += f"{count}{unit}" if count else ""
    return f"{sign}{text}" if text else "0s"


def _short(text: str) -> str:
    return ascii(text if len(text) <= LONGEST_HOST else f"{text[:LONGEST_HOST]}...")
