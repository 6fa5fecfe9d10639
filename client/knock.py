"""`gloam knock`: opens a gateway's door for programs that speak HTTPS proxy by themselves, such as curl.

The gateway is an ordinary HTTPS proxy behind a knock: `curl $(gloam knock wiki) http://wiki/` needs nothing of ours.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from certs.names import Purpose
from certs.store import write_public
from client.dial import CannotReach
from client.reach import find_way, unreachable
from client.session import Target
from client.state import ClientState
from client.tunnel import gateway_door
from console.address import HostPort
from console.errors import CommandError
from spa.packet import derive_key
from spa.sender import send_knock

REPEATS: Final = (0.0, 0.05, 0.15)
"""Seconds before each knock: nobody answers one, so three cover a lost datagram or two. A repeat only extends."""


@dataclass(frozen=True, slots=True)
class Knocked:
    """A door that is open for the next seconds, and what curl needs to go through it."""

    gateway: str
    proxy: str
    authorities: str
    certificate: str
    key: str
    resource: str
    port: int

    def options(self) -> list[str]:
        """The options of curl. `--proxytunnel`: CONNECT for plain HTTP, too."""
        return [
            "--proxytunnel",
            "--proxy",
            self.proxy,
            "--proxy-cacert",
            self.authorities,
            "--proxy-cert",
            self.certificate,
            "--proxy-key",
            self.key,
        ]


async def knock(state: ClientState, target: Target) -> Knocked:
    """Knocks at the first gateway of the resource. Raises CommandError."""
    if state.keyring_entry is not None:
        what = "this device's keys are sealed with the system's keyring, and curl needs the session's in a file"
        raise CommandError(what, f"use gloam forward {target}")
    way = await find_way(state, target)
    gateway = way.gateways[0]
    door = gateway_door(gateway, way, state.profile(), state.knock_secret())
    key = derive_key(door.secret, door.server)
    for pause in REPEATS:
        await asyncio.sleep(pause)  # spaced on purpose: a burst would be lost together
        try:
            await send_knock(
                knock_to=(door.knock.host, door.knock.port),
                port=door.connect.port,
                key=key,
                kind=door.kind,
                session=door.session,
                seen_at=door.seen_at,
                clock=door.clock.us,
            )
        except OSError as error:
            sentence = f"the knock at gateway {gateway.name} cannot be sent: {error}"
            raise unreachable(CannotReach("knock", "not_sent", sentence, "check this machine's network")) from error
    trust = state.trust()
    anchors = (*trust.anchors[Purpose.SERVICES], trust.root)
    write_public(state.proxy_authorities, b"".join(each.public_bytes(Encoding.PEM) for each in anchors))
    certificate, private_key = state.session_files()
    address = HostPort(gateway.tls.host, gateway.tls.port)
    return Knocked(
        gateway=gateway.name,
        proxy=f"https://{address}",
        authorities=str(state.proxy_authorities),
        certificate=str(certificate),
        key=str(private_key),
        resource=way.resource.name,
        port=way.resource.port,
    )
