"""The gateway's certificate, key and knock secret: renewed at two thirds of their life, recovered after their end.

1. It is a request beside the link: no lease and no tunnel notices. New handshakes get the new certificate, and so does
   the next link.
2. What is new is on the disk whole before it is used, and then used at once: the controller lets the old go by it.
3. A failure costs nothing before the certificate's end: it is in `status` and in the log, and tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from certs.errors import CertsError
from gateway.credentials import Credentials
from gateway.dial import Dialler
from gateway.trust import Believed
from spa.packet import KnockKind
from wire.errors import WireError
from wire.exchange import Dial
from wire.messages import ControllerAddress
from wire.renewal import Holder, RenewalFailed, confirm, recover, renew, retry_after

T = TypeVar("T")

log = structlog.get_logger()


class Renewal:
    """Keeps `credentials`; `on_renewed` is told each time they are others. `run` lives as long as the gateway."""

    def __init__(
        self,
        state: Path,
        credentials: Credentials,
        believed: Believed,
        controllers: Sequence[ControllerAddress],
        *,
        on_renewed: Callable[[], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        self.credentials = credentials
        self.problem = ""
        self._state = state
        self._believed = believed
        self._controllers = tuple(controllers)
        self._on_renewed = on_renewed
        self._random = random
        self._unused = False  # new ones are on the disk, and the controller has not seen them

    async def run(self) -> None:
        """Renews whenever it is due, until it is cancelled."""
        while True:
            await asyncio.sleep(self._until_due())
            try:
                await self._renew()
            except (WireError, CertsError, OSError) as error:
                self.problem = str(error) or type(error).__name__
                wait = retry_after(self._left(), self._random())
                log.warning("certificate not renewed", problem=self.problem, next_attempt_seconds=round(wait, 1))
                await asyncio.sleep(wait)
            else:
                self.problem = ""

    async def _renew(self) -> None:
        if not self._unused:
            ended = self._left() <= timedelta()
            step, kind = (recover, KnockKind.ENROL) if ended else (renew, KnockKind.CONTROL)
            before = self._believed.current
            renewed = await self._at_some_controller(step, kind)
            credentials = Credentials(renewed.identity, renewed.knock_secret)
            # What the link brought meanwhile is newer than an answer that was on its way.
            trust = renewed.trust if self._believed.current == before else self._believed.current
            credentials.save(self._state, trust)
            self.credentials, self._believed.current, self._unused = credentials, trust, True
            await self._on_renewed()
            log.info("certificate renewed", until=str(credentials.identity.leaf.not_valid_after_utc), recovered=ended)
        await self._at_some_controller(confirm, KnockKind.CONTROL)
        self._unused = False

    async def _at_some_controller(
        self, step: Callable[[Holder, ControllerAddress, Dial], Awaitable[T]], kind: KnockKind
    ) -> T:
        """What the first controller that can be reached answers."""
        mine, trust = self.credentials, self._believed.current
        holder, dialler = Holder(mine.identity, trust), Dialler(mine.identity, lambda: trust, mine.knock_secret)
        last: OSError | None = None
        for controller in self._controllers:
            try:
                return await step(holder, controller, partial(dialler.dial, controller, kind))
            except OSError as error:  # Unreachable among them
                last = error
        sentence = f"no controller can be reached: {last}"
        raise RenewalFailed("knock", "no_answer", sentence, "check that the controller runs, and this clock") from last

    def _until_due(self) -> float:
        if self._unused:
            return 0.0
        return max(0.0, (self.credentials.identity.renewal_due - datetime.now(UTC)).total_seconds())

    def _left(self) -> timedelta:
        return self.credentials.identity.leaf.not_valid_after_utc - datetime.now(UTC)
