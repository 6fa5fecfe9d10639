"""Where the effects of leases are performed, and nowhere else: on the admission of knocks and on live tunnels.

1. A change is in force when everything `apply` answered has ended: only then may it be acknowledged.
2. Keys go before tunnels are cut, so nobody knocks for what is being taken away.
3. Leases end on time whatever the link does: `expire_forever` has one timer for the earliest of them.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable
from typing import Protocol, assert_never

from gateway.leases import ControllerTime, Cut, Effect, ForgetKeys, Leases, SetKeys
from wire.messages import LeaseDrop, LeasePut, Resources, Snapshot

Ended = asyncio.Future[str]


class Keys(Protocol):
    """Who may knock here."""

    def set(self, key_id: str, keys: tuple[bytes, ...]) -> None:
        """These, and no others, are the keys known as `key_id`."""

    def forget(self, key_id: str) -> None:
        """Nobody knocks as `key_id` any more."""


class Enforcement:
    """Applies what the controller says, and time, to leases, keys and tunnels."""

    def __init__(
        self, leases: Leases, keys: Keys, cut: Callable[[Cut], Iterable[Ended]], clock: Callable[[], float]
    ) -> None:
        self.leases = leases
        self._keys = keys
        self._cut = cut
        self._clock = clock
        self._changed = asyncio.Event()

    def apply(self, change: Snapshot | LeasePut | LeaseDrop | Resources, time: ControllerTime) -> list[Ended]:
        """Performs a change; it is in force once everything answered here is done."""
        now = self._clock()
        match change:
            case Snapshot():
                effects = self.leases.replace(change.leases, change.resources, time, now)
                gc.freeze()  # what is here stays: a collection over 100,000 leases would hold the loop for a second
            case LeasePut():
                effects = self.leases.put(change.lease, time, now)
            case LeaseDrop():
                effects = self.leases.drop(change.session, change.code, change.sentence)
            case Resources():
                self.leases.serve(change.resources)
                effects = ()
            case _:
                assert_never(change)
        return self.perform(effects)

    def begin_outage(self, grace: float) -> float | None:
        """The link is down; answers how many seconds the last lease has left, None without leases."""
        self.leases.begin_outage(grace)
        self._changed.set()
        return self.seconds_left()

    def end_outage(self) -> list[Ended]:
        """The link is up and nothing of the outage is missing."""
        return self.perform(self.leases.end_outage(self._clock()))

    def seconds_left(self) -> float | None:
        """How long until the last lease is over if nothing comes from the controller."""
        latest = self.leases.latest_deadline()
        return None if latest is None else max(0.0, latest - self._clock())

    def perform(self, effects: Iterable[Effect]) -> list[Ended]:
        """Does what the effects say; answers the ends of the tunnels being cut."""
        ended: list[Ended] = []
        for effect in effects:
            match effect:
                case SetKeys():
                    self._keys.set(effect.key_id, effect.keys)
                case ForgetKeys():
                    self._keys.forget(effect.key_id)
                case Cut():
                    ended += self._cut(effect)
                case _:
                    assert_never(effect)
        self._changed.set()
        return ended

    async def expire_forever(self) -> None:
        """Ends leases when they end. Runs until it is cancelled."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self.leases.earliest_deadline()):
                    await self._changed.wait()
            except TimeoutError:
                self.perform(self.leases.expire(self._clock()))
