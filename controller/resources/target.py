"""What a gateway dials, as people type it: "10.0.0.5:80", "[fd00::5]:22", "db.internal:5432", "10.0.0.5:53/udp".

Laws:

1. A target has exactly one meaning; one that cannot be carried is refused when it is written.
2. A UDP target is one host: a datagram that many get and answer is an amplifier, and no answer would come back.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from console.address import BadAddress, HostPort
from controller.decision.facts import Protocol
from controller.errors import Refused

PROTOCOLS: Final[dict[str, Protocol]] = {"tcp": "tcp", "http": "http", "udp": "udp"}
_ONE_HOST: Final = "name the one host that answers"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a gateway dials for a resource, and how."""

    address: HostPort
    protocol: Protocol


def parse_target(text: str, protocol: str | None = None) -> Target:
    """The target ``text`` (HOST:PORT, HOST:PORT/tcp or HOST:PORT/udp) spells; without either word it is TCP.

    Raises Refused: bad_target, bad_protocol.
    """
    written, slash, suffix = text.partition("/")
    if slash and suffix not in {"udp", "tcp"}:
        raise Refused("bad_target", f"{text[:300]!a} ends in no protocol", "write HOST:PORT or HOST:PORT/udp")
    named = protocol or suffix or "tcp"
    kind = PROTOCOLS.get(named)
    if kind is None:
        raise Refused("bad_protocol", f"{named[:16]!a} is no protocol of a resource", "use tcp, udp or http")
    if suffix and (suffix == "udp") != (kind == "udp"):
        raise Refused("bad_protocol", f"{kind} is not the protocol of {text[:300]!a}", f"leave out /{suffix} or {kind}")
    address = parse_reachable(written, "target", "bad_target")
    if kind == "udp" and _many(address.host):
        raise Refused("bad_target", f"the target address {written!a} is not one host's", _ONE_HOST)
    return Target(address, kind)


def _many(host: str) -> bool:
    """Whether a datagram to `host` goes to more than one machine; for a name, the gateway asks again."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_multicast or str(address) == "255.255.255.255"


def parse_reachable(text: str, what: str, code: str) -> HostPort:
    """The address ``text`` spells, with a port one can connect to. Raises Refused(code)."""
    try:
        address = HostPort.parse(text)
    except BadAddress as error:
        raise Refused(code, f"the {what} address: {error}", error.fix) from error
    if address.port == 0:
        raise Refused(code, f"the {what} address {text!a} has port 0", "name the port")
    return address
