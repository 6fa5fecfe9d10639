"""The door: a TCP port only those who knocked can reach.

Laws:

1. Nothing ever answers a datagram. Nobody without an open window gets a byte in or out of the TCP port: the cloak keeps
   them out, and whoever is accepted all the same is reset before anything is read.
2. A window's end, or the end of the key that opened it, touches no accepted connection.
3. The accept loop asks the windows themselves, so a cloak that lags or was taken away never lets anybody in.
4. It is dark before it listens, and the cloak goes only after the socket is closed.
5. It fails closed: what cannot be opened stays shut, and is counted.
"""

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from spa.admission import Admission, Admit, Drop
from spa.binding import Place, bind_tcp, bind_udp, place_of
from spa.cloak import Cloak, CloakName, choose
from spa.cover import Cover, Trouble
from spa.errors import CloakError, DoorError
from spa.limits import (
    ACCEPT_BATCH,
    ACCEPT_PAUSE,
    BACKLOG,
    REPORTS_PER_SECOND,
    ROLL_CHECK,
    ROLL_PAUSE,
    SPENT_SECONDS,
)
from spa.listener import KnockListener
from spa.packet import IPAddress
from spa.source import Source, seen_address
from spa.timers import Timers
from spa.windows import Windows

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close() sends RST instead of FIN
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def wall_clock_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def _ignore(*_told: object) -> None:
    """Nobody asked to be told."""


