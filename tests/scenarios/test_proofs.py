"""From nothing to a session, and back in again: an authenticator by its QR code, a code, a backup code, once."""

import asyncio
import os
import stat
from typing import Any

import psutil
import pytest
import zxingcpp
from PIL import Image

from lab.authenticator import Authenticator
from lab.perimeter import PASSWORD, Client, Perimeter
from tests.terminal import Typed, at_terminal

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_PASSWORD = "no horse without battery or stapler"
ENVIRONMENT = {"GLOAM_PASSWORD": NEW_PASSWORD}


async def log_in(client: Client, *options: str, password: str = PASSWORD) -> Any:
    return await client.json("login", "--password-stdin", *options, text=f"{password}\n")


async def test_from_nothing_by_qr_code_then_by_code_then_by_backup_code_once(shared_stage: Any) -> None:
    perimeter = shared_stage.perimeter
    alice = await shared_stage.person("paula", login=False)
    png = perimeter.directory / "paula.png"
    first = await alice.gloam("login", "--password-stdin", "--qr-png", str(png), text=f"{PASSWORD}\n")
    assert (first.code, first.err) == (
        1, "gloam: a code of the new authenticator is needed; set it up, then add --otp CODE\n",
    )  # fmt: skip
    assert stat.S_IMODE(png.stat().st_mode) == 0o600
    with Image.open(png) as image:
        [read] = zxingcpp.read_barcodes(image)
    assert read.text.startswith("otpauth://totp/")
    assert read.text in first.out
    authenticator = Authenticator(read.text)

    done = await log_in(alice, "--otp", await authenticator.code())
    codes = done["backup_codes"]
    assert len(codes) == 10
    assert done["backup_codes_left"] == 10
    assert (await alice.json("status"))["session"]["backup_codes_left"] == 10

    again = await log_in(alice, "--otp", await authenticator.code())
    assert "backup_codes" not in again, "they are shown once"
    by_backup = await log_in(alice, "--otp", codes[0])
    assert by_backup["backup_codes_left"] == 9
    refused = await alice.gloam("login", "--password-stdin", "--otp", codes[0], text=f"{PASSWORD}\n")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "gloam: this backup code was used already; take the next one of your list\n"
    assert (await alice.json("status"))["session"]["session"] == by_backup["session"], "the session lives on"
    refusals = await shared_stage.events("login.refused", user="paula")
    assert [each["code"] for each in refusals] == ["backup_code_used"]
    [shown] = [each for each in await perimeter.admin_json("user", "list") if each["name"] == "paula"]
    assert (shown["totp"], shown["backup_codes"]) == (True, 9)

    assert (await perimeter.admin_json("user", "unlock", "paula"))["forgotten"] == 1

    # A step-up makes the same session fresh.
    stepped = await alice.json("login", "--step-up", "--otp", codes[1])
    assert (stepped["stepped_up"], stepped["session"]) == (True, by_backup["session"])
    session = await perimeter.admin_json("session", "show", by_backup["session"])
    assert session["methods"] == ["backup", "mfa", "pwd"]
    await step_up_on_demand(perimeter, alice, codes.pop())
    await replace_everything(alice, codes[2:])


async def step_up_on_demand(perimeter: Perimeter, alice: Client, code: str) -> None:
    """What asks for a fresh proof gets it from whoever sits at the terminal, and carries bytes."""
    await perimeter.admin_json("grant", "add", "--user", "paula", "--resource", "payroll", "--mfa-within", "5s")
    async with asyncio.timeout(60):
        while (denied := await alice.gloam("connect", "payroll")).code != 4:
            assert denied.code == 0, denied.err  # still fresh
    assert denied.err.endswith("s old; prove it again: gloam login --step-up\n")
    asked = Typed("Code of the authenticator (or a backup code): ", f"{code}\n")
    process = await at_terminal(
        alice.argv("connect", "payroll"), asked, env={**os.environ, "GLOAM_STATE": str(alice.state)}
    )
    page, shown = await process.communicate(b"GET / HTTP/1.0\r\n\r\n")
    assert (process.returncode, page[:7]) == (0, b"HTTP/1."), shown


async def replace_everything(alice: Client, codes: list[str]) -> None:
    """Password, authenticator and backup codes, by the person themselves; then by a program."""
    weak = await alice.gloam("password", "--password-stdin", "--otp", codes[0], text=f"{PASSWORD}\npaula1\n")
    assert weak.code == 1
    assert "easily guessed" in weak.err
    await alice.json("password", "--password-stdin", "--otp", codes[0], text=f"{PASSWORD}\n{NEW_PASSWORD}\n")
    offer = await alice.json("authenticator", "--password-stdin", "--otp", codes[1], text=f"{NEW_PASSWORD}\n")
    replaced = Authenticator(offer["totp_uri"])
    mistyped = await alice.gloam("authenticator", "--confirm", "12345")
    assert mistyped.code == 1
    assert mistyped.err.endswith("; within ten minutes: gloam authenticator --confirm CODE\n")
    await alice.json("authenticator", "--confirm", await replaced.code())
    late = await alice.gloam("authenticator", "--confirm", "123456")
    assert (late.code, late.err.endswith("; begin anew: gloam authenticator\n")) == (1, True), late.err
    fresh = await alice.json(
        "backup-codes", "--password-stdin", "--otp", await replaced.code(), text=f"{NEW_PASSWORD}\n"
    )
    old = await alice.gloam("login", "--password-stdin", "--otp", codes[2], text=f"{NEW_PASSWORD}\n")
    assert "not one of your backup codes" in old.err

    # Automation logs in from the environment, is warned, and its agent does not keep what it was given.
    await alice.gloam("logout")
    robot = alice.with_environment({**ENVIRONMENT, "GLOAM_OTP": fresh["backup_codes"][0]})
    told = await robot.gloam("login")
    assert told.code == 0, told.err
    assert [line.split()[2] for line in told.err.splitlines()] == ["GLOAM_PASSWORD", "GLOAM_OTP"]
    agent = psutil.Process((await alice.json("status"))["agent"])
    assert NEW_PASSWORD not in str(agent.environ())


async def test_a_service_needs_nobody_at_the_terminal(shared_stage: Any) -> None:
    perimeter = shared_stage.perimeter
    await perimeter.admin_json("user", "add", "backup-robot", "--service", "--group", "staff")
    robot = await perimeter.add_client("backup-robot")
    done = await robot.json("login")
    assert [each["name"] for each in done["resources"] if each["allowed"]] == ["echo", "wiki"]
    session = await perimeter.admin_json("session", "show", done["session"])
    assert session["methods"] == ["cert"]
    told = await robot.gloam("status")
    assert told.code == 0, told.err
    assert "backup code" not in told.out
    for command in (("login", "--step-up"), ("passkey", "add", "k")):
        refused = await robot.gloam(*command)
        assert (refused.code, "by its device's certificate alone" in refused.err) == (1, True), refused.err
    refused = await robot.gloam("password", "--password-stdin", text="a\nb\n")
    assert "by its device's certificate alone" in refused.err
