"""A perimeter: one controller, gateways, hidden resources and clients, each a process of its own, in one directory.

Everything is done with the commands people use; the lab knows no back door. `async with Perimeter()` tears all down,
whatever happened inside, and afterwards no process, socket or file of it is left.
"""

import asyncio
import contextlib
import copy
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from console.address import HostPort
from gateway.status import ask
from lab.addresses import CONTROLLER, GATEWAYS, KNOCK_PORT, RESOURCES, TLS_PORT, USER, Addresses, Block, place
from lab.authenticator import Authenticator
from lab.here import run_here
from lab.processes import Finished, LabError, Process, Spawn, execute, finish, script
from spa.cloak.nftables import remove_table
from spa.errors import CloakError

DOMAIN = "example.test"
PASSWORD = "correct horse battery staple"  # noqa: S105 - of people who live for a minute


class Client:
    """A person's machine: a state directory, and the `gloam` command over it."""

    def __init__(self, name: str, state: Path, env: Mapping[str, str], block: Addresses, spawn: Spawn) -> None:
        self.name = name
        self._block = block
        self._spawn = spawn
        self.state = state
        self.authenticator: Authenticator | None = None
        self._env = {**env, "GLOAM_STATE": str(state)}
        self._forwards: list[Process] = []

    def argv(self, *arguments: str) -> list[str]:
        """The command line of `gloam` with these arguments."""
        return self._block.at(USER, [script("gloam"), *arguments])

    async def gloam(self, *arguments: str, text: str | None = None, seconds: float = 60) -> Finished:
        """Run `gloam` with these arguments to its end."""
        return await finish(self.argv(*arguments), text=text, env=self._env, seconds=seconds, spawn=self._spawn)

    def with_environment(self, env: Mapping[str, str]) -> "Client":
        """The same machine, whose commands have these variables as well."""
        same = copy.copy(self)
        same._env = {**self._env, **env}  # noqa: SLF001 - our own
        return same

    async def json(self, *arguments: str, text: str | None = None) -> Any:
        """Run `gloam … --json` and read its document. Raises LabError unless it succeeded."""
        return _document(await self.gloam(*arguments, "--json", text=text), f"gloam {arguments[0]}")

    async def login(self, user: str, password: str = PASSWORD) -> Any:
        """Log in; the first time, set up the authenticator the controller asks for."""
        arguments = ("login", user, "--password-stdin")
        if self.authenticator is None:
            offer = await self.gloam(*arguments, "--json", text=f"{password}\n")
            self.authenticator = Authenticator(_uri_in(offer))
        code = await self.authenticator.code()
        return await self.json(*arguments, "--otp", code, text=f"{password}\n")

    async def forward(self, resource: str, *options: str, listen: str = "127.0.0.1:0") -> tuple[Process, str, int]:
        """A running `gloam forward`, and the host and port it listens on."""
        process = await Process.start(
            f"forward {resource} of {self.name}",
            self.argv("forward", resource, "--listen", listen, "--json", *options),
            log=self.state / f"forward-{resource.replace(':', '-').replace('/', '-')}.log",
            env=self._env,
            awaited=b'"listen"',
            spawn=self._spawn,
        )
        self._forwards.append(process)
        line = await process.ready()
        at = HostPort.parse(json.loads(line)["listen"])
        return process, at.host, at.port

    async def tear_down(self) -> None:
        """Stop the forwards that still run, and the agent in the background."""
        stops = (forward.stop() for forward in self._forwards)
        await asyncio.gather(*stops, self.gloam("logout", seconds=20), return_exceptions=True)


def _uri_in(offer: Finished) -> str:
    """The provisioning URI in the answer to a first login."""
    with contextlib.suppress(ValueError):
        document = json.loads(offer.out)
        for ask in document.get("asks", []):
            if ask["type"] == "totp_enrolment":
                return str(ask["uri"])
    raise LabError(f"the first login offered no authenticator: {offer.out}{offer.err}")


def _document(finished: Finished, command: str) -> Any:
    if finished.code != 0:
        raise LabError(f"`{command}` exited {finished.code}: {finished.err or finished.out}")
    return finished.json if finished.out.strip() else None


