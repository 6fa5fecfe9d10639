"""Knocking: the datagram, and the connection behind it.

The port is opened by the time the server has read the knock, and nothing says when that is. So the knock is repeated
(any datagram may be lost) with a fresh time and nonce, and connections are attempted side by side: the first that
connects wins, the others are closed before they got that far. A refused or unanswered attempt is no news.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from spa.errors import Unreachable
from spa.limits import CONNECT_AT, CONNECT_DEADLINE, KNOCK_AT, MAX_PAD, NAME_FROM, NONCE_BYTES
from spa.packet import IPAddress, Knock, KnockKey, KnockKind, encode

_FAMILY_OF: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


class Knocker:
    """Makes the datagrams of one knocker at one server: each later than the one before, whatever the clock does."""

    def __init__(
        self,
        *,
        key: KnockKey,
        kind: KnockKind,
        session: UUID | None,
        port: int,
        clock: Callable[[], int],
    ) -> None:
        self._key = key
        self._kind = kind
        self._session = session
        self._port = port
        self._clock = clock
        self._last_us = 0

    def datagram(self, source: IPAddress | None = None) -> bytes:
        """The next knock; it opens for the address it is seen from, or for `source` where that is allowed."""
        self._last_us = max(self._clock(), self._last_us + 1)
        knock = Knock(self._kind, self._last_us, self._session, source, self._port)
        pad = secrets.token_bytes(secrets.randbelow(MAX_PAD + 1))
        return encode(knock, self._key, nonce=secrets.token_bytes(NONCE_BYTES), pad=pad)


async def send_knock(
    *,
    knock_to: tuple[str, int],
    port: int,
    key: KnockKey,
    kind: KnockKind,
    session: UUID | None = None,
    seen_at: IPAddress | None = None,
    clock: Callable[[], int],
    local_addr: tuple[str, int] | None = None,
) -> None:
    """One knock at `knock_to` that asks for the server's `port`, and one that names `seen_at` if that is given.

    `Unreachable` if none can even leave.
    """
    knocker = Knocker(key=key, kind=kind, session=session, port=port, clock=clock)
    addresses = await _resolve(knock_to, socket.SOCK_DGRAM)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in _knocking_sockets(addresses, local_addr)]
        sent = sum([_send(sock, knocker.datagram()) for sock in sockets])
        for sock in sockets:
            _send_naming(sock, knocker, seen_at)
        if not sent:
            raise Unreachable(
                f"no knock can be sent to {_shown(knock_to)}", "check the network of this machine", "no_route"
            )


async def knock_and_connect(
    *,
    knock_to: tuple[str, int],
    connect_to: tuple[str, int],
    key: KnockKey,
    kind: KnockKind,
    session: UUID | None = None,
    seen_at: IPAddress | None = None,
    clock: Callable[[], int],
    deadline: float = CONNECT_DEADLINE,
    local_addr: tuple[str, int] | None = None,
) -> socket.socket:
    """A connected, non-blocking TCP socket to `connect_to`, after knocking at `knock_to`; `Unreachable` otherwise.

    `clock` gives microseconds since 1970 in the server's time. `seen_at` is where the controller sees us: if nothing
    connects within `NAME_FROM`, our connections may come from there and not from where our knocks do, and from then on
    each knock is followed by one that names it. Behind an on-demand cloak somebody else's window may let
    us connect before ours is open; that connection is reset at once, and the caller tries again.
    """
    knocker = Knocker(key=key, kind=kind, session=session, port=connect_to[1], clock=clock)
    race = _Race(local_addr, seen_at)
    try:
        async with asyncio.timeout(deadline):
            targets = await _resolve(connect_to, socket.SOCK_STREAM)
            doors = await _resolve(knock_to, socket.SOCK_DGRAM)
            return await race.run(knocker, doors, targets)
    except TimeoutError:
        raise race.lost(connect_to, deadline) from None


class _Race:
    """Knocks and attempts side by side until one connects."""

    def __init__(self, local_addr: tuple[str, int] | None, seen_at: IPAddress | None) -> None:
        self._local = local_addr
        self._seen_at = seen_at
        self._seen: set[str] = set()

    async def run(self, knocker: Knocker, doors: Sequence[_Address], targets: Sequence[_Address]) -> socket.socket:
        won: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        try:
            await self._run(knocker, doors, targets, won)
        except asyncio.CancelledError:
            if won.done() and not won.cancelled():
                won.result().close()
            raise
        return won.result()

    async def _run(
        self,
        knocker: Knocker,
        doors: Sequence[_Address],
        targets: Sequence[_Address],
        won: "asyncio.Future[socket.socket]",
    ) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        with contextlib.ExitStack() as stack:
            knocking = [stack.enter_context(sock) for sock in _knocking_sockets(doors, self._local)]

            def knock(at: float) -> None:
                for sock in knocking:
                    if not _send(sock, knocker.datagram()):
                        self._seen.add("no_route")
                    if at >= NAME_FROM:
                        _send_naming(sock, knocker, self._seen_at)

            knock(0.0)  # at once, so that it is ahead of the first SYN
            timers = [loop.call_at(begin + at, knock, at) for at in KNOCK_AT if at]
            attempts: list[asyncio.Task[None]] = []
            try:
                for at in CONNECT_AT:
                    await asyncio.wait((won,), timeout=max(begin + at - loop.time(), 0.0))
                    if won.done():
                        break
                    attempts += [asyncio.create_task(self._attempt(address, won)) for address in targets]
                await won
            finally:
                for timer in timers:
                    timer.cancel()
                for attempt in attempts:
                    attempt.cancel()
                await asyncio.gather(*attempts, return_exceptions=True)

    async def _attempt(self, address: _Address, won: "asyncio.Future[socket.socket]") -> None:
        family, where = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)  # noqa: FBT003 - the socket module's own way
            if self._local is not None:
                sock.bind((self._local[0], 0))
            await asyncio.get_running_loop().sock_connect(sock, where)
            if not won.done():
                won.set_result(sock)
                return
        except ConnectionError:  # refused; or accepted behind somebody else's window, and reset
            self._seen.add("refused")
        except OSError:
            self._seen.add("no_route")
        except asyncio.CancelledError:
            self._seen.add("silent")
            sock.close()
            raise
        sock.close()

    def lost(self, connect_to: tuple[str, int], deadline: float) -> Unreachable:
        where = _shown(connect_to)
        if "refused" in self._seen:
            return Unreachable(
                f"{where} stayed closed for {deadline:g} s of knocking",
                "check that the service runs, that UDP gets through, and this machine's clock",
                "refused",
            )
        if "no_route" in self._seen and "silent" not in self._seen:
            return Unreachable(f"there is no way to {where}", "check the network of this machine", "no_route")
        return Unreachable(
            f"{where} stayed silent for {deadline:g} s of knocking",
            "check that the service runs, that UDP gets through, and this machine's clock",
            "silent",
        )


async def _resolve(place: tuple[str, int], kind: socket.SocketKind) -> list[_Address]:
    """One address of each family, in the system's order of preference."""
    host, port = place
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    except OSError as error:
        raise Unreachable(f"the host {host} is not known", "check the name and the DNS", "no_route") from error
    addresses: dict[socket.AddressFamily, _Address] = {}
    for family, _, _, _, where in found:
        addresses.setdefault(family, (family, where))  # type: ignore[arg-type]
    return list(addresses.values())


def _knocking_sockets(doors: Sequence[_Address], local_addr: tuple[str, int] | None) -> list[socket.socket]:
    sockets = []
    for family, where in doors:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own way
        try:
            if local_addr is not None:
                sock.bind((local_addr[0], 0))
            sock.connect(where)
        except OSError:
            sock.close()
            continue
        sockets.append(sock)
    return sockets


def _send(sock: socket.socket, datagram: bytes) -> bool:
    try:
        sock.send(datagram)
    except ConnectionRefusedError:  # an ICMP error for an earlier knock: nobody listens yet, which may change
        return True
    except OSError:
        return False
    return True


def _send_naming(sock: socket.socket, knocker: Knocker, seen_at: IPAddress | None) -> None:
    """One knock that names `seen_at`, where connections of this socket's family could come from it."""
    if seen_at is not None and sock.family == _FAMILY_OF[seen_at.version]:
        _send(sock, knocker.datagram(seen_at))


def _shown(place: tuple[str, int]) -> str:
    host, port = place
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).version == 6:  # noqa: PLR2004 - the version is the number
            return f"[{host}]:{port}"
    return f"{host}:{port}"
