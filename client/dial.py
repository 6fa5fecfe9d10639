"""Knock, connect, TLS: how every connection of a client begins.

Laws:

1. Nothing is sent to a server before its knock.
2. A connection that breaks before TLS stands is tried once more: an on-demand cloak resets who comes a moment too
   early.
3. What failed says which step failed: knock and connect together (a dark server answers neither), or TLS.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from certs.names import Name
from certs.secret import Secret
from client.clock import Clock
from spa.errors import Unreachable
from spa.packet import IPAddress, KnockKind, derive_key
from spa.sender import knock_and_connect
from wire.errors import TlsRefused
from wire.messages import Address
from wire.tls import ClientTls, TlsTransport, connect_tls

DEADLINE: Final = 5.0
"""Seconds for knocks and connection together: the fourth knock leaves after 0.8 s, and a slow link gets 4 s more."""

P = TypeVar("P", bound=asyncio.BaseProtocol)
Dial = Callable[[], Awaitable[socket.socket]]


class CannotReach(Exception):  # noqa: N818 - reads as what it is
    """A server could not be reached; `step` names where it failed, `reason` is a code, `fix` what to do."""

    def __init__(self, step: str, reason: str, sentence: str, fix: str) -> None:
        super().__init__(sentence)
        self.step = step
        self.reason = reason
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Door:
    """A server that stays dark until it is knocked at: whose door, where, and what the knock says.

    `seen_at`: where the controller sees this machine, in case the server sees connections come from there, too.
    """

    server: Name
    connect: Address
    knock: Address
    kind: KnockKind
    clock: Clock
    session: UUID | None = None
    deadline: float = DEADLINE
    seen_at: IPAddress | None = None
    secret: Secret = field(kw_only=True, repr=False)

    async def dial(self) -> socket.socket:
        """Knocks and connects; a connected, non-blocking socket. Raises CannotReach (step "knock")."""
        try:
            return await knock_and_connect(
                knock_to=(self.knock.host, self.knock.port),
                connect_to=(self.connect.host, self.connect.port),
                key=derive_key(self.secret, self.server),
                kind=self.kind,
                session=self.session,
                seen_at=self.seen_at,
                clock=self.clock.us,
                deadline=self.deadline,
            )
        except (Unreachable, OSError) as error:
            sentence = (
                f"{self.server.kind} {self.server.id} does not answer at {self.connect.host} port {self.connect.port} "
                f"after knocks at UDP port {self.knock.port} ({error})"
            )
            fix = "check that the server runs, that UDP reaches it, and the clock of this machine"
            raise CannotReach("knock", "no_answer", sentence, fix) from error


async def open_tls(dial: Dial, tls: ClientTls, make_protocol: Callable[[], P]) -> tuple[TlsTransport, P]:
    """A verified connection. Raises CannotReach (step "tls"), or what `dial` raises."""
    try:
        return await connect_tls(await dial(), tls, make_protocol)
    except TlsRefused as refused:
        if refused.reason != "closed":
            raise tls_failed(refused) from refused
    try:
        return await connect_tls(await dial(), tls, make_protocol)
    except TlsRefused as refused:
        raise tls_failed(refused) from refused


def tls_failed(refused: TlsRefused) -> CannotReach:
    """A refused handshake as the step that failed."""
    match refused.reason:
        case "expired" | "not_yet_valid":
            fix = "check the clock of this machine and of the server"
        case "wrong_issuer" | "wrong_name" | "wrong_domain" | "wrong_pin":
            fix = "tell the administrator: another server answers at that address"
        case _:
            fix = "try again; if it stays so, enrol this device again"
    return CannotReach("tls", refused.reason, f"the TLS handshake failed: {refused}", fix)
