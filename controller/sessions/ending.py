"""Ending sessions: cut first, then written, then audited with how long it took."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement

from controller.audit.events import Event
from controller.errors import StorageError
from controller.sessions import rows
from controller.sessions.gateways import Ended, Gateways, end_events
from controller.sessions.live import Live
from controller.sessions.rules import LiveSession
from controller.storage.engine import Storage


class Ending:
    """Ends sessions of `live`, under the lock `turn` that memory and database share."""

    def __init__(
        self,
        live: Live,
        gateways: Gateways,
        storage: Storage,
        turn: asyncio.Lock,
        *,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._live = live
        self._gateways = gateways
        self._storage = storage
        self._turn = turn
        self._note = note
        self._clock = clock

    async def end(
        self,
        which: ColumnElement[bool],
        matches: Callable[[LiveSession], bool],
        code: str,
        sentence: str,
        actor: str,
    ) -> Ended:
        """Ends the sessions `which` and `matches` speak of. Raises StorageUnavailable, having cut them."""
        began = asyncio.get_running_loop().time()
        failure: StorageError | None = None
        closed: Sequence[rows.Closed] = ()
        async with asyncio.TaskGroup() as group, self._turn:
            # Cut first: gateways are told while the rows are being committed.
            known = self._live.forget(matches, code, sentence)
            dropping = group.create_task(self._gateways.drop(known, code, sentence))
            try:
                async with self._storage.change() as change:
                    closed = await rows.close(change.db, which, self._clock(), code, sentence)
            except StorageError as error:
                failure = error
        lagging = dropping.result()
        # Rows that were live while memory knew nothing of them: an earlier end whose commit failed, say.
        strangers = [each for each in closed if each.session not in lagging]
        lagging |= await self._gateways.drop(strangers, code, sentence)
        took = asyncio.get_running_loop().time() - began
        ended = [*known, *strangers]
        await self.record(end_events(ended, lagging, code=code, sentence=sentence, actor=actor, seconds=took))
        if failure is not None:
            raise failure
        return lagging

    async def record(self, events: Sequence[Event]) -> None:
        """Writes events that are known only after a change; what cannot be committed now is noted for later."""
        if not events:
            return
        try:
            async with self._storage.change() as change:
                for event in events:
                    change.record(event)
        except StorageError:
            for event in events:
                self._note(event)
