"""The life of the agent's process.

Laws:

1. One agent for each state directory: a lock file decides, and goes with the process however that ends.
2. The socket's name goes before the process does: whoever comes next starts an agent instead of waiting for this one.
"""

import asyncio
import contextlib
import os
import signal
import time
from typing import Final

import structlog

from client.agent.server import serve
from client.agent.service import Agent
from client.agent.socket import listens
from client.state import ClientState, exclusive
from console.local import listen_privately
from console.logs import configure_logs

LOCK_DEADLINE: Final = 10.0
LOCK_PAUSE: Final = 0.05
"""Seconds between looks at a lock whose holder is ending; flock(2) can wait, but not for two things at once."""

log = structlog.get_logger("client.agent")


def run_agent(state: ClientState, ready: int | None, level: str) -> None:
    """The whole life of an agent. `ready` is a descriptor told when it listens; a second agent ends at once."""
    configure_logs(json=False, level=level)
    state.unlock()  # the loop never waits for a keyring
    last_attempt = time.monotonic() + LOCK_DEADLINE
    while True:
        with exclusive(state.agent_lock) as ours:
            if ours:
                asyncio.run(_agent(state, ready))
                return
        # The holder either listens, and then we are not needed, or is on its way out, and then we are next.
        if listens(state.agent_socket) or time.monotonic() > last_attempt:
            log.info("another agent runs for this state directory")
            _tell(ready)
            return
        time.sleep(LOCK_PAUSE)


async def _agent(state: ClientState, ready: int | None) -> None:
    loop = asyncio.get_running_loop()
    agent = Agent(state, os.getpid())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    server = await serve(listen_privately(state.agent_socket), agent.handle)
    log.info("agent ready", pid=os.getpid())
    _tell(ready)
    try:
        await agent.run()
    finally:
        # Gone before the last answer is read: whoever comes next starts a new agent instead of waiting for this one.
        with contextlib.suppress(FileNotFoundError):
            state.agent_socket.unlink()
        server.close()
        await server.wait_closed()
        await _answers_sent()
        log.info("agent ended")


async def _answers_sent() -> None:
    """Lets the connections that are still being answered finish."""
    others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=2)


def _tell(ready: int | None) -> None:
    if ready is not None:
        with contextlib.suppress(OSError):
            os.write(ready, b"+")
            os.close(ready)
