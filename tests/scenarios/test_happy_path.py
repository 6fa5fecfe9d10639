"""A person enrols, logs in, reaches what is granted, and leaves."""

import asyncio
from typing import Any

import pytest

from lab.visitor import fetch

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_page_comes_through_the_tunnel(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    forward, host, port = await alice.forward("wiki")
    assert await fetch(host, port) == (200, b"<h1>The wiki nobody can see</h1>\n")
    await forward.stop()


async def test_connect_carries_bytes_and_a_half_close(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    done = await alice.gloam("connect", "echo:7", text="first line\nsecond line\n")
    assert (done.code, done.out) == (0, "first line\nsecond line\n"), done.err


async def test_status_and_resources_say_what_is(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    status = await alice.json("status")
    assert status["logged_in"]
    assert status["connected"]
    assert {each["name"]: each["allowed"] for each in status["session"]["resources"]} == {"wiki": True, "echo": True}
    assert [each["name"] for each in await alice.json("resources")] == ["echo", "wiki"]


async def test_logout_ends_the_session_everywhere(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    assert (await alice.gloam("logout")).code == 0
    assert not (await alice.json("status"))["logged_in"]
    assert alice.name not in [each["user"] for each in await shared_stage.perimeter.admin_json("session", "list")]
    leases = (await shared_stage.perimeter.gateway_status("edge"))["leases"]
    assert alice.name not in [lease["user"] for lease in leases]
    refused = await alice.gloam("connect", "wiki", text="")
    assert refused.code != 0
    assert "gloam login" in refused.err


async def test_a_second_device_of_the_same_person(shared_stage: Any) -> None:
    laptop = await shared_stage.person()
    phone = await shared_stage.perimeter.add_client(laptop.name, name="phone")
    phone.authenticator = laptop.authenticator
    await phone.login(laptop.name)
    for client in (laptop, phone):
        forward, host, port = await client.forward("wiki")
        assert (await fetch(host, port))[0] == 200
        await forward.stop()
    sessions = await shared_stage.perimeter.admin_json("session", "list")
    assert sum(each["user"] == laptop.name for each in sessions) == 2


async def test_everything_that_happened_is_in_the_audit_log(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    forward, host, port = await alice.forward("wiki")
    await fetch(host, port)
    await forward.stop()
    closed: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not closed:  # the gateway reports a tunnel's end when it has ended
            closed = await shared_stage.events("tunnel.closed", user=alice.name)
    assert closed[0]["resource"] == "wiki"
    assert closed[0]["bytes_down"] > closed[0]["bytes_up"] > 0
    opened = (await shared_stage.events("tunnel.opened", user=alice.name))[0]
    assert opened["group"] == "X25519MLKEM768"
    assert opened["policies"]
    for kind in ("invite.created", "device.enrolled", "totp.enrolled", "login.succeeded", "session.started"):
        assert len(await shared_stage.events(kind, user=alice.name)) == 1, kind
    assert await shared_stage.events("controller.started")
    assert (await shared_stage.perimeter.admin_json("audit", "verify"))["intact"]
