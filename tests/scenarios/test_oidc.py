"""People log in at a certified OpenID provider, in a browser or by a code typed elsewhere; and what follows from it."""

import asyncio
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
import pytest_asyncio

from lab.authenticator import Authenticator
from lab.perimeter import PASSWORD, Client
from lab.processes import Process
from lab.visitor import fetch
from tests.openid import browser
from tests.openid.provider import CLIENT, SECRET, OpenIdProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")

DENIED = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def corp(shared_stage: Any) -> AsyncIterator[OpenIdProvider]:
    """The provider, registered as `corp`; its Engineering are engineers here, who may reach the wiki."""
    provider = await OpenIdProvider.start()
    perimeter = shared_stage.perimeter
    await perimeter.admin_json("group", "add", "engineers")
    await perimeter.admin_json("grant", "add", "--group", "engineers", "--resource", "wiki")
    added = await perimeter.admin(
        "provider", "add", "corp", "--issuer", provider.issuer, "--client-id", CLIENT, "--client-secret-stdin",
        "--scope", "openid", "--scope", "offline_access", "--scope", "profile", "--scope", "groups",
        "--groups-claim", "groups", "--group", "Engineering=engineers", "--mfa-amr", "mfa", "--recheck", "1s",
        "--create-users", text=f"{SECRET}\n",
    )  # fmt: skip
    assert added.code == 0, added.err
    yield provider
    await provider.stop()


def opens(name: str, program: str = "browser.py") -> dict[str, str]:
    """The environment of somebody whose browser logs in at the provider under this name."""
    script = Path(browser.__file__).with_name(program)
    return {"BROWSER": f"{shlex.join([sys.executable, str(script), name, name[::-1]])} %s"}


async def person(stage: Any, name: str, program: str = "browser.py") -> Client:
    """A user without groups, with a machine, who is the same at the provider."""
    await stage.perimeter.add_user(name)
    await stage.perimeter.admin_json("user", "link", name, "--provider", "corp", "--subject", name)
    made: Client = await stage.perimeter.add_client(name, env=opens(name, program))
    return made


async def until_denied(client: Client) -> str:
    """What `gloam connect wiki` says once it is refused."""
    async with asyncio.timeout(60):
        while (done := await client.gloam("connect", "wiki", text="")).code == 0:
            pass
    return done.err


async def test_in_the_browser_and_the_providers_groups_count(shared_stage: Any, corp: OpenIdProvider) -> None:
    await corp.account("ada", groups=("Engineering",), amr=("pwd", "mfa"))
    ada = await person(shared_stage, "ada")
    login = await ada.json("login", "--oidc")
    assert (login["status"], login["user"]) == ("done", "ada")
    forward, host, port = await ada.forward("wiki")
    assert (await fetch(host, port))[0] == 200
    await forward.stop()
    assert (await ada.gloam("connect", "payroll", text="")).code == DENIED
    [event] = await shared_stage.events("login.succeeded", user="ada")
    assert event["methods"] == ["fed", "mfa"]

    await corp.do("rotate")  # its keys are others now, and the old ones are gone
    assert (await ada.json("login", "--oidc", "corp"))["status"] == "done"

    await corp.account("ada", groups=(), amr=("pwd", "mfa"))
    assert "wiki" in await until_denied(ada)
    assert (await ada.json("status"))["logged_in"]

    await corp.do("disable", name="ada")
    async with asyncio.timeout(60):
        while (status := await ada.json("status"))["logged_in"]:
            pass
    assert status["ended"]["sentence"] == "the identity provider corp no longer confirms your login"


async def test_a_redirect_with_a_wrong_state_is_refused_told_and_audited(
    shared_stage: Any, corp: OpenIdProvider
) -> None:
    await corp.account("finn", amr=("pwd", "mfa"))
    finn = await person(shared_stage, "finn")
    argv = finn.argv("login", "--oidc", "--json")
    env = {"GLOAM_STATE": str(finn.state), "BROWSER": "true %s"}  # a browser that only opens
    command = await Process.start("wrong state", argv, log=finn.state / "oidc.log", env=env, awaited=b'"done"')
    url = await command.said("response_type=code")
    (redirect,) = parse_qs(urlsplit(url).query)["redirect_uri"]
    with pytest.raises(HTTPError, match="400"):
        await asyncio.to_thread(urlopen, f"{redirect}?code=stolen&state={'x' * 43}", timeout=30)
    assert "it was refused, and the login goes on" in await command.said("Something came back")
    async with asyncio.timeout(60):
        while not (refused := await shared_stage.events("login.refused", user="finn")):
            pass
    assert [each["code"] for each in refused] == ["redirect_state"]
    await asyncio.to_thread(browser.visit, url, "finn", "nnif")
    await command.ready(60)
    assert await command.wait() == 0


