"""The UDP side of a door: reads knocks, tells what they open, and never answers, whatever it gets.

A flood cannot starve the loop: each wake-up reads a bounded number of datagrams. What no key can have made costs one
look-up; impossible lengths do not even wake us, a filter on the socket drops them in the kernel.
"""

import contextlib
import socket
from collections.abc import Callable
from typing import Final

from spa.admission import Admission, Admit, Drop
from spa.cloak.bpf import admit_datagram_lengths, pack
from spa.kernel import attach_filter, enlarge_receive_buffer
from spa.limits import DRAIN_BATCH, MAX_DATAGRAM, MIN_DATAGRAM, RECEIVE_BUFFER
from spa.locators import KnownKey
from spa.packet import IPAddress
from spa.source import seen_address

_READ: Final = MAX_DATAGRAM + 1  # one more, so that a datagram cut to this size is still too long


class KnockListener:
    """Reads `sock` (UDP, bound, non-blocking) and hands every answer that has a key behind it to `on_answer`."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        admission: Admission,
        wall_us: Callable[[], int],
        on_answer: Callable[[Admit | Drop, IPAddress], None],
    ) -> None:
        self.sock = sock
        self._admission = admission
        self._wall_us = wall_us
        self._on_answer = on_answer
        enlarge_receive_buffer(sock, RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # without it admission counts what the kernel would have dropped
            attach_filter(sock, pack(admit_datagram_lengths(MIN_DATAGRAM, MAX_DATAGRAM)))

    def drain(self, limit: int = DRAIN_BATCH) -> int:
        """Reads what has come, at most `limit` datagrams; how many there were."""
        receive, admission = self.sock.recvfrom, self._admission
        now_us = self._wall_us()
        for count in range(limit):
            try:
                datagram, peer = receive(_READ)
            except OSError:  # nothing more; or an error of the network, which is nobody's knock
                return count
            known = admission.recognise(datagram)
            if not isinstance(known, Drop):
                self._judge(datagram, known, seen_address(peer[0]), now_us)
        return limit

    def _judge(self, datagram: bytes, known: KnownKey, source: IPAddress, now_us: int) -> None:
        answer = self._admission.judge(datagram, known, source, now_us)
        if isinstance(answer, Admit) or answer.key_id is not None:
            self._on_answer(answer, source)
