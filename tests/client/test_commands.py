"""The commands as processes, their agent as a process, against a perimeter of real sockets in this one."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import client
from client.state import ClientState
from tests.client.perimeter import Perimeter
from wire.invite import encode_invite
from wire.messages import Renew, Revoked

ROOT = Path(client.__file__).parent.parent
LOGIN = ("login", "ada", "--password-stdin", "--otp", "123456")


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Gloam:
    """Runs commands on one state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = ClientState(directory)
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), "GLOAM_STATE": str(directory)}
        self._started: list[asyncio.subprocess.Process] = []

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "client.cli",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environ,
            cwd=self.directory.parent,
        )
        self._started.append(process)
        return process

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def log_in(self) -> Done:
        return await self(*LOGIN, "--json", stdin=b"correct horse\n")

    async def agent(self) -> psutil.Process:
        return psutil.Process((await self("status", "--json")).document["agent"])

    async def close(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.terminate()
                await process.communicate()
        await self("logout")


Make = Callable[[str], Gloam]


@pytest.fixture
async def make(perimeter: Perimeter, tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Gloam] = []

    def make(name: str) -> Gloam:
        made.append(Gloam(tmp_path / name))
        return made[-1]

    yield make
    for gloam in made:
        await gloam.close()


@pytest.fixture
async def gloam(perimeter: Perimeter, make: Make) -> Gloam:
    """An enrolled device."""
    found: Gloam = make("state")
    perimeter.device_state(found.directory)
    return found


async def test_from_an_invite_to_bytes_and_out_again(perimeter: Perimeter, make: Make) -> None:
    gloam = make("state")
    enrolled = await gloam("enrol", encode_invite(perimeter.controller.invite()), "--json")
    assert enrolled.code == 0, enrolled.err
    assert enrolled.document["user"] == "ada"

    perimeter.controller.answers.totp_enrolled = False
    first = await gloam("login", "--password-stdin", "--json", stdin=b"correct horse\n")
    assert first.code == 1
    assert first.document["totp_uri"].startswith("otpauth://")
    assert "--otp" in json.loads(first.err)["fix"]

    perimeter.controller.answers.totp_enrolled = True
    done = await gloam.log_in()
    assert done.code == 0, done.err
    assert done.document["status"] == "done"
    assert [each["name"] for each in done.document["resources"]] == ["wiki", "vault"]

    connected = await gloam("connect", "wiki", stdin=b"hello")
    assert (connected.code, connected.out) == (0, "HELLO<END>"), connected.err

    out = await gloam("logout", "--json")
    assert out.document == {"logged_out": True, "told": True}
    assert (await gloam("logout", "--json")).document == {"logged_out": False, "told": False}
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
    assert {each.document["agent"] for each in again} == {agent.pid}

    other = make("other")
    perimeter.device_state(other.directory)
    done = await other.log_in()
    assert done.code == 0, (done.err, perimeter.controller.door.counters)
    assert (await other.agent()).pid != agent.pid


async def test_a_killed_agent_is_replaced_and_its_session_taken_up(gloam: Gloam) -> None:
    assert (await gloam.log_in()).code == 0
    session = (await gloam("status", "--json")).document["session"]["session"]
    agent = await gloam.agent()
    agent.kill()
    agent.wait()
    connected = await gloam("connect", "wiki", stdin=b"x")
    assert (connected.code, connected.out) == (0, "X<END>"), connected.err
    after = (await gloam("status", "--json")).document
    assert after["session"]["session"] == session
    assert after["agent"] != agent.pid


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        (("login", "ada"), b"", 2, "--password-stdin"),
        (("login", "ada", "--password-stdin"), b"\n", 1, "empty"),
        (("login", "ada", "--password-stdin"), b"wrong\n", 1, "wrong user name or password"),
        (("login", "ada", "--password-stdin"), b"correct horse\n", 1, "--otp"),
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
    listed = (await gloam("resources", "--json")).document
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


async def _forward(gloam: Gloam, *arguments: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    process = await gloam.start("forward", "wiki", "--json", *arguments)
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, (await process.communicate())[1]
    return process, json.loads(line)


async def _exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, received = await asyncio.gather(send(), reader.read())
    writer.close()
    await writer.wait_closed()
    return received


async def test_forward_carries_many_connections_and_large_ones(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    process, listening = await _forward(gloam)
    assert (listening["resource"], listening["resource_port"]) == ("wiki", 80)
    assert listening["listen"] == f"127.0.0.1:{listening['port']}"
    many = await asyncio.gather(*(_exchange(listening["port"], b"n%d" % number) for number in range(40)))
    assert many == [b"N%d<END>" % number for number in range(40)]
    large = os.urandom(3_000_000).replace(b"<", b"_")
    assert await _exchange(listening["port"], large) == large.upper() + b"<END>"
    process.terminate()
    assert await process.wait() == 0
    assert perimeter.gateways[0].peers[0].kind == "session"


async def test_a_port_in_use_is_an_error_with_a_fix(gloam: Gloam) -> None:
    await gloam.log_in()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = await gloam("forward", "wiki", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == 1
    assert "--listen" in done.err


async def test_a_forward_outlives_renewals_and_ends_connections_with_the_session(
    gloam: Gloam, perimeter: Perimeter
) -> None:
    from datetime import timedelta

    perimeter.controller.answers.lifetime = timedelta(seconds=4)
    await gloam.log_in()
    process, listening = await _forward(gloam)
    await perimeter.controller.wait_for(Renew, 1)
    perimeter.controller.answers.lifetime = timedelta(minutes=5)
    await perimeter.controller.wait_for(Renew, 2)
    assert await _exchange(listening["port"], b"still") == b"STILL<END>"

    await perimeter.controller.tell(Revoked(code="admin", sentence="revoked by root", fix="ask root"))
    while (await gloam("status", "--json")).document["logged_in"]:
        pass
    with pytest.raises(ConnectionResetError):
        await _exchange(listening["port"], b"gone")
    assert process.stderr is not None
    assert b"revoked by root; ask root" in await process.stderr.readline()
    status = await gloam("status")
    assert status.code == 0
    assert "revoked by root" in status.out
    assert (await gloam("connect", "wiki")).code == 4


async def test_a_cut_tunnel_is_a_reset_and_a_failure(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    _process, listening = await _forward(gloam)
    reader, writer = await asyncio.open_connection("127.0.0.1", listening["port"])
    writer.write(b"x")
    assert await reader.read(1) == b"X"
    piped = await gloam.start("connect", "wiki")
    assert piped.stdin is not None
    assert piped.stdout is not None
    piped.stdin.write(b"y")
    assert await piped.stdout.read(1) == b"Y"
    for relay in perimeter.gateways[0].relays:
        relay.cut("revoked")
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    assert await piped.wait() == 1
    assert await piped.stderr.read() != b""  # type: ignore[union-attr]


async def test_connect_half_closes_both_ways(gloam: Gloam, tmp_path: Path) -> None:
    await gloam.log_in()
    piped = await gloam.start("connect", "wiki:80")
    assert piped.stdin is not None
    assert piped.stdout is not None
    piped.stdin.write(b"before")
    assert await piped.stdout.readexactly(6) == b"BEFORE"
    piped.stdin.write_eof()
    assert await piped.stdout.read() == b"<END>"
    assert await piped.wait() == 0
    assert (await gloam("connect", "wiki:81")).code == 1


async def test_connect_reads_plain_files(gloam: Gloam, tmp_path: Path) -> None:
    await gloam.log_in()
    data = os.urandom(500_000).lower()
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "client.cli", "connect", "wiki", stdin=stdin, stdout=stdout, env=gloam._environ
        )
        assert await process.wait() == 0
    assert (tmp_path / "out").read_bytes() == data.upper() + b"<END>"


async def test_knock_opens_the_door_for_curl(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    knocked = await gloam("knock", "wiki", "--json")
    assert knocked.code == 0, knocked.err
    document = knocked.document
    assert document["proxy"] == f"https://127.0.0.1:{perimeter.gateways[0].door.bound_listen.port}"
    assert document["options"][0] == "--proxytunnel"
    kept = {each.name for each in gloam.directory.iterdir()}
    assert {Path(document[name]).name for name in ("cert", "key", "cacert")} <= kept
    assert perimeter.gateways[0].admission.admitted > 0
    human = await gloam("knock", "wiki")
    assert human.out.startswith("--proxytunnel --proxy https://127.0.0.1:")
    assert human.out.count("\n") == 1


async def test_status_says_who_until_when_and_what_is_wrong(gloam: Gloam, perimeter: Perimeter) -> None:
    nobody = await gloam("status", "--json")
    assert nobody.code == 0
    assert nobody.document["logged_in"] is False
    assert nobody.document["agent"] is None
    await gloam.log_in()
    status = (await gloam("status", "--json")).document
    assert status["logged_in"]
    assert status["user"] == "ada"
    assert [each["name"] for each in status["session"]["gateways"]] == ["edge", "spare"]
    told = (await gloam("status")).out
    assert "ada" in told
    assert "wiki:80" in told
    assert "your login is too old; log in again" in told


async def test_help_shows_examples() -> None:
    gloam = Gloam(Path("/nonexistent/state"))
    for command in ("enrol", "login", "status", "resources", "forward", "connect", "knock", "logout"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "client.cli", command, "--help", stdout=asyncio.subprocess.PIPE, env=gloam._environ
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert "Example: " in out.decode()
        assert "gloam" in out.decode()


async def test_a_person_is_asked_for_what_is_missing(gloam: Gloam, perimeter: Perimeter) -> None:
    perimeter.controller.answers.totp_enrolled = False
    in_terminal = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'client.cli', 'login']) >> 8)"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        in_terminal,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**gloam._environ, "COLUMNS": "200"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked = await process.stdout.readuntil(b"Password of ada: ")
    process.stdin.write(b"correct horse\n")
    shown = await process.stdout.readuntil(b"Code of the authenticator: ")
    process.stdin.write(b"123 456\n")
    rest = await process.stdout.read()
    assert await process.wait() == 0, rest
    assert "\u2580".encode() in shown  # half blocks: the QR code
    assert b"otpauth://totp/" in shown
    assert b"You may reach wiki:80." in rest
    assert b"correct horse" not in asked + shown + rest  # no echo


INTERRUPT = """
import os, pty, sys, termios
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-m", "client.cli", "login"])
shown = b""
for prompt, typed in ((b"Password of ada: ", b"correct horse\\n"), (b"Code of the authenticator: ", None)):
    while not shown.endswith(prompt):
        shown += os.read(terminal, 1024)
    if typed is None or sys.argv[1] == "password":
        break
    os.write(terminal, typed)
os.write(terminal, b"\\x03")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code, bool(termios.tcgetattr(terminal)[3] & termios.ECHO))
"""


@pytest.mark.parametrize("at", ["password", "code"])
async def test_one_interrupt_ends_a_prompt(gloam: Gloam, perimeter: Perimeter, at: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", INTERRUPT, at, stdout=asyncio.subprocess.PIPE, env=gloam._environ
    )
    out, _ = await process.communicate()
    assert out.decode().split() == ["130", "True"]
    assert len(perimeter.controller.logins) == (0 if at == "password" else 1)


async def test_logout_where_nobody_had_logged_in_says_so(gloam: Gloam) -> None:
    assert (await gloam("logout")).out == "Nobody was logged in.\n"
    refused = await gloam("login", "ada", "--password-stdin", stdin=b"wrong\n")
    assert refused.code == 1
    # That login's agent still waits for another attempt.
    done = await gloam("logout", "--json")
    assert done.code == 0
    assert done.document == {"logged_out": False, "told": False}


async def test_a_killed_agents_session_is_taken_up_by_status(gloam: Gloam, perimeter: Perimeter) -> None:
    await gloam.log_in()
    first = await gloam.agent()
    first.send_signal(signal.SIGKILL)
    first.wait()
    status = (await gloam("status", "--json")).document
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
    status = (await gloam("status", "--json")).document
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


@pytest.mark.skipif(not _may_mount(), reason="needs a mount namespace of its own")
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
