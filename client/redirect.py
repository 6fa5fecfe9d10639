"""Where a browser is sent back to after a login at a provider: a port of 127.0.0.1, for one answer (RFC 8252).

Laws:

1. It listens on 127.0.0.1 alone, on a port the system chooses, until one answer has come or the time is over.
2. An answer is a GET of `PATH` at this very host and port with the state that was sent, which nobody guesses. Anything
   else gets a page that says no, and changes nothing: no other page or program can end the waiting. One that would be
   an answer but for its state is a `stray`: somebody may be trying.
3. Other users of this machine may read the state in the browser's command line: their connections are none of ours
   where the system says whose they are (loopback.py).
4. Only what the protocol names is taken from it, bounded; the page that is shown holds nothing of it.
"""

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from client.loopback import ours

PATH: Final = "/gloam"
LONGEST: Final = 4_096
"""Characters of a value, as the controller takes them."""
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>gloam</title>
<p>{words}</p></html>"""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Returned:
    """What the browser brought. `error` is OAuth's code, where the provider or the person said no."""

    state: str = field(repr=False)
    code: str | None = field(repr=False)
    issuer: str | None
    error: str | None


class Redirect:
    """Made by `listening`. `expect` says which state is the right one; `answer` waits for it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stray = asyncio.Event()
        self._state = secrets.token_urlsafe()  # until `expect`, no answer is the right one
        self._answer: asyncio.Future[Returned] = asyncio.get_running_loop().create_future()

    def expect(self, state: str) -> None:
        """From now on an answer with this state is the right one."""
        self._state = state

    async def answer(self, seconds: float) -> Returned:
        """What the browser brings. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            return await self._answer

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request of whoever found the port."""
        returned = self._read(request)
        if returned is None or self._answer.done():
            return _page(400, "This is not the answer to a login that gloam waits for.")
        self._answer.set_result(returned)
        return _page(200, "gloam has the provider's answer. You may close this page and go on in the terminal.")

    def _read(self, request: web.BaseRequest) -> Returned | None:
        connection = None if request.transport is None else request.transport.get_extra_info("socket")
        if connection is None or not ours(connection):
            return None
        if request.method != "GET" or request.path != PATH or request.host != f"127.0.0.1:{self.port}":
            return None
        query = request.query
        if any(len(query.getall(name)) != 1 or len(query[name]) > LONGEST for name in query):
            return None
        state, code, error = query.get("state", ""), query.get("code"), query.get("error")
        if (code is None) == (error is None):
            return None
        if not hmac.compare_digest(state.encode(), self._state.encode()):
            self.stray.set()
            return None
        return Returned(state, code, query.get("iss"), None if error is None else error[:64])


@asynccontextmanager
async def listening() -> AsyncIterator[Redirect]:
    """Listens inside the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    redirect = Redirect(listener.getsockname()[1])
    server = web.ServerRunner(web.Server(redirect.handle, access_log=None), handle_signals=False, shutdown_timeout=1)
    await server.setup()
    try:
        await web.SockSite(server, listener).start()
        yield redirect
    finally:
        await server.cleanup()


def _page(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=_PAGE.format(words=words), content_type="text/html", headers=_HEADERS)
