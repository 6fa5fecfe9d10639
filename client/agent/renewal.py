"""The device's certificate, key and knock secret: renewed at two thirds of their life, recovered after their end.

Laws:

1. One renewal at a time: whoever needs the certificate (a login) waits for the one under way.
2. What is new is on the disk whole before it is used, and then used at once: the controller lets the old go by it.
3. A failure costs nothing before the certificate's end: it is told in `status`, and tried again.
"""

import asyncio
import platform
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog

from certs.errors import CertsError
from certs.trust import Trust
from client.clock import Clock
from client.dial import CannotReach, Door
from client.profile import Profile
from client.state import ClientState, exclusive
from console.errors import CommandError
from spa.packet import KnockKind
from wire.enrol import LOCK
from wire.exchange import Dial
from wire.messages import ControllerAddress
from wire.renewal import Holder, RenewalFailed, Renewed, confirm, recover, renew, retry_after

T = TypeVar("T")

NEW_INVITE: Final = "if the device was revoked, or that is more than 30 days ago, ask for a new invite"
_LATER: Final = "it is tried again by itself"

log = structlog.get_logger("client.agent")


class Renewal:
    """Keeps the certificate of one device. `run` lives as long as the agent does."""

    def __init__(self, state: ClientState, profile: Profile, clock: Clock) -> None:
        self.problem = ""
        self._state = state
        self._profile = profile
        self._clock = clock
        self._turn = asyncio.Lock()
        self._unused = False  # a new certificate is on the disk, and the controller has not seen it

    async def run(self) -> None:
        """Renews whenever it is due, until it is cancelled."""
        while True:
            try:
                await asyncio.sleep(max(0.0, (self._due() - self._clock.now()).total_seconds()))
                await self.when_due()
            except (CannotReach, RenewalFailed, CertsError, CommandError) as error:
                self.problem = f"the device's certificate is not renewed: {error}"
                wait = retry_after(self._left_if_known(), secrets.randbelow(1000) / 1000)
                log.warning("certificate not renewed", problem=str(error), next_attempt_seconds=round(wait, 1))
                await asyncio.sleep(wait)

    async def when_due(self) -> None:
        """Renews if it is due. Raises CannotReach, RenewalFailed, CertsError, CommandError."""
        async with self._turn:
            if self._clock.now() >= self._state.device().renewal_due:
                before = self._state.trust()
                self._save(await self._next(), before)
            if self._unused:
                await self._at_some_controller(confirm, KnockKind.CONTROL)
                self._unused = False
            self.problem = ""

    async def before_login(self) -> None:
        """The same for somebody who waits: a failure matters only where the certificate has ended."""
        try:
            await self.when_due()
        except (CannotReach, RenewalFailed, CertsError, CommandError) as error:
            if self._left() <= timedelta():
                raise
            self.problem = f"the device's certificate is not renewed: {error}"

    async def _next(self) -> Renewed:
        if self._left() > timedelta():
            return await self._at_some_controller(renew, KnockKind.CONTROL)
        return await self._at_some_controller(recover, KnockKind.ENROL)

    def _save(self, renewed: Renewed, before: Trust) -> None:
        with exclusive(self._state.directory / LOCK) as ours:
            if not ours:
                raise CommandError("an enrolment is at work in this directory", _LATER)
            # What the session brought meanwhile is newer than an answer that was on its way.
            held = self._state.trust()
            trust = renewed.trust if held == before else held
            self._state.save_renewal(renewed.identity, trust, renewed.knock_secret)
        self._unused = True
        log.info("certificate renewed", until=renewed.identity.leaf.not_valid_after_utc.isoformat())

    async def _at_some_controller(
        self,
        step: Callable[[Holder, ControllerAddress, Dial], Awaitable[T]],
        kind: KnockKind,
    ) -> T:
        """What the first controller that can be reached answers."""
        holder = Holder(self._state.device(), self._state.trust(), described_platform())
        secret = self._state.knock_secret()
        last: CannotReach | None = None
        for controller in self._profile.controllers:
            name = self._profile.controller_name(controller)
            door = Door(name, controller.tls, controller.knock, kind, self._clock, secret=secret)
            try:
                return await step(holder, controller, door.dial)
            except CannotReach as error:
                last = error
        if last is None:
            raise CannotReach("profile", "none", "no controller is known", "enrol again")
        if kind is KnockKind.ENROL:
            ended = f"{holder.identity.leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            fix = f"{last.fix}; {NEW_INVITE}"
            sentence = f"this device's certificate ended at {ended}, and to get another: {last}"
            raise CannotReach(last.step, last.reason, sentence, fix) from last
        raise last

    def _due(self) -> datetime:
        return self._clock.now() if self._unused else self._state.device().renewal_due

    def _left(self) -> timedelta:
        return self._state.device().leaf.not_valid_after_utc - self._clock.now()

    def _left_if_known(self) -> timedelta:
        """Nothing for a certificate or key that cannot be read: the person may be mending it at this moment."""
        try:
            return self._left()
        except CertsError:
            return timedelta()


def described_platform() -> str:
    """What this machine says of itself, for the administrator's list of devices."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"[:128]
