"""A command of a person at a terminal, whose standard streams may lead elsewhere meanwhile."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SCRIPT = """
import os, pty, sys
piped, behind, prompt, typed, *argv = sys.argv[1:]
streams = [(number, os.dup(int(number))) for number in piped]
pid, terminal = pty.fork()
if not pid:
    for number, stream in streams:
        os.dup2(stream, int(number))
    if behind:  # whose session the terminal is cannot leave its group, but a child can
        job = os.fork()
        if job:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))
        os.setpgid(0, 0)
    os.execvp(argv[0], argv)
for number, stream in streams:
    os.close(int(number))
    os.close(stream)
shown = b""
try:
    while read := os.read(terminal, 4096):
        os.write(2, read)
        shown += read
        if typed and prompt.encode() in shown:
            os.write(terminal, typed.encode())
            typed = ""
except OSError:  # nobody has it open any more
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@dataclass(frozen=True)
class Typed:
    """What the person types once `prompt` is shown."""

    prompt: str
    text: str


async def at_terminal(
    argv: Sequence[str], answer: Typed, *, env: Mapping[str, str], piped: str = "01", behind: bool = False
) -> asyncio.subprocess.Process:
    """Runs `argv` at a terminal of its own; the streams of these numbers are this process's, and its standard error
    is what the terminal shows. `behind`: as a job in the background of that terminal."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SCRIPT,
        piped,
        "behind" if behind else "",
        answer.prompt,
        answer.text,
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
    )
