"""The one message in a request's body: bounded in size and time; what is none is audited and refused."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar
from uuid import UUID

from aiohttp import web

from controller.api.peers import source_of
from controller.audit.events import ClientProtocolError, Event
from wire.errors import RemoteError
from wire.messages import Message, parse

M = TypeVar("M", bound=Message)

BODY_BYTES: Final = 65_536
"""The largest body: a login with its signing request is under 10 KiB."""
BODY_DEADLINE: Final = 10.0
"""Seconds for a body to arrive: it fits into one segment or two."""


class Bodies:
    """Reads bodies; `note` hears of those that are no message."""

    def __init__(self, note: Callable[[Event], None]) -> None:
        self._note = note

    async def read(self, model: type[M], request: web.Request, device: UUID | None) -> M:
        """The message in the body; what is none, is too much or comes too slowly is audited and refused."""
        try:
            return parse(model, await _body(request))
        except (RemoteError, web.HTTPException) as error:
            detail = error.reason if isinstance(error, web.HTTPException) else str(error)
            source = source_of(request)
            self._note(ClientProtocolError(device=device, source=source, detail=f"{request.path}: {detail}"))
            raise


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_DEADLINE):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
