"""Alice adds a passkey in Chromium, logs in with it, and loses it to a copy. The controller is dark all along."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from lab.perimeter import PASSWORD, Client
from lab.processes import Process
from tests.scenarios.browser import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    made = await asyncio.to_thread(Browser, tmp_path_factory.mktemp("chromium"))
    yield made
    await asyncio.to_thread(made.close)


async def asking(client: Client, *arguments: str, **environment: str) -> tuple[Process, str]:
    """A `gloam` command that waits for its page, and where that is."""
    process = await Process.start(
        f"gloam {arguments[0]} of {client.name}",
        client.argv(*arguments, "--json"),
        log=client.state / f"{arguments[0]}-{uuid4()}.log",
        env={"GLOAM_STATE": str(client.state), **environment},
        awaited=b"http://localhost:",
    )
    return process, (await process.ready()).strip()


def result(process: Process) -> Any:
    """The document a command ended with."""
    return json.loads("{" + process.log.read_text().partition("\n{")[2])


async def add(client: Client, browser: Browser, name: str, *options: str, **environment: str) -> Any:
    """Adds a passkey of a new authenticator; its document."""
    await asyncio.to_thread(browser.plug_in)
    command, url = await asking(client, "passkey", "add", name, *options, **environment)
    assert await asyncio.to_thread(browser.open, url) == "Add a passkey · gloam"
    await asyncio.to_thread(browser.press)
    assert f"The passkey {name} was added." in await asyncio.to_thread(browser.told, "good")
    assert await command.wait() == 0, command.tail()
    return result(command)


async def test_a_passkey_is_added_and_is_a_login(shared_stage: Any, browser: Browser) -> None:
    alice = await shared_stage.person()
    added = await add(alice, browser, "blue key", "--no-browser")
    listed = await alice.json("passkey", "list")
    assert [(each["id"], each["name"], each["blocked"]) for each in listed] == [(added["id"], "blue key", False)]
    await alice.gloam("logout")

    command, url = await asking(alice, "login", "--passkey", "--no-browser")
    await asyncio.to_thread(browser.know_owner, known=False)
    assert await asyncio.to_thread(browser.open, url) == "Log in to example.test · gloam"
    text = await asyncio.to_thread(browser.text)
    assert "Person\nalice\nPerimeter\nexample.test" in text
    await asyncio.to_thread(browser.press)
    assert "Nothing was confirmed" in await asyncio.to_thread(browser.told, "bad")
    await asyncio.to_thread(browser.know_owner, known=True)
    await asyncio.to_thread(browser.press)
    assert "You are logged in." in await asyncio.to_thread(browser.told, "good")
    assert await command.wait() == 0, command.tail()
    assert result(command)["status"] == "done"

    done = await alice.gloam("connect", "echo:7", text="through the tunnel\n")
    assert (done.code, done.out) == (0, "through the tunnel\n"), done.err
    (event,) = await shared_stage.events("login.succeeded", session=result(command)["session"])
    assert event["methods"] == ["mfa", "webauthn"]
    assert (await shared_stage.events("passkey.added", user=alice.name))[0]["passkey"] == added["id"]
    again = await alice.gloam("passkey", "add", "blue key", "--no-browser")
    assert (again.code, "choose another name" in again.err) == (1, True)
    assert (await alice.json("passkey", "remove", "blue key"))["id"] == added["id"]
    assert await alice.json("passkey", "list") == []


async def test_a_copy_of_a_passkey_is_noticed_and_the_administrator_told(
    shared_stage: Any, browser: Browser, tmp_path: Path
) -> None:
    bob = await shared_stage.person()
    opener, opened = tmp_path / "browser", tmp_path / "opened"
    opener.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    opener.chmod(0o755)
    added = await add(bob, browser, "red key", BROWSER=f"{opener} %s")
    assert opened.read_text().startswith("http://localhost:"), "the system's browser was asked to open it"
    await asyncio.to_thread(browser.go_back)
    command, url = await asking(bob, "login", "--passkey", "--no-browser")
    await asyncio.to_thread(browser.open, url)
    await asyncio.to_thread(browser.press)
    assert "This passkey was not accepted." in await asyncio.to_thread(browser.told, "bad")
    assert await command.wait() == 1
    (event,) = await shared_stage.events("passkey.blocked", user=bob.name)
    assert event["passkey"] == added["id"]
    assert (await shared_stage.events("login.refused", user=bob.name))[-1]["code"] == "passkey_counter_went_back"
    (entry,) = await shared_stage.perimeter.admin_json("passkey", "list", bob.name)
    assert "remove it" in entry["state"]
    assert (await shared_stage.perimeter.admin_json("passkey", "remove", added["id"][:8]))["removed"] is True
    reset = await shared_stage.perimeter.admin("passkey", "reset", bob.name)
    assert reset.out == f"0 passkeys of {bob.name} removed\n"
    told = await shared_stage.perimeter.admin("passkey", "list")
    assert (told.code, bob.name in told.out) == (0, False)
    refused = await bob.gloam("login", "--passkey", "--json")
    assert "no passkey" in refused.err
    assert (await bob.login(bob.name, PASSWORD))["status"] == "done"
