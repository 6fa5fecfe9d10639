"""What an administrator or a person gets wrong: one line that says what and what to do, and nothing touched.

Each story runs the commands people type. A refusal is exactly one line on standard error, its exit code is the one
docs/cli promises, and the state directory has every byte it had before.
"""

import contextlib
import hashlib
import os
import re
import socket
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.addresses import KNOCK_PORT, TLS_PORT, Block
from lab.perimeter import Perimeter
from lab.processes import Finished, Spawn, finish, script
from tests.scenarios.intruder import environment

FAILED, USAGE, UNREACHABLE = 1, 2, 3
NEVER_STATE = frozenset({"run.lock", "agent.lock"})  # held by who runs, empty, and there from the first run on


def tree(directory: Path) -> dict[str, tuple[int, str]]:
    """Every file below: its mode and the hash of what is in it."""
    found: dict[str, tuple[int, str]] = {}
    for path in sorted(directory.rglob("*")):
        if path.name in NEVER_STATE:
            assert path.stat().st_size == 0
            continue
        status = path.lstat()
        plain = stat.S_ISREG(status.st_mode)
        found[str(path.relative_to(directory))] = (
            status.st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if plain else "",
        )
    return found


@contextlib.contextmanager
def untouched(directory: Path) -> Iterator[None]:
    before = tree(directory)
    yield
    assert tree(directory) == before


def one_line(done: Finished, code: int, *words: str) -> str:
    """The line of a refusal, which has all these words in it."""
    assert done.code == code, done
    assert done.out == "", done
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert re.fullmatch(r"gloam(-controller|-gateway)?: .+; .+", lines[0]), done.err
    for word in words:
        assert word in lines[0], (word, lines[0])
    return lines[0]


Command = Callable[..., Awaitable[Finished]]


@pytest.fixture
def command(spawn: Spawn) -> Command:
    async def run(name: str, *arguments: str, **variables: str) -> Finished:
        """The command to its end, with nothing on its standard input."""
        return await finish([script(name), *arguments], env=variables, spawn=spawn)

    return run


@pytest.fixture
def block() -> Iterator[Block]:
    made = Block()
    yield made
    made.release()


class Made:
    """A controller that has been initialised, and does not run."""

    def __init__(self, state: Path, host: str, command: Command) -> None:
        self.command = command
        self.state = state
        self.listen = f"{host}:{TLS_PORT}"
        self.knock = f"{host}:{KNOCK_PORT}"
        self.host = host

    async def init(self, *options: str, **variables: str) -> Finished:
        where = ("--listen", self.listen, "--knock", self.knock)
        return await self.command(
            "gloam-controller",
            "init",
            "--state",
            str(self.state),
            "--domain",
            "example.test",
            *where,
            *options,
            **variables,
        )

    async def run(self, **variables: str) -> Finished:
        return await self.command("gloam-controller", "run", "--state", str(self.state), **variables)


@pytest.fixture
async def made(tmp_path: Path, block: Block, command: Command) -> Made:
    controller = Made(tmp_path / "controller", block.address(1), command)
    assert (await controller.init()).code == 0
    return controller


@contextlib.contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(bits)
    yield
    path.chmod(before)


