"""The command `gloam` as a process, over one state directory."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import client
from client.state import ClientState

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

    def set(self, **variables: str) -> None:
        """Gives the commands these variables as well."""
        self._environ.update(variables)

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
            start_new_session=True,  # nobody sits there
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