class Perimeter:
    """Made empty; `start_controller`, `add_gateway`, `add_resource`, `add_client` fill it.

    `admin_here`: administrators' commands run in this process (lab/here.py) instead of one each. `block`: its
    addresses, of the loopback network unless others are given. `spawn`: how its processes are started.
    """

    def __init__(
        self,
        *,
        cloak: str = "auto",
        database: str | None = None,
        settings: Mapping[str, str] | None = None,
        gateway_settings: Mapping[str, str] | None = None,
        admin_here: bool = False,
        block: Addresses | None = None,
        spawn: Spawn = execute,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gloam-lab-"))
        self.block: Addresses = block or Block()
        self.cloak = cloak
        self.processes: dict[str, Process] = {}
        self.clients: dict[str, Client] = {}
        self.gateways: dict[str, str] = {}
        self._gateway_numbers: dict[str, int] = {}
        self._database = database
        self._settings = dict(settings or {})
        self._gateway_settings = dict(gateway_settings or {})
        self._resources = 0
        self._admin_here = admin_here
        self._spawn = spawn

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.tear_down())

    # --- controller ---------------------------------------------------------------------------------------------

    @property
    def controller_state(self) -> Path:
        """The controller's state directory."""
        return self.directory / "controller"

    @property
    def controller_address(self) -> str:
        """The controller's address."""
        return self.block.address(CONTROLLER)

    async def init_controller(self) -> Finished:
        """`gloam-controller init`."""
        argv = [
            script("gloam-controller"), "init", "--state", str(self.controller_state), "--domain", DOMAIN,
            "--listen", place(self.controller_address, TLS_PORT),
            "--knock", place(self.controller_address, KNOCK_PORT),
        ]  # fmt: skip
        if self._database:
            argv += ["--database", self._database]
        argv.append("--json")
        return await finish(argv, env=self._settings, spawn=self._spawn)

    async def start_controller(self, **settings: str) -> Process:
        """`gloam-controller run`, after `init` the first time; returns once it is ready."""
        if not self.controller_state.exists():
            _document(await self.init_controller(), "gloam-controller init")
        env = {**self._settings, "GLOAM_CLOAK": self.cloak, **settings}
        argv = [script("gloam-controller"), "run", "--state", str(self.controller_state)]
        process = await self._start("controller", self.block.at(CONTROLLER, argv), env)
        await process.ready()
        return process

    async def admin(self, *arguments: str, text: str | None = None) -> Finished:
        """Run an administrator's command to its end."""
        command = [*arguments, "--state", str(self.controller_state)]
        if self._admin_here:
            from controller.cli import app

            return await run_here(app, "gloam-controller", command, text)
        return await finish([script("gloam-controller"), *command], text=text, env=self._settings, spawn=self._spawn)

    async def admin_json(self, *arguments: str, text: str | None = None) -> Any:
        """Run an administrator's command with `--json` and read its document. Raises LabError unless it succeeded."""
        return _document(
            await self.admin(*arguments, "--json", text=text), f"gloam-controller {' '.join(arguments[:2])}"
        )

    # --- gateways and resources ---------------------------------------------------------------------------------

    async def add_gateway(self, name: str, *, start: bool = True) -> Process | None:
        """Register a gateway, let it join, and start it."""
        number = GATEWAYS + len(self.gateways)
        address = self.gateways[name] = self.block.address(number)
        self._gateway_numbers[name] = number
        invite = await self.admin_json(
            "gateway", "add", name, "--tunnel", place(address, TLS_PORT), "--knock", place(address, KNOCK_PORT)
        )
        argv = [script("gloam-gateway"), "join", invite["invite"], "--state", str(self.gateway_state(name)), "--json"]
        joined = await finish(self.block.at(number, argv), env=self._gateway_settings, spawn=self._spawn)
        _document(joined, "gloam-gateway join")
        return await self.start_gateway(name) if start else None

    def gateway_state(self, name: str) -> Path:
        """A gateway's state directory."""
        return self.directory / f"gateway-{name}"

    async def start_gateway(self, name: str, **settings: str) -> Process:
        """`gloam-gateway run`; returns once it is ready."""
        argv = [script("gloam-gateway"), "run", "--state", str(self.gateway_state(name)), "--cloak", self.cloak]
        argv = self.block.at(self._gateway_numbers[name], argv)
        process = await self._start(f"gateway-{name}", argv, {**self._gateway_settings, **settings})
        await process.ready()
        return process

    async def gateway_status(self, name: str) -> Any:
        """What `gloam-gateway status --json` says."""
        return await asyncio.to_thread(ask, self.gateway_state(name))

    async def start_hidden(self, name: str, kind: str = "http") -> str:
        """Start a resource's server; returns its HOST:PORT."""
        return (await self.start_hidden_row(name, kind, 1))[0]

    async def start_hidden_row(self, name: str, kind: str, count: int) -> list[str]:
        """Start one server for `count` resources, each at an address of its own; returns their HOST:PORT."""
        numbers = range(self._resources, self._resources + count)
        self._resources += count
        targets = [place(self.block.address(RESOURCES + number % 100), 9_000 + number) for number in numbers]
        argv = [sys.executable, "-m", "lab.hidden", kind, *targets]
        await (await self._start(f"resource-{name}", self.block.at(RESOURCES + numbers[0] % 100, argv), {})).ready()
        return targets

    async def add_resource(
        self, name: str, *, gateways: Sequence[str], kind: str = "http", port: int = 80, target: str | None = None
    ) -> str:
        """Start a hidden server (unless `target` is one) and register it; returns its HOST:PORT."""
        target = target or await self.start_hidden(name, kind)
        chosen = [argument for gateway in gateways for argument in ("--gateway", gateway)]
        await self.admin_json("resource", "add", name, *chosen, "--target", target, "--port", str(port))
        return target

    # --- people -------------------------------------------------------------------------------------------------

    async def add_user(self, name: str, *, groups: Sequence[str] = (), password: str = PASSWORD) -> None:
        """Register a person."""
        chosen = [argument for group in groups for argument in ("--group", group)]
        await self.admin_json("user", "add", name, *chosen, "--password-stdin", text=f"{password}\n")

    async def add_client(
        self, user: str, *, name: str | None = None, enrol: bool = True, env: Mapping[str, str] | None = None
    ) -> Client:
        """A machine for `user`, enrolled with a fresh invite; `env` is the environment of all its commands."""
        name = name or user
        client = Client(name, self.directory / f"client-{name}", env or {}, self.block, self._spawn)
        self.clients[name] = client
        if enrol:
            invite = await self.admin_json("invite", user)
            await client.json("enrol", invite["invite"])
        return client

    # --- the end ------------------------------------------------------------------------------------------------

    async def _start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Process:
        log = self.directory / f"{name}.log"
        process = await Process.start(name, argv, log=log, env=env, spawn=self._spawn)
        self.processes[name] = process
        return process

    async def tear_down(self) -> None:
        """Stop everything, agents in the background included, and remove the directory."""
        try:
            await asyncio.gather(*(client.tear_down() for client in self.clients.values()))
            order = sorted(self.processes, key=lambda name: (name == "controller", name))  # the controller last
            await asyncio.gather(*(self.processes[name].stop() for name in order if name != "controller"))
            if controller := self.processes.get("controller"):
                await controller.stop()
        finally:
            self._end_strays()
            self._remove_tables()
            self.block.release()
            shutil.rmtree(self.directory, ignore_errors=True)

    def strays(self) -> list[psutil.Process]:
        """Processes that still name this perimeter's directory on their command line or in GLOAM_STATE."""
        return [process for process in psutil.process_iter() if process.pid != os.getpid() and self._mine(process)]

    def _mine(self, process: psutil.Process) -> bool:
        here = str(self.directory)
        try:
            return any(here in part for part in process.cmdline()) or here in process.environ().get("GLOAM_STATE", "")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False

    def _remove_tables(self) -> None:
        """What the nftables cloak of a killed process leaves behind, so that its port stays dark."""
        with contextlib.suppress(CloakError):  # nothing to remove where tables cannot be had
            for host in (self.controller_address, *self.gateways.values()):
                remove_table(host, TLS_PORT)

    def _end_strays(self) -> None:
        for process in self.strays():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
