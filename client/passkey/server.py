"""Serves the page on loopback, for one look and one answer.

Laws:

1. The address holds 32 random bytes and opens once; the page it opens holds 32 others, which its answer must show. The
   first can be read from a browser's command line by other users of the machine, the second cannot.
2. A request is answered only if it came to `localhost` and our port by name, from our own user, and, where it brings an
   answer, from the page itself (its Origin).
3. Somebody who opens the page a second time ends it: one of the two is not the person.
4. All of it ends by its deadline, and nothing listens afterwards.
"""

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from client.loopback import listen_on_localhost, ours
from client.passkey.asking import read_posted
from client.passkey.page import Page, asking_page, headers, spent_page
from console.errors import CommandError
from wire.errors import RemoteError
from wire.passkey import RP_ID, origin

TOKEN_BYTES: Final = 32
MAX_BODY: Final = 32_768
"""A new passkey with its attestation is under 16 KiB in JSON."""
BODY_DEADLINE: Final = 5.0
CLOSING: Final = 2.0
"""Seconds for the verdict to reach the page."""

_HTML: Final = "text/html"


class PageServer:
    """One page, one answer; made by `serving`."""

    def __init__(self, page: Page, port: int, seconds: float) -> None:
        self._page = page
        self._port = port
        self._ends = asyncio.get_running_loop().time() + seconds
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._secret = secrets.token_urlsafe(TOKEN_BYTES)
        self._opened = False
        self._answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._verdict: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._told = asyncio.Event()

    @property
    def url(self) -> str:
        """Where the page is, once."""
        return f"{origin(self._port)}/{self._token}"

    @property
    def port(self) -> int:
        """The port of the page's origin."""
        return self._port

    async def answer(self) -> dict[str, Any]:
        """What the browser answered. Raises CommandError: nobody answered in time, or the page was opened twice."""
        try:
            async with asyncio.timeout_at(self._ends):
                return await self._answer
        except TimeoutError:
            what = "nobody answered in the browser in time" if self._opened else "nobody opened the page in time"
            raise CommandError(what, "run the command again, and open the address it prints") from None

    async def tell(self, words: str, *, good: bool) -> None:
        """The verdict, which the page shows; returns when it has been sent, or nobody waits for it."""
        if not self._verdict.done():
            self._verdict.set_result((good, words))
        try:
            async with asyncio.timeout(CLOSING):
                await self._told.wait()
        except TimeoutError:
            return

    def application(self) -> web.Application:
        """The page and its answer; everything else is 404."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        app.router.add_get("/{token}", self._open, allow_head=False)
        app.router.add_post("/{token}", self._take)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            self._admit(request)
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            response = _plain(error.status, error.reason)
        return response

    def _admit(self, request: web.Request) -> None:
        connection: Any = None if request.transport is None else request.transport.get_extra_info("socket")
        if connection is None or not ours(connection):
            raise web.HTTPForbidden
        if request.headers.getall("Host", []) != [f"{RP_ID}:{self._port}"]:
            raise web.HTTPForbidden
        if not hmac.compare_digest(request.match_info.get("token", "").encode(), self._token.encode()):
            raise web.HTTPNotFound

    async def _open(self, request: web.Request) -> web.Response:
        if "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
            raise web.HTTPForbidden  # a browser looking ahead is nobody looking
        nonce = secrets.token_urlsafe(16)
        if self._opened:
            if not self._answer.done():
                what = "the page was opened a second time"
                fix = "run the command again; if it was not you, somebody else is on this machine as you"
                self._answer.set_exception(CommandError(what, fix))
            return web.Response(
                text=spent_page(self._page, nonce=nonce), status=410, content_type=_HTML, headers=headers(nonce)
            )
        self._opened = True
        left = max(0.0, self._ends - asyncio.get_running_loop().time())
        text = asking_page(self._page, nonce=nonce, secret=self._secret, seconds=left)
        return web.Response(text=text, content_type=_HTML, headers=headers(nonce))

    async def _take(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") != origin(self._port) or request.content_type != "application/json":
            raise web.HTTPForbidden
        try:
            async with asyncio.timeout(BODY_DEADLINE):
                secret, response = read_posted(await request.read())
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        except RemoteError:
            raise web.HTTPBadRequest from None
        if not hmac.compare_digest(secret.encode(errors="replace"), self._secret.encode()) or self._answer.done():
            raise web.HTTPForbidden
        self._answer.set_result(response)
        good, words = await asyncio.shield(self._verdict)
        answer = web.json_response({"good": good, "words": words}, headers=headers())
        await answer.prepare(request)
        await answer.write_eof()
        self._told.set()
        return answer


@asynccontextmanager
async def serving(page: Page, seconds: float) -> AsyncIterator[PageServer]:
    """The page is there inside the block."""
    listeners, port = listen_on_localhost()
    server = PageServer(page, port, seconds)
    runner = web.AppRunner(server.application(), access_log=None, handle_signals=False, shutdown_timeout=0.1)
    try:
        await runner.setup()
        for listener in listeners:
            await web.SockSite(runner, listener).start()
        yield server
    finally:
        await runner.cleanup()
        _close(listeners)


def _close(listeners: tuple[socket.socket, ...]) -> None:
    for listener in listeners:
        listener.close()


def _plain(status: int, reason: str) -> web.Response:
    return web.Response(text=f"{status} {reason}\n", status=status, headers=headers())