async def test_in_real_chromium(shared_stage: Any, corp: OpenIdProvider) -> None:
    for tool in ("chromium", "chromedriver"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: apt-get install chromium chromium-driver")
    await corp.account("eve", groups=("Engineering",), amr=("pwd", "mfa"))
    eve = await person(shared_stage, "eve", "chromium.py")
    assert (await eve.json("login", "--oidc"))["user"] == "eve"
    done = await eve.gloam("connect", "wiki", text="GET / HTTP/1.0\r\n\r\n")
    assert "The wiki" in done.out, done.err


async def test_by_a_code_typed_elsewhere(shared_stage: Any, corp: OpenIdProvider) -> None:
    await corp.account("bea", groups=("Engineering",), amr=("pwd", "mfa"))
    bea = await person(shared_stage, "bea")
    argv = bea.argv("login", "--oidc", "--device-code", "--json")
    env = {"GLOAM_STATE": str(bea.state)}
    command = await Process.start("device code", argv, log=bea.state / "device.log", env=env, awaited=b'"done"')
    code = (await command.said("type there")).rpartition(" ")[2]
    page = await asyncio.to_thread(browser.visit, f"{corp.issuer}/device", "bea", "aeb", code)
    assert "Success" in page
    await command.ready(60)
    assert await command.wait() == 0
    done = await bea.gloam("connect", "wiki", text="GET / HTTP/1.0\r\n\r\n")
    assert "The wiki" in done.out, done.err


async def test_the_first_login_on_an_invited_machine_makes_the_user(shared_stage: Any, corp: OpenIdProvider) -> None:
    await corp.account("cleo", groups=("Engineering",), amr=("pwd", "mfa"))
    perimeter = shared_stage.perimeter
    machine = await perimeter.add_client("nobody", name="cleo", enrol=False, env=opens("cleo"))
    invite = await perimeter.admin_json("invite", "--provider", "corp")
    await machine.json("enrol", invite["invite"])
    nobody = await machine.gloam("login", "--password-stdin", text="x\n")
    assert "gloam login --oidc" in nobody.err
    assert (await machine.json("login", "--oidc"))["user"] == "cleo@corp"
    done = await machine.gloam("connect", "wiki", text="GET / HTTP/1.0\r\n\r\n")
    assert "The wiki" in done.out, done.err
    people = {each["name"]: each["groups"] for each in await perimeter.admin_json("user", "list")}
    assert people["cleo@corp"] == ["engineers"]
    assert (await machine.json("login", "--oidc"))["user"] == "cleo@corp"

    # For a day without the provider: another way in, set up by its word.
    offer = await machine.json("authenticator", "--oidc")
    machine.authenticator = Authenticator(offer["totp_uri"])
    await machine.json("authenticator", "--confirm", await machine.authenticator.code())
    assert len((await machine.json("backup-codes", "--oidc"))["backup_codes"]) == 10
    await perimeter.admin("user", "set", "cleo@corp", "--password-stdin", text=f"{PASSWORD}\n")
    assert (await machine.login("cleo@corp"))["user"] == "cleo@corp"


async def test_administrators_see_providers_and_take_them_away(shared_stage: Any, corp: OpenIdProvider) -> None:
    await corp.account("fay", amr=("pwd", "mfa"))
    fay = await person(shared_stage, "fay")
    await fay.json("login", "--oidc")
    perimeter = shared_stage.perimeter
    shown = await perimeter.admin("provider", "show", "corp")
    assert "Engineering" in shown.out
    assert SECRET not in shown.out
    assert [each["name"] for each in await perimeter.admin_json("provider", "list")] == ["corp"]
    assert [each["subject"] for each in await perimeter.admin_json("user", "links", "fay")] == ["fay"]
    unlinked = await perimeter.admin_json("user", "unlink", "fay", "--provider", "corp")
    assert unlinked["sessions_ended"] == 1
    refused = await fay.gloam("login", "--oidc")
    assert "this login at the provider does not count here" in refused.err
    assert (await shared_stage.events("login.refused"))[-1]["code"] == "identity_unknown"
    missing = await perimeter.admin(
        "provider", "add", "two", "--issuer", "http://login.example.com", "--client-id", "x"
    )
    assert "the issuer is not https" in missing.err


async def test_an_outage_is_told_and_passwords_still_work(shared_stage: Any, corp: OpenIdProvider) -> None:
    await corp.account("dora", amr=("pwd", "mfa"))
    dora = await person(shared_stage, "dora")
    await corp.do("close")
    refused = await dora.gloam("login", "--oidc")
    assert refused.code == 1
    assert "the identity provider corp does not answer at present" in refused.err
    assert "gloam login works without it" in refused.err
    await dora.login("dora", PASSWORD)
    assert (await dora.json("status"))["logged_in"]
    await corp.do("open")
    assert (await dora.json("login", "--oidc"))["status"] == "done"
    reasons = [event["code"] for event in await shared_stage.events("login.refused")]
    assert "provider_unreachable" in reasons
