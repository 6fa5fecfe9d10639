"""Every refusal says why and what helps; nothing behind it is touched."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from lab.perimeter import PASSWORD
from lab.processes import finish

pytestmark = pytest.mark.asyncio(loop_scope="module")

DENIED, FAILED, USAGE, UNREACHABLE = 4, 1, 2, 3


async def test_a_resource_that_is_not_granted(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    refused = await alice.gloam("connect", "payroll", text="")
    assert refused.code == DENIED
    assert "grant" in refused.err
    assert len(refused.err.strip().splitlines()) == 1


async def test_a_resource_that_does_not_exist_is_refused_in_the_same_words(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    there = await alice.gloam("connect", "payroll", text="")
    nowhere = await alice.gloam("connect", "nowhere", text="")
    assert nowhere.code == DENIED
    assert nowhere.err.replace("nowhere", "payroll") == there.err


async def test_explain_agrees_with_what_happens(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    perimeter = shared_stage.perimeter
    await perimeter.admin_json(
        "grant", "add", "--user", alice.name, "--resource", "payroll", "--hours", "Mon-Sun 00:00-00:01 Etc/GMT-14"
    )
    for resource, answer in (("wiki", "allow"), ("payroll", None), ("echo:7", "allow")):
        explained = await perimeter.admin(
            "policy", "explain", "--user", alice.name, "--resource", resource.partition(":")[0], "--json"
        )
        document = json.loads(explained.out)
        assert answer in (None, document["answer"])
        tried = await alice.gloam("connect", resource, text="GET / HTTP/1.0\r\n\r\n")
        assert (tried.code == 0) == (document["answer"] == "allow"), (document, tried)
        assert (explained.code == 0) == (tried.code == 0)


async def test_a_wrong_password_and_an_unknown_user_sound_the_same(shared_stage: Any) -> None:
    alice = await shared_stage.person(login=False)
    wrong = await alice.gloam("login", alice.name, "--password-stdin", text="not it\n")
    unknown = await alice.gloam("login", "mallory", "--password-stdin", text="not it\n")
    assert wrong.code == unknown.code == FAILED
    assert wrong.err == unknown.err
    reasons = {event["user"]: event["code"] for event in await shared_stage.events("login.refused")}
    assert reasons[alice.name] != reasons["mallory"]


async def test_a_code_is_never_accepted_twice(shared_stage: Any) -> None:
    alice = await shared_stage.person()
    code = await alice.authenticator.code()
    assert (await alice.gloam("login", alice.name, "--password-stdin", "--otp", code, text=f"{PASSWORD}\n")).code == 0
    again = await alice.gloam("login", alice.name, "--password-stdin", "--otp", code, text=f"{PASSWORD}\n")
    assert again.code == FAILED
    assert "code" in again.err


async def test_an_invite_makes_exactly_one_device(shared_stage: Any) -> None:
    perimeter = shared_stage.perimeter
    await perimeter.add_user("bob")
    invite = (await perimeter.admin_json("invite", "bob"))["invite"]
    clients = [await perimeter.add_client("bob", name=f"bob-{each}", enrol=False) for each in range(4)]
    done = await asyncio.gather(*(client.gloam("enrol", invite) for client in clients))
    assert sorted(each.code == 0 for each in done) == [False, False, False, True], [each.err for each in done]
    late = await (await perimeter.add_client("bob", name="bob-late", enrol=False)).gloam("enrol", invite)
    assert late.code != 0
    assert sum(device["user"] == "bob" for device in await perimeter.admin_json("device", "list")) == 1


@pytest.mark.parametrize("damage", ["forged", "truncated", "nonsense"])
async def test_an_invite_that_is_not_one(shared_stage: Any, damage: str) -> None:
    perimeter = shared_stage.perimeter
    await perimeter.add_user(f"carol-{damage}")
    invite = (await perimeter.admin_json("invite", f"carol-{damage}"))["invite"]
    text = {"forged": invite[:-24] + invite[-24:][::-1], "truncated": invite[:-10], "nonsense": "hello"}[damage]
    carol = await perimeter.add_client(f"carol-{damage}", enrol=False)
    done = await carol.gloam("enrol", text, seconds=40)
    assert done.code in (FAILED, USAGE, UNREACHABLE)
    assert len(done.err.strip().splitlines()) == 1
    assert not [each for each in await perimeter.admin_json("device", "list") if each["user"] == carol.name]


async def test_curl_is_a_tunnel_client(shared_stage: Any, tool: Callable[[str], str]) -> None:
    curl = tool("curl")
    alice = await shared_stage.person()
    options = (await alice.gloam("knock", "wiki")).out.split()
    page = await finish([curl, "-sS", *options, "--proxytunnel", "http://wiki:80/"])
    assert (page.code, page.out) == (0, "<h1>The wiki nobody can see</h1>\n"), page.err

    options = (await alice.gloam("knock", "wiki")).out.split()
    refused = await finish([curl, "-sS", "-v", *options, "--proxytunnel", "http://payroll:80/"])
    assert re.search(r"^< HTTP/1.1 403", refused.err, re.MULTILINE), refused.err
    assert re.search(r"^< Proxy-Status: gloam; error=", refused.err, re.MULTILINE | re.IGNORECASE)

    await alice.gloam("knock", "wiki")
    missing = await finish([curl, "-sS", "-v", *options, "--proxytunnel", "http://nowhere:80/"])
    assert re.search(r"^< HTTP/1.1 404", missing.err, re.MULTILINE), missing.err
