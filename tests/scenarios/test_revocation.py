"""Whatever takes a right away cuts what it allowed: live tunnels too. bench/ measures how soon."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lab.perimeter import PASSWORD, Client
from lab.visitor import Cut, fetch, hold_open

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 30
ANEW = "ask your administrator for a new invite, then: gloam enrol --replace -"


@contextlib.asynccontextmanager
async def live_tunnel(client: Client, resource: str = "wiki") -> AsyncIterator[asyncio.Task[Cut]]:
    """A connection through `gloam forward` that asks for the page again and again until it is cut."""
    forward, host, port = await client.forward(resource)
    began = asyncio.Event()
    held = asyncio.create_task(hold_open(host, port, began))
    await asyncio.wait_for(began.wait(), PATIENCE)
    yield held
    held.cancel()
    await forward.stop()


async def taken_away(stage: Any, alice: Client, how: str) -> list[str]:
    """The administrator's command that takes the wiki away from her."""
    perimeter = stage.perimeter
    match how:
        case "session":
            sessions = await perimeter.admin_json("session", "list")
            return ["session", "revoke", next(each["id"] for each in sessions if each["user"] == alice.name)]
        case "person":
            return ["session", "revoke", "--user", alice.name]
        case "device":
            devices = await perimeter.admin_json("device", "list")
            return ["device", "revoke", next(each["id"] for each in devices if each["user"] == alice.name)]
        case "disabled":
            return ["user", "disable", alice.name]
        case "group":
            return ["user", "set", alice.name, "--no-groups"]
        case "policy":
            file = alice.state / "shut-out.cedar"
            shut_out = f'@id("shut-out-{alice.name}") forbid(principal == User::"{alice.name}", action, resource);\n'
            file.write_text(shut_out)
            return ["policy", "apply", str(file)]
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize("how", ["session", "person", "device", "disabled", "group", "policy"])
async def test_taking_it_away_cuts_the_live_tunnel(shared_stage: Any, how: str) -> None:
    alice = await shared_stage.person()
    async with live_tunnel(alice) as held:
        command = await taken_away(shared_stage, alice, how)
        done = await shared_stage.perimeter.admin(*command)
        assert done.code == 0, done.err
        await asyncio.wait_for(held, PATIENCE)
    refused = await alice.gloam("connect", "wiki", text="")
    assert refused.code != 0
    assert len(refused.err.strip().splitlines()) == 1


@pytest.mark.parametrize("noun", ["grant", "resource"])
async def test_removing_a_grant_or_a_resource_cuts_its_tunnels(shared_stage: Any, noun: str) -> None:
    alice = await shared_stage.person()
    perimeter = shared_stage.perimeter
    name = f"short-lived-{noun}"
    await perimeter.add_resource(name, gateways=["edge"])
    grant = await perimeter.admin_json("grant", "add", "--user", alice.name, "--resource", name)
    async with live_tunnel(alice, name) as held:
        await perimeter.admin_json(noun, "remove", grant["id"] if noun == "grant" else name)
        await asyncio.wait_for(held, PATIENCE)
    assert (await alice.gloam("connect", name, text="")).code == 4
    assert (await alice.gloam("connect", "echo:7", text="still here")).out == "still here"


async def test_the_person_is_told_why(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    await shared_stage.perimeter.admin_json(
        "session", "revoke", "--user", alice.name, "--reason", "laptop reported stolen"
    )
    async with asyncio.timeout(PATIENCE):
        while (status := await alice.json("status"))["logged_in"]:
            pass
    assert "laptop reported stolen" in status["ended"]["sentence"]


async def test_who_is_cut_in_the_middle_is_told_why_at_once(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    perimeter = shared_stage.perimeter
    grant = await perimeter.admin_json("grant", "add", "--user", alice.name, "--resource", "payroll")
    for resource, taking, why in (("payroll", ("grant", "remove", grant["id"]), "No grant lets you reach payroll"),):
        async with in_the_middle(alice, resource) as connected:
            assert (await perimeter.admin(*taking)).code == 0
            _, said = await asyncio.wait_for(connected.communicate(), PATIENCE)
        assert connected.returncode == 4, said
        assert said.decode().startswith(f"gloam: the tunnel to {resource} was cut: {why}; ")
        assert len(said.splitlines()) == 1


@contextlib.asynccontextmanager
async def in_the_middle(client: Client, resource: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `gloam connect` through which a page has begun to come."""
    pipe = asyncio.subprocess.PIPE
    env = {**os.environ, "GLOAM_STATE": str(client.state)}
    connected = await asyncio.create_subprocess_exec(
        *client.argv("connect", resource), stdin=pipe, stdout=pipe, stderr=pipe, env=env
    )
    try:
        connected.stdin.write(b"GET / HTTP/1.1\r\nHost: hidden\r\n\r\n")
        assert await asyncio.wait_for(connected.stdout.readline(), PATIENCE) == b"HTTP/1.1 200 OK\r\n"
        yield connected
    finally:
        if connected.returncode is None:
            connected.kill()
            await connected.wait()


async def test_only_the_revoked_session_is_cut(shared_stage: Any) -> None:
    alice, bob = await shared_stage.person(), await shared_stage.person()
    async with live_tunnel(alice) as hers, live_tunnel(bob) as his:
        await shared_stage.perimeter.admin_json("session", "revoke", "--user", alice.name)
        await asyncio.wait_for(hers, PATIENCE)
        assert not his.done()


async def test_a_grant_takes_effect_in_a_live_session(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    assert (await alice.gloam("connect", "payroll", text="")).code == 4
    await shared_stage.perimeter.admin_json("grant", "add", "--user", alice.name, "--resource", "payroll")
    forward, host, port = await alice.forward("payroll")
    assert (await fetch(host, port))[0] == 200
    await forward.stop()


async def test_a_device_that_is_replaced_is_revoked_and_a_copy_of_it_opens_nothing(shared_stage: Any) -> None:
    alice = await shared_stage.person(login=False)
    copy = f"{alice.state}-copy"
    shutil.copytree(alice.state, copy)
    invite = (await shared_stage.perimeter.admin_json("invite", alice.name))["invite"]
    new = await alice.json("enrol", "--replace", invite)
    assert new["replaced"]["given_up"], new
    devices = await shared_stage.perimeter.admin_json("device", "list")
    states = {each["id"]: each["state"] for each in devices if each["user"] == alice.name}
    assert states == {new["device"]: "approved", new["replaced"]["device"]: "revoked"}
    refused = await alice.gloam("login", "--state", copy, "--password-stdin", text=f"{PASSWORD}\n")
    assert refused.code in {1, 3}, "refused behind the window of another machine here, or not answered at all"
    (event,) = await shared_stage.events("change.made", actor=f"user/{alice.name}")
    assert (event["what"], event["detail"]) == ("device.revoked", f"{new['replaced']['device']}: replaced")


async def test_a_revoked_device_is_told_to_enrol_anew_and_no_more_to_log_in(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    status = await alice.json("status")
    await shared_stage.perimeter.admin_json("device", "revoke", status["device"])
    async with asyncio.timeout(PATIENCE):
        while (status := await alice.json("status"))["logged_in"]:
            pass
    assert status["ended"]["code"] == "device_revoked"
    listed = await alice.gloam("resources")
    assert (listed.code, listed.err) == (4, f"gloam: your session has ended: this device was revoked; {ANEW}\n")
    await shared_stage.windows_are_closed()
    again = await alice.gloam("login", "--password-stdin", text=f"{PASSWORD}\n")
    assert (again.code, again.err) == (3, f"gloam: this device was revoked, and is not answered any more; {ANEW}\n")
