"""Running an administrator's command in this process instead of a new one: the same code, without starting Python.

For perimeters that are administered by the hundred (tests). One command at a time: standard streams are the process's.
"""

import asyncio
import contextlib
import io
import os
import sys
import threading

import typer

from console.run import execute
from lab.processes import Finished

_turn = threading.Lock()


async def run_here(app: typer.Typer, prog: str, arguments: list[str], text: str | None) -> Finished:
    """What `prog arguments` prints, and its exit code."""
    return await asyncio.to_thread(_run, app, prog, arguments, text)


def _run(app: typer.Typer, prog: str, arguments: list[str], text: str | None) -> Finished:
    out, err = io.StringIO(), io.StringIO()
    with _turn, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        stdin, sys.stdin = sys.stdin, io.StringIO(text or "")
        try:
            code = execute(app, prog, arguments, environ=os.environ, stderr=err)
        finally:
            sys.stdin = stdin
    return Finished(code, out.getvalue(), err.getvalue())
