"""A process that has imported all of gloam and forks the commands of the stories (forked.py).

Each command is a process of its own, with its own arguments, environment, standard streams, session and exit code; only
the start of the interpreter, half a second of CPU, is shared. It has imported and done nothing else: no thread runs.

Its standard input is a listening Unix socket of type SEQPACKET. Each connection is one command: a JSON object `argv`,
`environ`, `module` with the three standard streams as descriptors; answered with its process id and, at its end, with
its exit code as `asyncio.subprocess` counts them.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

PACKAGES = ("client", "controller", "gateway", "lab", "console", "wire", "spa", "certs")
DRIVERS = ("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.asyncpg")
LONGEST = 1 << 17
PR_SET_PDEATHSIG = 1


def load() -> None:
    """Imports every module there is."""
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for found in pkgutil.walk_packages(path, f"{package}."):
            if not found.name.endswith("__main__") and ".migrations" not in found.name:  # which Alembic runs
                importlib.import_module(found.name)
    for driver in DRIVERS:
        importlib.import_module(driver)
    if threading.active_count() != 1:
        raise RuntimeError(f"a module starts threads when imported: {threading.enumerate()}")
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket) -> dict[str, Any]:
    """Forks a process for each connection, and returns only there: what it was asked to be."""
    running: dict[int, tuple[int, socket.socket]] = {}
    with listener, selectors.DefaultSelector() as watched:
        watched.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in watched.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    text, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
                    pid = os.fork()
                    if not pid:
                        for descriptor, (_, other) in running.items():
                            os.close(descriptor)
                            other.close()
                        connection.close()
                        become(streams)
                        return dict(json.loads(text))
                    for each in streams:
                        os.close(each)
                    ended = os.pidfd_open(pid)
                    running[ended] = pid, connection
                    watched.register(ended, selectors.EVENT_READ)
                    connection.send(str(pid).encode())
                else:
                    pid, connection = running.pop(key.fd)
                    watched.unregister(key.fd)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with connection, contextlib.suppress(OSError):  # whoever asked may be gone
                        connection.send(str(code).encode())


def become(streams: list[int]) -> None:
    """In the child: a session of its own, which ends with the server's, and these standard streams."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def main() -> None:
    load()
    asked = serve(socket.socket(fileno=os.dup(0)))
    os.environ.clear()
    os.environ.update(asked["environ"])
    time.tzset()
    sys.argv = asked["argv"]
    try:
        runpy.run_module(asked["module"], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    else:
        code = 0
    # As an interpreter ends, but for clearing away all modules, which would copy every page of them first.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
