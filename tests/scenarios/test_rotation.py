"""Every intermediate of the authority is replaced while tunnels carry bytes; nobody is shut out who should not be."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from certs import Purpose, Trust
from lab.perimeter import Client
from lab.visitor import fetch

PATIENCE = 60
LIFETIME = 8  # seconds a session's certificate counts: renewed at half of it
CHUNK = 20_000
LONG = (Purpose.SERVICES, Purpose.DEVICES)
"""What hangs on these hangs for a month; the old one of sessions is gone within seconds here."""


class Flow:
    """Random bytes to an echo and back through one tunnel, without a pause; every one is compared."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.sent, self.came = hashlib.sha256(), hashlib.sha256()

    async def run(self, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            while True:
                data = os.urandom(CHUNK)
                self.sent.update(data)
                writer.write(data)
                self.came.update(await reader.readexactly(len(data)))
                assert self.came.digest() == self.sent.digest()
                self._news.set()
        finally:
            writer.close()

    async def goes_on(self) -> None:
        """Waits for more of it."""
        for _ in range(2):  # what is under way now may have been answered before
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), PATIENCE)


@contextlib.asynccontextmanager
async def flowing(client: Client) -> AsyncIterator[Flow]:
    """A tunnel that carries bytes inside the block, the same one from its beginning to its end."""
    forward, host, port = await client.forward("echo:7")
    flow = Flow()
    task = asyncio.create_task(flow.run(host, port))
    try:
        await flow.goes_on()
        yield flow
        await flow.goes_on()
        assert not task.done()
    finally:
        task.cancel()
        await forward.stop()


async def standings(stage: Any, purpose: str) -> list[str]:
    shown = await stage.perimeter.admin_json("ca", "show")
    return [each["standing"] for each in shown["intermediates"] if each["purpose"] == purpose]


async def until(stage: Any, purpose: str, wanted: list[str]) -> None:
    async with asyncio.timeout(PATIENCE):
        while await standings(stage, purpose) != wanted:
            pass


def anchors(directory: Any, purpose: Purpose) -> int:
    return len(Trust.from_pem((directory / "trust.pem").read_bytes()).anchors[purpose])


async def until_anchors(directory: Any, purpose: Purpose, wanted: int) -> None:
    """Whoever is told of a change has it on the disk a moment later."""
    async with asyncio.timeout(PATIENCE):
        while anchors(directory, purpose) != wanted:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


async def test_every_intermediate_is_rotated_with_traffic_flowing(make_stage: Any) -> None:
    async with make_stage(settings={"GLOAM_SESSION_LIFETIME": f"{LIFETIME}s"}) as stage:
        perimeter = stage.perimeter
        alice, away = await stage.person(), await stage.person("away", login=False)
        async with flowing(alice) as flow:
            for purpose in Purpose:
                rotated = await perimeter.admin_json("ca", "rotate", purpose)
                assert rotated["standing"] == "issuing", rotated
                await flow.goes_on()
            for directory in (alice.state, perimeter.gateway_state("edge")):
                for purpose in LONG:
                    await until_anchors(directory, purpose, 2)

            # A machine that was away knows nothing of all this, and gets in; the reply brings it up to date.
            assert [anchors(away.state, purpose) for purpose in LONG] == [1, 1]
            await away.login("away")
            assert [anchors(away.state, purpose) for purpose in LONG] == [2, 2]

            # Sessions renew onto the new one, the old one goes by itself, and gateways forget it.
            await until(stage, "sessions", ["retired", "issuing"])
            await until_anchors(perimeter.gateway_state("edge"), Purpose.SESSIONS, 1)
            forward, host, port = await alice.forward("wiki")
            assert (await fetch(host, port))[0] == 200
            await forward.stop()

            # The gateway's own certificate and both devices hang on the old ones: those go with a warning only.
            shown = await perimeter.admin_json("ca", "show")
            old = {each["purpose"]: each for each in shown["intermediates"] if each["standing"] == "retiring"}
            assert {purpose: each["hangs"] for purpose, each in old.items()} == {"devices": 2, "services": 1}
            refused = await perimeter.admin("ca", "retire", old["services"]["id"])
            assert refused.code == 1
            assert "loses access: gateway edge" in refused.err
            unknown = await perimeter.admin("ca", "retire", "00")
            line = "gloam-controller: there is no intermediate '00'; see: gloam-controller ca show\n"
            assert (unknown.code, unknown.err) == (1, line)
            assert await standings(stage, "services") == ["retiring", "issuing"]
        what = [event["what"] for event in await stage.events("authority.changed", purpose="sessions")]
        assert what == ["made", "issues", "retired"]


@pytest.mark.parametrize("purpose", ["sessions", "devices"])
async def test_a_stolen_intermediate_is_distrusted_at_once(make_stage: Any, purpose: str) -> None:
    async with make_stage() as stage:
        perimeter = stage.perimeter
        alice = await stage.person()
        forward, host, port = await alice.forward("wiki")
        assert (await fetch(host, port))[0] == 200
        asked = await perimeter.admin("ca", "rotate", purpose, "--now")
        assert asked.code == 1, "a refusal: nothing was typed wrongly"
        assert "loses access" in asked.err
        assert "--yes" in asked.err
        assert (await fetch(host, port))[0] == 200
        done = await perimeter.admin_json("ca", "rotate", purpose, "--now", "--yes")
        assert done["standing"] == "issuing"
        assert [each["code"] for each in await stage.events("session.ended")] == ["distrusted"]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await fetch(host, port)
        await forward.stop()
        again = await alice.gloam("login", "alice", "--password-stdin", "--json", text="wrong\n")
        if purpose == "devices":  # not even heard
            assert again.code == 3
        assert await standings(stage, purpose) == ["retired", "issuing"]
