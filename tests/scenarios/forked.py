"""Commands in processes forked from one that has imported everything: a second of imports once, not for each of thirty.

Each is a process of its own, with its own arguments, environment and exit code; only the interpreter's start is shared.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lab.processes import Finished

SECONDS = 60
LONGEST_ANSWER = 1 << 20

SERVER = """
import importlib, json, os, sys, tempfile
commands = {"gloam-controller": "controller.cli", "gloam-gateway": "gateway.cli"}
for module in ("controller.run", "gateway.run", *commands.values()):
    importlib.import_module(module)
for line in sys.stdin:
    asked = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            for number, file in enumerate((open(os.devnull), out, err)):
                os.dup2(file.fileno(), number)
            os.environ.update(asked["environ"])
            sys.argv = asked["argv"]
            importlib.import_module(commands[sys.argv[0]]).main()
            os._exit(70)  # main exits
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    print(json.dumps([code, *texts]), flush=True)
"""


class Forks:
    """Runs `gloam-controller` and `gloam-gateway`, one after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, name: str, *arguments: str, **variables: str) -> Finished:
        """The command to its end, with nothing on its standard input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked: dict[str, Any] = {"argv": [name, *arguments], "environ": variables}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        async with asyncio.timeout(SECONDS):
            return Finished(*json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def forks() -> AsyncIterator[Forks]:
    """The process they are forked from; it ends with this context, and what it ran last with it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_ANSWER,
        start_new_session=True,
    )
    try:
        yield Forks(process)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
