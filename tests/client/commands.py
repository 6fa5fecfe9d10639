"""The command `gloam` as a process, over one state directory."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil

from client.state import ClientState
from lab.processes import Finished, Spawn, finish, script

LOGIN = ("login", "ada", "--password-stdin", "--otp", "123456")


class Gloam:
    """Runs commands on one state directory."""

    def __init__(self, directory: Path, spawn: Spawn) -> None:
        self.directory = directory
        self._spawn = spawn
        self.state = ClientState(directory)
        self._environ = {**os.environ, "GLOAM_STATE": str(directory)}
        self._started: list[asyncio.subprocess.Process] = []

    def set(self, **variables: str) -> None:
        """Gives the commands these variables as well."""
        self._environ.update(variables)

    async def start(
        self, *arguments: str, stdout: int | IO[bytes] = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        """A command that goes on, and is spoken to."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "client.cli",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env=self._environ,
            cwd=self.directory.parent,
            start_new_session=True,  # nobody sits there
        )
        self._started.append(process)
        return process

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Finished:
        """A command to its end."""
        argv = [script("gloam"), *arguments]
        return await finish(argv, text=stdin.decode(), env=self._environ, spawn=self._spawn)

    async def log_in(self) -> Finished:
        return await self(*LOGIN, "--json", stdin=b"correct horse\n")

    async def agent(self) -> psutil.Process:
        return psutil.Process((await self("status", "--json")).json["agent"])

    async def close(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.terminate()
                await process.communicate()
        await self("logout")


Make = Callable[[str], Gloam]
