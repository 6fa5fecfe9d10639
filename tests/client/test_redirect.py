"""The port a browser is sent back to: one right answer, and nothing else does anything."""

import asyncio
import os
import shutil
import socket
from typing import Any

import aiohttp
import pytest

from client.redirect import PATH, listening

STATE = "s" * 43


async def get(url: str, **options: Any) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.request(options.pop("method", "GET"), url, **options) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        return response.status, await response.text()


async def test_the_right_answer_is_taken_once() -> None:
    async with listening() as redirect:
        redirect.expect(STATE)
        url = f"http://127.0.0.1:{redirect.port}{PATH}?code=c1&state={STATE}&iss=https%3A%2F%2Fi.example"
        status, text = await get(url)
        assert status == 200
        assert "close this page" in text
        returned = await redirect.answer(5)
        assert (returned.code, returned.issuer, returned.error) == ("c1", "https://i.example", None)
        assert STATE not in repr(returned)
        assert (await get(url))[0] == 400
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", redirect.port), 1)


async def test_a_no_of_the_provider_is_an_answer() -> None:
    async with listening() as redirect:
        redirect.expect(STATE)
        await get(f"http://127.0.0.1:{redirect.port}{PATH}?error=access_denied&state={STATE}&error_description=%3Cb%3E")
        returned = await redirect.answer(5)
        assert (returned.code, returned.error) == (None, "access_denied")


WRONG: dict[str, dict[str, Any]] = {
    "wrong state": {"query": f"code=c&state={'x' * 43}"},
    "no state": {"query": "code=c"},
    "empty state": {"query": "code=c&state="},
    "two states": {"query": f"code=c&state={STATE}&state={STATE}"},
    "neither code nor error": {"query": f"state={STATE}"},
    "code and error": {"query": f"code=c&error=e&state={STATE}"},
    "a code that is too long": {"query": f"code={'c' * 4097}&state={STATE}"},
    "another path": {"path": "/other"},
    "another method": {"method": "POST"},
    "another host": {"headers": {"Host": "evil.example"}},
    "a name for this machine": {"headers": {"Host": "localhost"}},
}
STRAYS = {"wrong state", "no state", "empty state"}


async def test_whatever_else_comes_is_told_no_and_changes_nothing() -> None:
    async with listening() as redirect:
        good = f"code=c&state={STATE}"
        assert (await get(f"http://127.0.0.1:{redirect.port}{PATH}?{good}"))[0] == 400  # nothing is expected yet
        redirect.expect(STATE)
        for name, wrong in WRONG.items():
            options = {key: value for key, value in wrong.items() if key in {"method", "headers"}}
            url = f"http://127.0.0.1:{redirect.port}{wrong.get('path', PATH)}?{wrong.get('query', good)}"
            redirect.stray.clear()
            status, text = await get(url, **options)
            assert status == 400, name
            assert redirect.stray.is_set() == (name in STRAYS), name
            assert "<b>" not in text
        assert (await get(f"http://127.0.0.1:{redirect.port}{PATH}?{good}"))[0] == 200
        assert (await redirect.answer(5)).code == "c"


async def test_two_logins_at_once_have_ports_of_their_own() -> None:
    async with listening() as first, listening() as second:
        assert first.port != second.port
        second.expect(STATE)
        assert (await get(f"http://127.0.0.1:{first.port}{PATH}?code=c&state={STATE}"))[0] == 400
        assert not await asyncio.wait_for(asyncio.sleep(0, result=first._answer.done()), 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root, or `sudo make test`")
async def test_another_user_of_this_machine_is_told_no_even_with_the_right_state() -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl: apt-get install curl")
    async with listening() as redirect:
        redirect.expect(STATE)
        url = f"http://127.0.0.1:{redirect.port}{PATH}?code=c1&state={STATE}"
        statuses = []
        for user in ("nobody", "root"):
            process = await asyncio.create_subprocess_exec(
                "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, user=user, stdout=asyncio.subprocess.PIPE
            )
            statuses.append((await process.communicate())[0])
        assert statuses == [b"400", b"200"]
