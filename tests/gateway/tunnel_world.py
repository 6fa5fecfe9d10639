"""What tunnels need around them in tests: leases, a TCP echo, and a client's end of TLS. The door is left out, and the
process between: what is decided is decided here, by the same leases and ledger."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

from certs import Name, NameKind, Purpose
from gateway.enforcement import Enforcement
from gateway.leases import ControllerTime, Cut, Leases, Reach
from gateway.tunnels import Tunnels
from gateway.workers.ledger import Connection, Ledger
from gateway.workers.messages import Asks, Closed, Declined, Opened, Unverified
from spa.packet import KnockKind
from spa.source import Source
from wire.connect import Accepted, ClientHandshake, NeedMore
from wire.messages import Address, LeasePut, Permit
from wire.tls import ClientTls, ServerTls, connect_tls

EDGE = Name("example.test", NameKind.GATEWAY, "edge")
ALICE, BOB, LAPTOP = UUID(int=7), UUID(int=8), UUID(int=1)
KNOCKED = frozenset({f"device/{LAPTOP}"})


class Echo:
    """A TCP server that sends back what it gets, and ends when its client ends."""

    def __init__(self) -> None:
        self.connections = 0
        self.lost = 0

    async def serve(self, reader: Any, writer: Any) -> None:
        self.connections += 1
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except ConnectionError:
            pass
        finally:
            self.lost += 1
            writer.close()


class NoKeys:
    def set(self, key_id: Any, keys: Any) -> None:
        pass

    def forget(self, key_id: Any) -> None:
        pass


ONLY = 1  # worker


class Gateway:
    def __init__(
        self,
        authority: Any,
        *,
        most: int = 100,
        most_of_session: int = 100,
        most_parked_of_session: int = 8,
        **options: Any,
    ) -> Any:
        loop = asyncio.get_running_loop()
        self.authority = authority
        self.reports = []
        self.knocked = KNOCKED
        self.leases = Leases()
        self.ledger = Ledger(most, most_of_session, most_parked_of_session=most_parked_of_session)
        self.tunnels = Tunnels(
            ServerTls(authority.identity(NameKind.GATEWAY, "edge"), authority.trust, frozenset({Purpose.SESSIONS})),
            self,
            **options,
        )
        self.enforcement = Enforcement(self.leases, NoKeys(), self.cut, loop.time)
        self.time = ControllerTime(datetime.now(UTC), loop.time())
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)  # noqa: FBT003
        self.where = self.listener.getsockname()
        self.tasks = [asyncio.create_task(self.tunnels.run()), asyncio.create_task(self._accept())]

    async def _accept(self) -> None:
        while True:
            sock, (host, port) = await asyncio.get_running_loop().sock_accept(self.listener)
            tunnel = uuid4()
            source = Source(ip_address(host), port, frozenset({KnockKind.TUNNEL}), self.knocked)
            self.ledger.take(tunnel, ONLY, source, 0.0)
            self.tunnels.accept(tunnel, sock)

    # What the tunnels say, answered as the main process does

    def verified(self, tunnel: UUID, session: UUID) -> None:
        refusal, leaving = self.ledger.verify(ONLY, tunnel, session)
        self.leave(leaving)
        if refusal is not None:
            self.tunnels.answer(tunnel, refusal)

    def parked(self, tunnel: UUID) -> None:
        self.leave(self.ledger.park(ONLY, tunnel))

    def leave(self, leaving: list[Connection]) -> None:
        for each in leaving:
            self.tunnels.leave(each.tunnel)

    def asks(self, tunnel: UUID, name: str, port: int, protocol: Any) -> None:
        asking = self.ledger.ask(ONLY, Asks(tunnel, name, port, protocol))
        assert asking is not None
        now = asyncio.get_running_loop().time()
        answer = self.leases.permits(asking.session, asking.source.key_ids, name, port, now, protocol=protocol)
        if isinstance(answer, Permit):
            answer = Reach.of(answer)
            self.ledger.permit(asking, answer)
        self.tunnels.answer(tunnel, answer)

    def report(self, report: Any) -> None:
        at = datetime.now(UTC)
        match report:
            case Opened():
                self.reports.append(self.ledger.opened(ONLY, report, 0.0, at))
            case Closed():
                self.reports.append(self.ledger.closed(ONLY, report, at))
            case Declined():
                self.reports.append(self.ledger.declined(ONLY, report, at))
            case Unverified():
                self.reports.append(self.ledger.unverified(ONLY, report, at))

    def ended(self, tunnel: UUID) -> None:
        self.ledger.end(ONLY, tunnel)

    def cut(self, cut: Cut) -> list[asyncio.Future[str]]:
        return self.tunnels.cut(self.ledger.doomed(cut).get(ONLY, []), cut.code)

    def apply(self, change: Any) -> Any:
        return self.enforcement.apply(change, self.time)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.listener.close()

    def told(self, kind: NameKind) -> Any:
        return [each for each in self.reports if each.type == kind]

    @asynccontextmanager
    async def dial(self, session: UUID = ALICE, kind: NameKind = NameKind.SESSION) -> AsyncIterator[Any]:
        """A verified connection: its reader and writer."""
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, self.where)
        reader = asyncio.StreamReader()
        tls = ClientTls(self.authority.identity(kind, str(session)), self.authority.trust, EDGE)
        transport, protocol = await connect_tls(sock, tls, lambda: asyncio.StreamReaderProtocol(reader))
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)  # kept: its deletion would close
        try:
            yield reader, writer
        finally:
            transport.abort()

    async def ask(self, reader: Any, writer: Any, name: str, port: int = 80, behind: Any = b"") -> Any:
        handshake = ClientHandshake(name, port)
        writer.write(handshake.request() + behind)
        answer = NeedMore()
        while isinstance(answer, NeedMore):
            answer = handshake.receive(await reader.read(65536))
        return answer


def permit(name: str, target: Address, port: int = 80) -> Permit:
    return Permit(resource=name, port=port, target=target, protocol="tcp", policies=("grant/1",))


def give(gateway: Gateway, lease: Any) -> None:
    gateway.apply(LeasePut(seq=1, lease=lease))


async def opened(gateway: Any, stack_of: Any, name: str = "wiki", session: UUID = ALICE) -> Any:
    reader, writer = await stack_of.enter_async_context(gateway.dial(session))
    answer = await gateway.ask(reader, writer, name, behind=b"hello")
    assert isinstance(answer, Accepted)
    rest = answer.rest + await reader.readexactly(5 - len(answer.rest))
    assert rest == b"hello"
    return reader, writer