class Door:
    """Accepts connections of those who knocked and hands them, non-blocking and unread, to `on_connection`.

    `on_admit` hears of every knock that opened the door, `on_drop` of knocks that opened under a known key and were
    refused (a bounded number a second), `on_trouble` of what happens to the cloak. `listen`
    and `knock` are (host, port); port 0 takes any, see `bound_listen`.
    """

    def __init__(
        self,
        *,
        listen: tuple[str, int],
        knock: tuple[str, int],
        cloak: CloakName,
        admission: Admission,
        on_connection: Callable[[socket.socket, Source], None],
        on_drop: Callable[[Drop, IPAddress], None] = _ignore,
        on_admit: Callable[[Admit, IPAddress], None] = _ignore,
        on_trouble: Callable[[Trouble], None] = _ignore,
        wall_us: Callable[[], int] = wall_clock_us,
        windows: Windows | None = None,
    ) -> None:
        self._listen, self._knock = Place(*listen), Place(*knock)
        self._asked = cloak
        self._admission = admission
        self._on_connection, self._on_drop, self._on_admit = on_connection, on_drop, on_admit
        self._on_trouble = on_trouble
        self._wall_us = wall_us
        self.windows = windows if windows is not None else Windows()
        self.cloak_reason = ""
        self._counts: Counter[str] = Counter()
        self._cover: Cover | None = None
        self._tcp: socket.socket | None = None
        self._listener: KnockListener | None = None
        self._reading = False
        self._reports = (0.0, 0)  # the second they belong to, how many in it
        self._timers = Timers()

    @property
    def cloak_name(self) -> CloakName:
        """The cloak in use; the one asked for until the door is up."""
        return self._cover.cloak.name if self._cover is not None else self._asked

    @property
    def cloak_trouble(self) -> Trouble | None:
        """What happened last to the cloak, if anything did."""
        return self._cover.trouble if self._cover is not None else None

    @property
    def bound_listen(self) -> Place:
        """Where connections are accepted."""
        return self._listen

    @property
    def bound_knock(self) -> Place:
        """Where knocks are read."""
        return self._knock

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start: what was admitted, dropped (``dropped.REASON``), accepted, reset and not told."""
        drops = {f"dropped.{reason}": count for reason, count in self._admission.counters.items()}
        return {"admitted": self._admission.admitted, **drops, **self._counts}

    async def start(self) -> None:
        """Binds both ports and opens for knocks; `DoorError` if that cannot be done."""
        try:
            self._tcp = await bind_tcp(*self._listen)
            choice = choose(self._asked, self._tcp, BACKLOG)
            self._listen = place_of(self._tcp)
            self._cover = self._covering(choice.cloak)
            self.cloak_reason = choice.why
            udp = await bind_udp(*self._knock)
        except CloakError as error:
            await self.close()
            raise DoorError(str(error), error.fix) from error
        except BaseException:
            await self.close()
            raise
        self._knock = place_of(udp)
        self._admission.allow_port(self._listen.port)
        self._listener = KnockListener(udp, admission=self._admission, wall_us=self._wall_us, on_answer=self._on_answer)
        asyncio.get_running_loop().add_reader(udp, self._knocks_came)
        self._cover.start()
        self._follow_cloak()
        self._roll()

    async def close(self) -> None:
        """Shuts both ports. Accepted connections are not ours any more and live on."""
        self._timers.cancel()
        loop = asyncio.get_running_loop()
        if self._listener is not None:
            loop.remove_reader(self._listener.sock)
            self._listener.sock.close()
            self._listener = None
        if self._tcp is not None:
            if self._reading:
                loop.remove_reader(self._tcp)
                self._reading = False
            self._tcp.close()
            self._tcp = None
        if self._cover is not None:
            self._cover.stop()

    def close_windows(self, key_id: str) -> None:
        """Ends what the knocks of `key_id` opened, now. Accepted connections are not touched."""
        self.windows.close(key_id)
        self._update_cloak()

    # -- knocks

    def _knocks_came(self) -> None:
        if self._listener is not None:
            try:
                self._listener.drain()
            finally:
                self._update_cloak()

    def _on_answer(self, answer: Admit | Drop, source: IPAddress) -> None:
        if isinstance(answer, Drop):
            if self._may_report():
                self._on_drop(answer, source)
            return
        now = asyncio.get_running_loop().time()
        opened = False
        for each in answer.sources:
            if self._cover is None or not self._cover.room_for(each):
                break
            self.windows.open(each, self._listen.port, answer.kind, answer.key_id, now)
            if (
                self._cover.cloak.one_shot and (spending := f"spend {each}") in self._timers
            ):  # another connection is coming behind this knock
                self._timers.set(spending, SPENT_SECONDS, partial(self._spend, each))
            opened = True
        if opened:
            self._on_admit(answer, source)

    def _may_report(self) -> bool:
        second = asyncio.get_running_loop().time() // 1
        reported = self._reports[1] if self._reports[0] == second else 0
        self._reports = (second, reported + 1)
        if reported >= REPORTS_PER_SECOND:
            self._counts["not_reported"] += 1
            return False
        return True

    # -- the cloak

    def _covering(self, cloak: Cloak) -> Cover:
        return Cover(
            cloak,
            self.windows,
            self._listen.port,
            counts=self._counts,
            before_shutting=self._accept,  # who is already in the queue is not lost when the cloak stops listening
            on_change=self._follow_cloak,
            on_trouble=self._on_trouble,
            wall_us=self._wall_us,
        )

    def _update_cloak(self) -> None:
        if self._cover is not None:
            self._cover.update()

    def _follow_cloak(self) -> None:
        """Waits for connections exactly while the cloak listens: a socket that does not would wake us without end."""
        if self._tcp is None or self._cover is None or self._cover.cloak.listening is self._reading:
            return
        if "accept" in self._timers:  # there is nothing to accept with; see `_pause_accepting`
            return
        loop = asyncio.get_running_loop()
        if self._cover.cloak.listening:
            loop.add_reader(self._tcp, self._accept)
        else:
            loop.remove_reader(self._tcp)
        self._reading = self._cover.cloak.listening

    # -- connections

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            if self._tcp is None or not self._reading:
                return
            try:
                connection, peer = self._tcp.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # gone before we came
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause_accepting()
                return
            self._admit_connection(connection, seen_address(peer[0]), peer[1])

    def _admit_connection(self, connection: socket.socket, address: IPAddress, port: int) -> None:
        if not self._window_open(address) and self._listener is not None:
            self._listener.drain()  # its knock left before its SYN and may wait in the other queue
        now = asyncio.get_running_loop().time()
        kinds = self.windows.kinds(address, self._listen.port, now)
        if not kinds or self._cover is None:
            reset(connection)
            self._counts["reset"] += 1
            return
        self._counts["accepted"] += 1
        if self._cover.cloak.one_shot:
            self._timers.set(f"spend {address}", SPENT_SECONDS, partial(self._spend, address))
        connection.setblocking(False)  # noqa: FBT003 - the socket module's own way
        self._cover.cloak.release(connection)
        key_ids = self.windows.key_ids(address, self._listen.port, now)
        self._on_connection(connection, Source(address, port, kinds, key_ids))

    def _spend(self, address: IPAddress) -> None:
        """The last connection of this source, and its last knock, are a moment ago: nobody is waiting to come in."""
        # Through an address of a shared network somebody has come in who knocked from another one of it.
        together = self._admission.shared.together(address)
        if frozenset().union(*(self.windows.spend(each, self._listen.port) for each in together)):
            self._update_cloak()

    def _window_open(self, address: IPAddress) -> bool:
        return bool(self.windows.kinds(address, self._listen.port, asyncio.get_running_loop().time()))

    def _pause_accepting(self) -> None:
        self._counts["exhausted"] += 1
        if self._tcp is not None:
            asyncio.get_running_loop().remove_reader(self._tcp)
            self._reading = False
            self._timers.set("accept", ACCEPT_PAUSE, self._follow_cloak)

    # -- time

    def _roll(self) -> None:
        more = self._admission.roll(self._wall_us())
        self._timers.set("roll", ROLL_PAUSE if more else ROLL_CHECK, self._roll)


def reset(connection: socket.socket) -> None:
    """Closes a connection by RST, whatever is in its buffers."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
