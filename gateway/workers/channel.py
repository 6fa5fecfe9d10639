"""The socket pair between the main process and a worker: messages, and with them sockets, in order.

1. Packets keep their bounds (SOCK_SEQPACKET), so nothing needs framing; what is said in one turn of the event loop goes
   in as few packets as it fits. What nobody waits for goes with what comes next, within `LEISURE`: to wake another
   process costs more than to tell it something.
2. What is not exactly a list of known messages, with exactly the sockets they announce, ends the conversation.
3. What the other side does not take waits here, and that is bounded: a process that takes nothing for so long is lost.
4. `on_end` is called once, by the other side's end, by a breach of these rules, or by a handler that raised.
"""

import array
import asyncio
import contextlib
import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import structlog

from gateway.limits import MESSAGES_WAITING
from gateway.workers.messages import MAX_PACKET, MAX_SOCKETS, Message, Reader, encode, packet_of

log = structlog.get_logger()

M = TypeVar("M", bound=Message)

LEISURE: Final = 0.02
"""Seconds until what nobody waits for is said by itself."""

_PACKETS_A_TURN: Final = 16
_RETRY: Final = 0.02
_NO_ROOM: Final = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})
_CUT_SHORT: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_SPACE: Final = socket.CMSG_SPACE(MAX_SOCKETS * array.array("i").itemsize)


GONE: Final = "it is gone"
"""Why a conversation ended, when nobody broke a rule."""


class Breach(Exception):  # noqa: N818 - what it is
    """The other side said something it may not; `str()` says what."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends, non-blocking."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in ends:
        each.setblocking(False)  # noqa: FBT003 - the socket module's own way
    return ends


class Channel(Generic[M]):
    """One end. `reads` is what may come; `with_socket` the one kind of message that comes with a socket, if any."""

    def __init__(
        self,
        sock: socket.socket,
        reads: Reader[M],
        on_message: Callable[[M, socket.socket | None], None],
        on_end: Callable[[str], None],
        *,
        with_socket: type[Message] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._reads = reads
        self._on_message = on_message
        self._on_end = on_end
        self._with_socket = with_socket
        self._waiting: deque[tuple[bytes, socket.socket | None]] = deque()
        self._flushing = False
        self._leisurely: asyncio.TimerHandle | None = None
        self._blocked = False
        self._ended = False
        self._loop.add_reader(sock, self._readable)

    @property
    def waiting(self) -> int:
        """Messages the other side has not taken yet."""
        return len(self._waiting)

    def send(self, message: Message, sock: socket.socket | None = None, *, at_leisure: bool = False) -> None:
        """Say it, in order; `sock` goes with it, and is closed here once it went or cannot go any more.

        `at_leisure`: nobody waits for it; it may go with the next.
        """
        if self._ended:
            _close(sock)
            return
        self._waiting.append((encode(message), sock))
        if len(self._waiting) > MESSAGES_WAITING:
            self._end(f"it has not taken {MESSAGES_WAITING} messages")
        elif not self._flushing and not self._blocked:
            if not at_leisure:
                self._flushing = True
                self._loop.call_soon(self.flush)
            elif self._leisurely is None:
                self._leisurely = self._loop.call_later(LEISURE, self.flush)

    def drain(self) -> None:
        """Reads what the other side said before it went."""
        while not self._ended and self._read_packet():
            pass

    def close(self) -> None:
        """Ends the conversation from here; `on_end` is not called."""
        if self._sock.fileno() < 0:
            return
        self._ended = True
        if self._leisurely is not None:
            self._leisurely.cancel()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._blocked = False
        self._sock.close()
        for _, sock in self._waiting:
            _close(sock)
        self._waiting.clear()

    def _end(self, why: str) -> None:
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._sock)
            self._on_end(why)

    # Reading

    def _readable(self) -> None:
        for _ in range(_PACKETS_A_TURN):
            if self._ended or not self._read_packet():
                return

    def _read_packet(self) -> bool:
        """Reads one packet and hands its messages on; false if there is none."""
        try:
            packet, sockets = self._receive()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionResetError:  # it went with words of ours unread; its own last words are still here
            return True
        except Breach as breach:
            self._end(str(breach))
            return False
        if not packet:
            _close(*sockets)
            self._end(GONE)
            return False
        try:
            self._hand_on(packet, sockets)
        except Breach as breach:
            self._end(str(breach))
        except Exception as error:
            log.exception("a message could not be handled")
            self._end(f"what it said could not be handled: {type(error).__name__}")
        finally:
            _close(*sockets)
        return True

    def _receive(self) -> tuple[bytes, deque[socket.socket]]:
        packet, ancillary, flags, _ = self._sock.recvmsg(
            MAX_PACKET, _SPACE if self._with_socket else 0, socket.MSG_CMSG_CLOEXEC
        )
        numbers = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
        # Every one is a TCP connection. Its family decides nothing here, and asking for it costs three calls.
        sockets = deque(socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, number) for number in numbers)
        if flags & _CUT_SHORT:
            _close(*sockets)
            raise Breach("a packet that is too large, or sockets nobody asked for")
        return packet, sockets

    def _hand_on(self, packet: bytes, sockets: deque[socket.socket]) -> None:
        try:
            messages = self._reads.read(packet)
        except ValueError:
            raise Breach("it said what is no message") from None
        kind = self._with_socket
        carry = [kind is not None and isinstance(each, kind) for each in messages]
        if sum(carry) != len(sockets):
            raise Breach("another number of sockets than was announced")
        for each, carries in zip(messages, carry, strict=True):
            if self._ended:
                return
            self._on_message(each, sockets.popleft() if carries else None)

    # Writing

    def flush(self) -> None:
        """Says now what waits, as far as the other side takes it."""
        self._flushing = False
        if self._leisurely is not None:
            self._leisurely.cancel()
            self._leisurely = None
        while self._waiting and not self._ended:
            parts, sockets = self._next_packet()
            packet = packet_of(parts)
            try:
                if sockets:
                    socket.send_fds(self._sock, [packet], [each.fileno() for each in sockets])
                else:
                    self._sock.send(packet)
            except (BlockingIOError, InterruptedError):
                self._block()
                return
            except OSError as error:
                if error.errno in _NO_ROOM:  # of the kernel's, for sockets under way: there will be some
                    self._flushing = True
                    self._loop.call_later(_RETRY, self.flush)
                # else the other side is gone, and the reader will hear of it after its last words
                return
            for _ in parts:
                _close(self._waiting.popleft()[1])
        if self._blocked and not self._waiting:
            self._blocked = False
            self._loop.remove_writer(self._sock)

    def _next_packet(self) -> tuple[list[bytes], list[socket.socket]]:
        parts: list[bytes] = []
        sockets: list[socket.socket] = []
        size = len(packet_of([]))
        for data, sock in self._waiting:
            size += len(data)
            if parts and (size > MAX_PACKET or len(sockets) + (sock is not None) > MAX_SOCKETS):
                break
            parts.append(data)
            if sock is not None:
                sockets.append(sock)
        return parts, sockets

    def _block(self) -> None:
        if not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._sock, self.flush)


def _close(*sockets: socket.socket | None) -> None:
    for each in sockets:
        if each is not None:
            with contextlib.suppress(OSError):
                each.close()


def first_packet(sock: socket.socket) -> bytes:
    """What the main process says before everything else; waits for it."""
    sock.setblocking(True)  # noqa: FBT003 - the socket module's own way
    packet = sock.recv(MAX_PACKET)
    sock.setblocking(False)  # noqa: FBT003 - the socket module's own way
    return packet
