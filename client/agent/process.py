"""How a command finds the agent, or starts it.

Laws:

1. The agent is a session leader with no terminal: closing the terminal it was started from does not touch it.
2. The command that starts it waits on a pipe, not on a clock: the agent writes a byte once it listens, or the pipe
   ends.
3. Nothing secret is on a command line or in the environment; credentials come over the socket.
"""

import asyncio
import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import client
from client.agent.messages import Answer, Call
from client.agent.socket import NoAgent, ask
from client.config import OTP_VARIABLE, PASSWORD_VARIABLE
from client.state import ClientState
from console.errors import CommandError

START_DEADLINE: Final = 20.0
"""Seconds until a new agent listens: importing takes one on a busy machine."""
ATTEMPTS: Final = 3
"""An agent that ends between our finding it and its answer is replaced; more than twice in a row is no chance."""
LOG_LINES: Final = 3


async def call_agent(state: ClientState, asked: Call, *, deadline: float, start: bool) -> Answer:
    """The agent's answer; `start` starts an agent where none runs, otherwise NoAgent is raised."""
    for _attempt in range(ATTEMPTS):
        try:
            return await ask(state.agent_socket, asked, deadline)
        except NoAgent:
            if not start:
                raise
        await asyncio.to_thread(start_agent, state)
    fix = f"look into {state.agent_log}"
    raise CommandError("the agent ends as soon as it is started", fix)


def start_agent(state: ClientState) -> None:
    """Starts an agent in a session of its own and returns once it listens. Raises CommandError if it does not."""
    state.make()
    state.unlock()  # what a keyring asks or refuses, it does here, where somebody reads it;
    state.session()  # and so is what a damaged session says
    descriptor = os.open(state.agent_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    reading, writing = os.pipe()
    try:
        os.fchmod(descriptor, 0o600)
        root = str(Path(client.__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-P", "-m", "client.cli", "agent", "--state", str(state.directory)]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, "--ready", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            env={**_without_secrets(os.environ), "PYTHONPATH": os.pathsep.join(paths)},
            pass_fds=(writing,),
            start_new_session=True,
        )
    finally:
        os.close(writing)
        os.close(descriptor)
    try:
        readable, _, _ = select.select([reading], [], [], START_DEADLINE)
        started = bool(readable) and os.read(reading, 1) == b"+"
    finally:
        os.close(reading)
    if not started:
        process.poll()
        raise CommandError(f"the agent did not start{_last_words(state.agent_log)}", f"look into {state.agent_log}")
    # It lives on without us: the interpreter must not warn that nobody waits for it.
    process.returncode = 0


def _without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what automation logs in with: the agent outlives the login (law 3)."""
    return {name: value for name, value in environ.items() if name not in {PASSWORD_VARIABLE, OTP_VARIABLE}}


def _last_words(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="backslashreplace").strip().splitlines()[-LOG_LINES:]
        if lines:
            return f" ({' / '.join(lines)})"
    return ""
