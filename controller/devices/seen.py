"""When each device was last heard of: known at once, written at most once a minute for all of them together.

A controller that is killed forgets a minute of it; nothing depends on that.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import update

from controller.storage.engine import Storage
from controller.storage.models import Device

PERIOD: Final = timedelta(minutes=1)
"""Between two writes: heartbeats come every ten seconds from each device, and people look by the day."""


class Seen:
    """`note` is for every request and heartbeat; `write` to be called every second or so, and at the end."""

    def __init__(self, storage: Storage, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._clock = clock
        self._at: dict[UUID, datetime] = {}
        self._unwritten: set[UUID] = set()
        self._written = clock()

    def note(self, device: UUID) -> None:
        """This device was heard of now."""
        self._at[device] = self._clock()
        self._unwritten.add(device)

    def at(self, device: UUID, stored: datetime | None) -> datetime | None:
        """When it was last heard of, given what its row says."""
        known = self._at.get(device)
        return stored if known is None or (stored is not None and stored > known) else known

    async def write(self, *, now: bool = False) -> None:
        """Writes what is new, if it is time (or `now`). Raises StorageUnavailable; then it is written later."""
        if not self._unwritten or (not now and self._clock() < self._written + PERIOD):
            return
        self._written = self._clock()
        devices = {device: self._at[device] for device in self._unwritten}
        async with self._storage.change() as change:
            for device, at in devices.items():
                await change.db.execute(update(Device).where(Device.id == device).values(last_seen_at=at))
        self._unwritten -= {device for device, at in devices.items() if self._at[device] == at}
