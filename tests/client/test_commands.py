"""The commands as processes, their agent as a process, against a perimeter of real sockets in this one."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys

import pytest

from tests.client.commands import Gloam, Make
from tests.client.perimeter import Perimeter
from wire.invite import encode_invite


async def test_from_an_invite_to_bytes_and_out_again(perimeter: Perimeter, make: Make) -> None:
    gloam = make("state")
    enrolled = await gloam("enrol", encode_invite(perimeter.controller.invite()), "--json")
    assert enrolled.code == 0, enrolled.err
    assert enrolled.json["user"] == "ada"

    perimeter.controller.answers.totp_enrolled = False
    first = await gloam("login", "--password-stdin", "--json", stdin=b"correct horse\n")
    assert first.code == 1
    assert first.json["asks"][0]["uri"].startswith("otpauth://")
    assert "--otp" in json.loads(first.err)["fix"]

    perimeter.controller.answers.totp_enrolled = True
    done = await gloam.log_in()
    assert done.code == 0, done.err
    assert done.json["status"] == "done"
    assert [each["name"] for each in done.json["resources"]] == ["wiki", "vault"]

    connected = await gloam("connect", "wiki", stdin=b"hello")
    assert (connected.code, connected.out) == (0, "HELLO<END>"), connected.err

    out = await gloam("logout", "--json")
    assert out.json == {"logged_out": True, "told": True}
    assert (await gloam("logout", "--json")).json == {"logged_out": False, "told": False}
    again = await gloam("connect", "wiki")
    assert (again.code, again.out) == (1, "")
    assert again.err == "gloam: you are not logged in; run gloam login\n"


async def test_the_agent_is_a_private_process_of_its_own(gloam: Gloam, make: Make, perimeter: Perimeter) -> None:
    assert (await gloam.log_in()).code == 0
    agent = await gloam.agent()
    assert os.getsid(agent.pid) == agent.pid != os.getsid(0)
    assert "correct horse" not in " ".join(agent.cmdline())
    assert not any("correct horse" in value for value in agent.environ().values())
    for name in ("agent.sock", "agent.log", "agent.lock", "session.key"):
        assert stat.S_IMODE((gloam.directory / name).stat().st_mode) == 0o600, name
    assert "correct horse" not in gloam.state.agent_log.read_text()

    again = await asyncio.gather(*(gloam("status", "--json") for _ in range(3)))
    assert {each.json["agent"] for each in again} == {agent.pid}

    other = make("other")
    perimeter.device_state(other.directory)
    done = await other.log_in()
    assert done.code == 0, (done.err, perimeter.controller.door.counters)
    assert (await other.agent()).pid != agent.pid


async def test_a_killed_agent_is_replaced_and_its_session_taken_up(gloam: Gloam) -> None:
    assert (await gloam.log_in()).code == 0
    session = (await gloam("status", "--json")).json["session"]["session"]
    agent = await gloam.agent()
    agent.kill()
    agent.wait()
    connected = await gloam("connect", "wiki", stdin=b"x")
    assert (connected.code, connected.out) == (0, "X<END>"), connected.err
    after = (await gloam("status", "--json")).json
    assert after["session"]["session"] == session
    assert after["agent"] != agent.pid


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        (("login", "ada"), b"", 2, "--password-stdin"),
        (("login", "ada", "--password-stdin"), b"\n", 1, "empty"),
        (("login", "ada", "--password-stdin"), b"wrong\n", 1, "wrong user name or password"),
        (("login", "ada", "--password-stdin"), b"correct horse\n", 2, "--otp"),
        (("login", "ada", "--password-stdin", "--otp", "000000"), b"correct horse\n", 1, "wrong code"),
        (("login", "NOT A USER", "--password-stdin"), b"x\n", 2, "form"),
        (("forward", "wiki", "--listen", "nonsense"), b"", 2, "--listen"),
        (("connect", "wi:ki"), b"", 2, "RESOURCE"),
        (("enrol", "nonsense"), b"", 2, "not an invite"),
        (("dance",), b"", 2, "--help"),
    ],
)
async def test_what_is_wrong_is_one_line(
    gloam: Gloam, arguments: tuple[str, ...], stdin: bytes, code: int, says: str
) -> None:
    done = await gloam(*arguments, stdin=stdin)
    assert done.code == code, done.err
    assert says in done.err
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    assert "correct horse" not in done.err


async def test_commands_without_enrolment_say_so(make: Make) -> None:
    gloam = make("nothing")
    for command in (("status",), ("resources",), ("login",), ("connect", "wiki"), ("logout",)):
        done = await gloam(*command)
        assert done.code == 1
        assert "not enrolled" in done.err
        assert "gloam enrol" in done.err
    assert not gloam.directory.exists()


async def test_denials_have_a_sentence_a_fix_and_their_exit_code(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    for command in ("forward", "connect", "knock"):
        denied = await gloam(command, "vault")
        assert denied.code == 4
        assert denied.out == ""
        assert denied.err == "gloam: your login is too old; log in again\n"
    as_json = await gloam("forward", "vault", "--json")
    assert json.loads(as_json.err) == {"error": "your login is too old", "fix": "log in again", "exit": 4}
    listed = (await gloam("resources", "--json")).json
    assert [(each["name"], each["allowed"], each["fix"]) for each in listed] == [
        ("wiki", True, ""),
        ("vault", False, "log in again"),
    ]


async def test_a_gateways_denial_is_explained_by_the_controller(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    perimeter.gateways[0].refusals["wiki"] = (403, "http_request_denied", "no longer permitted")
    bare = await gloam("connect", "wiki")
    assert bare.code == 4
    assert "no longer permitted" in bare.err
    perimeter.controller.answers.explained["wiki"] = perimeter.wiki(
        allowed=False, code="hours", sentence="wiki is open Mon-Fri", fix="come back on Monday"
    )
    explained = await gloam("connect", "wiki")
    assert explained.code == 4
    assert explained.err == "gloam: wiki is open Mon-Fri; come back on Monday\n"


async def test_a_dead_gateway_makes_way_for_the_next(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    await perimeter.gateways[0].door.close()
    connected = await gloam("connect", "wiki", stdin=b"x")
    assert (connected.code, connected.out) == (0, "X<END>"), connected.err
    await perimeter.gateways[1].door.close()
    lost = await gloam("connect", "wiki")
    assert lost.code == 3
    assert "gateway spare does not answer" in lost.err
    assert "(step: knock)" in lost.err


async def test_a_gateway_that_cannot_reach_the_resource_makes_way_too(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    perimeter.gateways[0].refusals["wiki"] = (502, "connection_refused", "the resource refused the connection")
    assert (await gloam("connect", "wiki", stdin=b"x")).out == "X<END>"
    perimeter.gateways[1].refusals["wiki"] = (504, "connection_timeout", "the resource did not answer")
    lost = await gloam("connect", "wiki")
    assert lost.code == 3
    assert "(step: resource)" in lost.err
    assert "the resource did not answer" in lost.err


async def test_status_says_who_until_when_and_what_is_wrong(gloam: Gloam, perimeter: Perimeter) -> None:
    nobody = await gloam("status", "--json")
    assert nobody.code == 0
    assert nobody.json["logged_in"] is False
    assert nobody.json["agent"] is None
    await gloam.log_in()
    status = (await gloam("status", "--json")).json
    assert status["logged_in"]
    assert status["user"] == "ada"
    assert [each["name"] for each in status["session"]["gateways"]] == ["edge", "spare"]
    told = (await gloam("status")).out
    assert "ada" in told
    assert "wiki:80" in told
    assert "your login is too old; log in again" in told


async def test_logout_where_nobody_had_logged_in_says_so(gloam: Gloam) -> None:
    assert (await gloam("logout")).out == "Nobody was logged in.\n"
    refused = await gloam("login", "ada", "--password-stdin", stdin=b"wrong\n")
    assert refused.code == 1
    # That login's agent still waits for another attempt.
    done = await gloam("logout", "--json")
    assert done.code == 0
    assert done.json == {"logged_out": False, "told": False}


async def test_a_killed_agents_session_is_taken_up_by_status(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    first = await gloam.agent()
    first.send_signal(signal.SIGKILL)
    first.wait()
    status = (await gloam("status", "--json")).json
    assert status["logged_in"]
    assert not status["resuming"]
    assert status["agent"] != first.pid
    assert status["session"]["user"] == "ada"


async def test_a_session_that_cannot_be_taken_up_is_not_called_none(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    agent = await gloam.agent()
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    perimeter.controller.answers.attach_status = 503
    status = (await gloam("status", "--json")).json
    assert (status["logged_in"], status["resuming"], status["session"]) == (True, True, None)
    told = (await gloam("status")).out
    assert "taken up again" in told
    assert "not logged in" not in told
    listed = await gloam("resources")
    assert listed.code == 3
    assert "cannot be taken up again" in listed.err


def _may_mount() -> bool:
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and subprocess.run([unshare, "-m", "true"], check=False, capture_output=True).returncode == 0
    )


@pytest.mark.skipif(
    not _may_mount(), reason="needs a mount namespace: run as root, with unshare (apt-get install util-linux)"
)
@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=4", "ro"])
async def test_a_full_or_read_only_disk_costs_no_invite(perimeter: Perimeter, make: Make, options: str) -> None:
    gloam = make("small")
    invite = encode_invite(perimeter.controller.invite())
    gloam.directory.mkdir(mode=0o700)
    script = 'mount -t tmpfs -o "mode=700,$1" tmpfs "$GLOAM_STATE" && exec "$2" -m client.cli enrol "$3"'
    process = await asyncio.create_subprocess_exec(
        *("unshare", "-m", "sh", "-c", script, "sh", options, sys.executable, invite),
        stderr=asyncio.subprocess.PIPE,
        env=gloam._environ,
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"cannot keep what an enrolment brings" in err
    assert b"use the same invite" in err
    assert perimeter.controller.enrolments == []
    assert (await gloam("enrol", invite)).code == 0
