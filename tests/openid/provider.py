"""The certified OpenID provider `oidc-provider` (npm) on loopback: installed from its lock file, then a process."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, Self

import pytest

from lab.processes import die_with_parent

HERE: Final = Path(__file__).parent / "provider"
CLIENT, SECRET = "gloam", "a secret/with + signs"
INSTALL_SECONDS: Final = 300


def installed() -> Path:
    """A directory with the provider and everything it needs; skips the test where there is no node or npm."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: apt-get install nodejs npm")
    lock = (HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gloam-tests"
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / f"openid-{hashlib.sha256(lock).hexdigest()[:16]}"
    with (cache / "openid.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # tests run in several processes: one installs
        if not (directory / "installed").exists():
            directory.mkdir(exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, directory)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]
            done = subprocess.run(
                command, cwd=directory, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
            )
            assert done.returncode == 0, done.stderr
            (directory / "installed").touch()
        shutil.copy(HERE / "server.mjs", directory)  # beside what it imports
    return directory


class OpenIdProvider:
    """A running provider. Made by `await OpenIdProvider.start()`."""

    def __init__(self, process: asyncio.subprocess.Process, issuer: str) -> None:
        self.issuer = issuer
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        directory = await asyncio.to_thread(installed)
        process = await asyncio.create_subprocess_exec(
            "node", "server.mjs", CLIENT, SECRET,
            cwd=directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(60):
            return cls(process, (await _answer(process.stdout))["issuer"])

    async def do(self, what: str, **more: Any) -> None:
        """Has it do something (server.mjs says what there is); returns once it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")
        async with asyncio.timeout(30):
            assert await _answer(self._process.stdout) == {"done": what}

    async def account(self, name: str, *, groups: tuple[str, ...] = (), amr: tuple[str, ...] = ("pwd",)) -> None:
        """A person there, whose password is their name backwards."""
        claims = {"groups": list(groups), "preferred_username": name}
        await self.do("account", name=name, password=name[::-1], claims=claims, amr=list(amr))

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def _answer(stdout: asyncio.StreamReader) -> dict[str, Any]:
    """The next line of ours; the library's notices go to the same place."""
    while not (line := await stdout.readline()).startswith(b"{"):
        assert line, "the provider has ended"
    answer: dict[str, Any] = json.loads(line)
    return answer
