"""The nftables cloak's rules, as text for libnftables: what is put up, changed and taken away.

Laws:

1. A table belongs to one address and port and is named after them, so doors on one machine never meet. It decides about
   packets to that address and port and about nothing else.
2. It only ever drops. What it accepts goes on to the administrator's own rules, which may drop it still.
3. Every packet of a stranger is dropped, not only those that want to connect: answers to FIN, ACK or nonsense tell as
   much.
4. Each text is one transaction. Any of them may be run again, whatever the kernel holds by then.

There is no connection tracking in it: a flood of datagrams to the knock port would fill its table and cut off the whole
machine. What belongs to an accepted connection is told by its socket instead: the listening socket is marked
transparent (IP_TRANSPARENT), connections are born so, and lose the mark when they are accepted (nft(8), "socket
expression").
"""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, ip_address
from typing import Final

from spa.packet import IPAddress, plain_address

_FAMILY: Final = "inet"
_FIRST: Final = "filter - 10"
"""Before the administrator's rules at `filter`: one that rejects would otherwise answer strangers in our place."""
_MOMENT: Final = "timeout 1s"


def table_of(host: str, port: int) -> str:
    """The name of the table of a port: ``gloam-192.0.2.1-8443``, ``gloam-2001-db8--1-8443``, ``gloam-any-8443``."""
    address = _address(host)
    where = "any" if address.is_unspecified and address.version != 4 else str(address).replace(":", "-")  # noqa: PLR2004
    return f"gloam-{where}-{port}"


def put_up(host: str, port: int) -> str:
    """Lets nobody in; replaces what a killed process left, without a moment in between."""
    table = f"{_FAMILY} {table_of(host, port)}"
    return f"""\
add table {table}
delete table {table}
table {table} {{
\tset v4 {{
\t\ttype ipv4_addr
\t\tflags timeout
\t}}
\tset v6 {{
\t\ttype ipv6_addr
\t\tflags timeout
\t}}
\tchain guard {{
\t\tip saddr @v4 accept comment "has knocked"
\t\tip6 saddr @v6 accept comment "has knocked"
\t\ttcp flags & (syn | ack) == syn drop comment "wants to connect"
\t\tsocket transparent 0 accept comment "of an accepted connection"
\t\tdrop
\t}}
\tchain input {{
\t\ttype filter hook input priority {_FIRST}; policy accept;
\t\t{_to(_address(host), port)} goto guard
\t}}
}}
"""


def change(table: str, until: Mapping[IPAddress, int], gone: Collection[IPAddress]) -> str:
    """Lets the sources of `until` in for so many milliseconds from now, and those that are `gone` no longer.

    The kernel forgets each by itself when its time is over, whether we live or not. Older kernels leave the time of an
    element alone that is added again, and refuse to delete one that is not there: so each is added, deleted, added.
    """
    lines: list[str] = []
    for version in (4, 6):
        stay = {source: ms for source, ms in until.items() if source.version == version}
        touched = [str(source) for source in (*stay, *(each for each in gone if each.version == version))]
        if not touched:
            continue
        where = f"element {_FAMILY} {table} v{version}"
        lines.append(f"add {where} {{ {', '.join(f'{source} {_MOMENT}' for source in touched)} }}")
        lines.append(f"delete {where} {{ {', '.join(touched)} }}")
        if stay:
            lines.append(f"add {where} {{ {', '.join(f'{source} timeout {ms}ms' for source, ms in stay.items())} }}")
    return "".join(f"{line}\n" for line in lines)


def take_away(table: str) -> str:
    """Nothing is left of the table, if it is there at all."""
    return f"add table {_FAMILY} {table}\ndelete table {_FAMILY} {table}\n"


def _address(host: str) -> IPAddress:
    return plain_address(ip_address(host.partition("%")[0]))


def _to(address: IPAddress, port: int) -> str:
    """Packets to the port. A socket bound to `::` takes IPv4 too; one bound to 0.0.0.0 has IPv4 alone."""
    if not address.is_unspecified:
        return f"{'ip' if isinstance(address, IPv4Address) else 'ip6'} daddr {address} tcp dport {port}"
    return f"meta nfproto ipv4 tcp dport {port}" if isinstance(address, IPv4Address) else f"tcp dport {port}"
