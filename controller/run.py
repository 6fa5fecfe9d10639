"""The process of a controller: from its state directory to its exit code.

1. What cannot be done now (port in use, wrong master key, database away) ends the start with one line and nothing
   half-open.
2. SIGTERM drains: the door closes, live requests end, gateways are told, the audit log is flushed. A second one stops
   at once.
"""

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path

import structlog

from console.descriptors import allow_many
from console.errors import CommandError, ExitCode
from console.state import only_one
from controller.assembly import Controller
from controller.config import ControllerSettings, load_controller_settings
from controller.storage.opening import open_storage

log = structlog.get_logger("controller")


def serve(state: Path, environ: Mapping[str, str]) -> int:
    """Run the controller of `state` until it is told to stop; the exit code. Raises CommandError."""
    settings = load_controller_settings(state, environ)
    allow_many()
    try:
        with only_one(state, "controller"), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(state, settings, environ))
    except asyncio.CancelledError:
        log.warning("stopped at once")
        return ExitCode.FAILED


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Uvloop where it exists (measured.md: a tenth to a fifth less CPU), else asyncio's own."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.Loop
    return None


async def _serve(state: Path, settings: ControllerSettings, environ: Mapping[str, str]) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop() -> None:
        if stopping.is_set() and task is not None:
            task.cancel()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with await open_storage(state, settings, environ) as storage:
        controller = await Controller.assemble(settings, storage)
        loop.add_signal_handler(signal.SIGHUP, _reload, state, dict(environ), settings)
        async with controller.serving(state):
            await stopping.wait()
            log.info("stopping")
    return 0


def _reload(state: Path, environ: Mapping[str, str], settings: ControllerSettings) -> None:
    """SIGHUP: say whether the configuration on disk is good; a restart is what puts it into force."""
    try:
        fresh = load_controller_settings(state, environ)
    except CommandError as error:
        log.error("configuration refused, the old one stays", reason=error.what, fix=error.fix)
        return
    log.info("configuration read", changed=fresh != settings, note="restart to put changes into force")