@contextlib.contextmanager
def taken(kind: socket.SocketKind, host: str, port: int) -> Iterator[None]:
    """Somebody else has this port."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((host, port))
        if kind is socket.SOCK_STREAM:
            sock.listen()
        yield


def rewritten(path: Path, old: str, new: str) -> "contextlib.AbstractContextManager[None]":
    @contextlib.contextmanager
    def change() -> Iterator[None]:
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1))
        yield
        path.write_text(before)

    return change()


async def test_a_controller_says_in_one_line_why_it_does_not_start(
    made: Made, tmp_path: Path, command: Command
) -> None:
    state, config = made.state, made.state / "config.toml"
    with untouched(tmp_path):
        nowhere = tmp_path / "nowhere"
        one_line(await command("gloam-controller", "run", "--state", str(nowhere)), FAILED, str(nowhere), "init")
        one_line(await made.init(), FAILED, "already", "--state")
        for kind, host, port in ((socket.SOCK_STREAM, made.host, TLS_PORT), (socket.SOCK_DGRAM, made.host, KNOCK_PORT)):
            with taken(kind, host, port):
                one_line(await made.run(), FAILED, f"{host}:{port}", "in use", "another port")
        one_line(await made.run(GLOAM_MASTER_KEY="A" * 43), FAILED, "master key", "put back")
        one_line(await made.run(GLOAM_MASTER_KEY="A" * 42), FAILED, "GLOAM_MASTER_KEY", "43 characters")
        away = "postgresql://gloam:hush@127.0.0.1:1/gloam"
        assert "hush" not in one_line(await made.run(GLOAM_DATABASE=away), UNREACHABLE, "does not answer", "check that")
        one_line(await made.run(GLOAM_DATABASE="mysql://localhost/gloam"), FAILED, "GLOAM_DATABASE", "correct it")
        one_line(await made.run(GLOAM_LISTEN="here"), FAILED, "GLOAM_LISTEN", "correct it")
        one_line(await made.run(GLOAM_LISTEM="192.0.2.1:1"), FAILED, "GLOAM_LISTEM", "did you mean GLOAM_LISTEN?")
        one_line(
            await made.run(GLOAM_LISTEN="192.0.2.77:8443"), FAILED, "192.0.2.77:8443", "an address of this machine"
        )
        one_line(await made.run(GLOAM_CLOAK="invisibility"), FAILED, "GLOAM_CLOAK", "correct it")
        master = state / "master.key"
        with mode(master, 0o644):
            one_line(await made.run(), FAILED, "may be read by others", f"chmod 600 {master}")
        with mode(state, 0o755):
            one_line(await made.run(), FAILED, "may be entered by others", f"chmod 700 {state}")
        with rewritten(config, "listen =", "lisen ="):
            one_line(await made.run(), FAILED, "unknown key lisen", "did you mean listen?")
        with rewritten(config, "domain =", "domain :"):
            one_line(await made.run(), FAILED, str(config), "not TOML")
        with rewritten(config, 'session_lifetime = "10m"', 'session_lifetime = "soon"'):
            one_line(await made.run(), FAILED, "session_lifetime", "correct it")
        hidden = master.rename(state / "master.kept")
        one_line(await made.run(), FAILED, "missing", "backup")
        hidden.rename(master)
        one_line(await command("gloam-controller", "run", "--sate", str(state)), USAGE, "--sate", "--help")
        one_line(
            await command("gloam-controller", "user", "list", "--state", str(state)), UNREACHABLE, "not running", "run"
        )


async def test_a_database_of_a_newer_gloam_or_of_nobody(made: Made, tmp_path: Path, command: Command) -> None:
    path = made.state / "gloam.db"
    good = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999_from_the_future'")
    with untouched(tmp_path):
        one_line(await made.run(), FAILED, "newer gloam", "9999_from_the_future", "upgrade")
        verified = await command("gloam-controller", "audit", "verify", "--state", str(made.state))
        one_line(verified, FAILED, "newer gloam")
    for name, content in {
        "no database at all": b"hello" * 1000,
        "a damaged one": good[:100] + b"\xff" * 8_000 + good[8_100:],
    }.items():
        path.write_bytes(content)
        with untouched(tmp_path):
            assert one_line(await made.run(), FAILED, str(path), "backup"), name
    path.unlink()
    with untouched(tmp_path):
        one_line(await made.run(), FAILED, str(path), "init")


async def test_an_init_that_fails_leaves_nothing(tmp_path: Path, block: Block, command: Command) -> None:
    controller = Made(tmp_path / "controller", block.address(1), command)
    away = "postgresql://gloam:hush@127.0.0.1:1/gloam"
    with untouched(tmp_path):
        one_line(await controller.init("--database", away), UNREACHABLE, "does not answer")
        one_line(await controller.init("--database", "mysql://localhost/gloam"), USAGE, "--database", "--help")
        one_line(await controller.init("--advertise", "here"), USAGE, "--advertise", "--help")
        one_line(await controller.init(GLOAM_MASTER_KEY="short"), FAILED, "GLOAM_MASTER_KEY", "43 characters")
        one_line(await controller.init("--domian", "x"), USAGE, "--domian", "--help")
    somebody = tmp_path / "somebody"
    somebody.mkdir(mode=0o700)
    (somebody / "thesis.txt").write_text("years of work")
    wide = tmp_path / "wide"
    wide.mkdir()
    wide.chmod(0o755)
    with untouched(tmp_path):
        one_line(await Made(somebody, controller.host, command).init(), FAILED, "not empty", "--state")
        one_line(await Made(wide, controller.host, command).init(), FAILED, "may be entered by others", "chmod 700")


@pytest.fixture
async def standing() -> AsyncIterator[Perimeter]:
    """A controller and a gateway that run, and alice, who is enrolled."""
    async with Perimeter() as perimeter:
        await perimeter.start_controller()
        await perimeter.add_gateway("edge")
        await perimeter.add_user("alice")
        await perimeter.add_client("alice")
        yield perimeter


UNPRIVILEGED = ("setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin")


async def test_a_cloak_that_was_asked_for_and_is_not_permitted_stops_the_start(
    made: Made, tmp_path: Path, as_root: None, tool: Callable[[str], str]
) -> None:
    """It says what to grant, and nothing is left: no port, no table, no file."""
    tool("setpriv")
    run = (script("gloam-controller"), "run", "--state", str(made.state))
    for cloak in ("nftables", "socket-filter"):
        with untouched(tmp_path):
            done = await finish([*UNPRIVILEGED, *run], env={"GLOAM_CLOAK": cloak})
            one_line(done, FAILED, f"the {cloak} cloak does not work here", "CAP_NET_ADMIN")


async def test_gateway_and_client_say_in_one_line_what_is_wrong(standing: Perimeter, command: Command) -> None:
    perimeter = standing
    await perimeter.processes["gateway-edge"].stop()
    gateway, alice = perimeter.gateway_state("edge"), perimeter.clients["alice"]
    run = ("gloam-gateway", "run", "--state", str(gateway))
    host = perimeter.gateways["edge"]
    with untouched(gateway):
        nowhere = perimeter.directory / "nowhere"
        one_line(await command("gloam-gateway", "run", "--state", str(nowhere)), FAILED, str(nowhere), "join")
        one_line(await command("gloam-gateway", "run", "--state", str(alice.state)), FAILED, str(alice.state), "join")
        for name in ("gateway.key", "knock.secret"):
            with mode(gateway / name, 0o640):
                one_line(await command(*run), FAILED, "may be read by others", f"chmod 600 {gateway / name}")
        with mode(gateway, 0o711):
            one_line(await command(*run), FAILED, "may be entered by others", f"chmod 700 {gateway}")
        with rewritten(gateway / "config.toml", "knock =", "knok ="):
            one_line(await command(*run), FAILED, "unknown key", "knok", "did you mean knock?")
        one_line(await command(*run, "--cloak", "invisibility"), USAGE, "'--cloak'", "--help")
        if os.geteuid() == 0:
            denied = [*UNPRIVILEGED, script(run[0]), *run[1:], "--cloak", "nftables"]
            one_line(await finish(denied), FAILED, "nftables cloak does not work here", "CAP_NET_ADMIN")
        one_line(
            await command("gloam-gateway", "status", "--state", str(gateway)), UNREACHABLE, "no gateway runs", "run"
        )
    with untouched(alice.state):
        one_line(await alice.gloam("enrol", "hello"), USAGE, "not an invite", "paste")
        for name in ("device.key", "knock.secret"):
            with mode(alice.state / name, 0o644):
                asked = await alice.gloam("login", "alice", "--password-stdin", text="any\n")
                told = asked.err.splitlines()
                assert (asked.code, len(told)) == (FAILED, 1), asked
                assert "may be read by others" in told[0], asked
                await alice.gloam("logout")
                for left in ("agent.log", "ended.json"):
                    (alice.state / left).unlink(missing_ok=True)
        with mode(alice.state, 0o755):
            one_line(await alice.gloam("status"), FAILED, "may be entered by others", f"chmod 700 {alice.state}")
        one_line(await alice.gloam("connect", "wiki"), FAILED, "not logged in", "gloam login")
    for kind, port in ((socket.SOCK_STREAM, TLS_PORT), (socket.SOCK_DGRAM, KNOCK_PORT)):
        with taken(kind, host, port), untouched(gateway):
            done = await command(*run)
            assert done.code == FAILED, done
            last = done.err.splitlines()[-1]  # its link is up by then, which the log says
            assert f"{host}:{port}" in last, done.err
            assert "another port" in last, done.err
            assert "Traceback" not in done.err


async def test_one_state_has_one_controller_one_gateway_and_one_agent(make_stage: Any, command: Command) -> None:
    async with make_stage() as stage:
        perimeter = stage.perimeter
        alice = await stage.person()
        controller, gateway = perimeter.controller_state, perimeter.gateway_state("edge")
        elsewhere = {"GLOAM_LISTEN": "127.0.0.1:0", "GLOAM_KNOCK": "127.0.0.1:0", "GLOAM_ADVERTISE": "127.0.0.1:1"}
        for name, state, variables in (
            ("gloam-controller", controller, {}),
            ("gloam-controller", controller, {**elsewhere, "GLOAM_ADVERTISE_KNOCK": "127.0.0.1:1"}),
            ("gloam-gateway", gateway, {}),
            ("gloam-gateway", gateway, {"GLOAM_LISTEN": "127.0.0.1:0", "GLOAM_KNOCK": "127.0.0.1:0"}),
        ):
            second = await command(name, "run", "--state", str(state), **variables)
            one_line(second, FAILED, f"runs on {state} already", "stop it first")
        one_line(
            await command(
                "gloam-controller", "init", "--state", str(controller), "--domain", "example.test",
                "--listen", "127.0.0.1:1", "--knock", "127.0.0.1:1",
            ),
            FAILED, "already",
        )  # fmt: skip
        agent = (await alice.json("status"))["agent"]
        second = await finish([script("gloam"), "agent"], env={**environment(), "GLOAM_STATE": str(alice.state)})
        assert second.code == 0, second  # it is not needed, and goes
        assert "Traceback" not in second.err
        # The first ones have noticed nothing: all of them answer, and a tunnel goes through.
        assert (await alice.json("status"))["agent"] == agent
        assert (await perimeter.admin_json("status"))["gateways"] == {"edge": "up"}
        assert (await perimeter.gateway_status("edge"))["ready"]
        echoed = await alice.gloam("connect", "echo", text="still here\n")
        assert (echoed.code, echoed.out) == (0, "still here\n"), echoed
        assert all(perimeter.processes[each].running for each in ("controller", "gateway-edge"))
