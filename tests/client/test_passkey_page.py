"""The page on loopback: one look, one answer, from the one browser it was served to."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from client.passkey.page import Page, asking_page
from client.passkey.server import PageServer, serving
from console.errors import CommandError

PAGE = Page("login", "example.test", "alice", "laptop", {"challenge": "AAAA"})
RESPONSE = {"credential": "AAAA"}


@pytest.fixture
async def server() -> AsyncIterator[PageServer]:
    async with serving(PAGE, seconds=60) as served:
        yield served


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def opened(browser: aiohttp.ClientSession, server: PageServer) -> str:
    """The page's secret, as its script has it."""
    async with browser.get(server.url) as response:
        assert response.status == 200
        found = re.search(r'<script id="asked"[^>]*>(.*?)</script>', await response.text(), re.DOTALL)
    assert found is not None
    return str(json.loads(found[1])["secret"])


def posting(server: PageServer, secret: str, **changed: Any) -> dict[str, Any]:
    headers = {"Origin": f"http://localhost:{server.port}", "Content-Type": "application/json"}
    body = json.dumps({"secret": secret, "response": RESPONSE})
    return {"url": server.url, "data": body, "headers": headers, **changed}


async def test_the_answer_gets_to_the_command_and_the_verdict_to_the_page(
    server: PageServer, browser: aiohttp.ClientSession
) -> None:
    secret = await opened(browser, server)

    async def post() -> Any:
        async with browser.post(**posting(server, secret)) as response:
            return await response.json()

    answering = asyncio.create_task(post())
    assert await server.answer() == RESPONSE
    await server.tell("You are logged in.", good=True)
    assert await answering == {"good": True, "words": "You are logged in."}


async def test_both_addresses_of_localhost_serve_it(server: PageServer, browser: aiohttp.ClientSession) -> None:
    token = server.url.rsplit("/", 1)[1]
    named = {"Host": f"localhost:{server.port}"}
    for host in ("127.0.0.1", "[::1]"):
        async with browser.get(f"http://{host}:{server.port}/wrong{token}", headers=named) as response:
            assert response.status == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "attacker.example", "localhost", "LOCALHOST.", ""])
async def test_a_page_asked_for_by_another_name_is_refused(
    server: PageServer, browser: aiohttp.ClientSession, host: str
) -> None:
    for name in (host, f"{host}:{server.port}"):
        if name == f"localhost:{server.port}":
            continue
        async with browser.get(server.url, headers={"Host": name}) as response:
            assert response.status in {400, 403}, name
    await opened(browser, server)


@pytest.mark.parametrize("path", ["", "favicon.ico", "A" * 43, "a/b", "%00", "é"])
async def test_other_addresses_hold_nothing(server: PageServer, browser: aiohttp.ClientSession, path: str) -> None:
    async with browser.get(f"http://localhost:{server.port}/{path}") as response:
        assert response.status == 404
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def test_the_page_opens_once_and_a_second_look_ends_it(
    server: PageServer, browser: aiohttp.ClientSession
) -> None:
    await opened(browser, server)
    async with browser.get(server.url) as response:
        assert response.status == 410
        assert "opened already" in await response.text()
    with pytest.raises(CommandError, match="opened a second time"):
        await server.answer()


async def test_a_browser_that_looks_ahead_does_not_use_it_up(
    server: PageServer, browser: aiohttp.ClientSession
) -> None:
    async with browser.get(server.url, headers={"Sec-Purpose": "prefetch;prerender"}) as response:
        assert response.status == 403
    await opened(browser, server)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"headers": {"Content-Type": "application/json"}}, 403),
        ({"headers": {"Content-Type": "application/json", "Origin": "null"}}, 403),
        ({"headers": {"Content-Type": "application/json", "Origin": "http://localhost:1"}}, 403),
        ({"data": b"{"}, 400),
        ({"data": b"x" * 40_000}, 413),
        ({"data": json.dumps({"secret": "A" * 43, "response": RESPONSE})}, 403),
        ({"data": json.dumps({"secret": "\ud800", "response": RESPONSE})}, 403),
    ],
    ids=["no origin", "null origin", "another port", "no JSON", "too long", "another secret", "no text"],
)
async def test_an_answer_that_is_not_the_pages_is_refused(
    server: PageServer, browser: aiohttp.ClientSession, changed: dict[str, Any], status: int
) -> None:
    secret = await opened(browser, server)
    async with browser.post(**posting(server, secret, **changed)) as response:
        assert response.status == status
    async with browser.put(server.url) as response:
        assert response.status == 404
    answering = asyncio.create_task(browser.post(**posting(server, secret)))
    assert await server.answer() == RESPONSE
    async with browser.post(**posting(server, secret)) as second:
        assert second.status == 403, "one answer"
    await server.tell("no", good=False)
    assert (await (await answering).json())["good"] is False


async def test_nobody_who_comes_in_time_is_an_error_that_says_so(browser: aiohttp.ClientSession) -> None:
    async with serving(PAGE, seconds=0.01) as server:
        with pytest.raises(CommandError, match="nobody opened the page"):
            await server.answer()
    with pytest.raises(aiohttp.ClientConnectorError):
        await browser.get(server.url)
    async with serving(PAGE, seconds=0.2) as server:
        await opened(browser, server)
        with pytest.raises(CommandError, match="nobody answered in the browser"):
            await server.answer()


async def test_the_page_loads_nothing_from_elsewhere(server: PageServer, browser: aiohttp.ClientSession) -> None:
    async with browser.get(server.url) as response:
        text, policy = await response.text(), response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "aiohttp" not in response.headers["Server"]
    nonces = set(re.findall(r"nonce-([^']+)'", policy))
    assert len(nonces) == 1
    assert set(re.findall(r'nonce="([^"]+)"', text)) == nonces
    assert "unsafe" not in policy
    assert not re.search(r"\b(src|href|action)=|@import|url\(", text)


def test_names_cannot_become_markup() -> None:
    evil = '</script><img src=x onerror="alert(1)">'
    page = Page("registration", evil, evil, evil, {"user": {"name": evil}}, evil)
    text = asking_page(page, nonce="n", secret=evil, seconds=1)
    assert "<img" not in text
    assert text.count("</script>") == 2
    found = re.search(r'<script id="asked"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert json.loads(found[1])["publicKey"]["user"]["name"] == evil


def test_the_page_speaks_to_everybody() -> None:
    text = asking_page(PAGE, nonce="n", secret="s", seconds=1)
    for wanted in (
        '<html lang="en">',
        "<title>Log in to example.test · gloam</title>",
        "<main>",
        "<h1>Log in to example.test</h1>",
        '<button id="go" type="button"',
        'role="status" aria-live="polite"',
        "<noscript>",
        "<dt>Person</dt><dd>alice</dd>",
        "<dt>This machine</dt><dd>laptop</dd>",
    ):
        assert wanted in text
