"""What a running gateway says of itself, on a Unix socket: one JSON document a connection.

1. Only the gateway's own user and root are answered: the socket is 0600, and the kernel says who connected.
2. It only tells. Nothing can be changed through it.
3. It shows no key and no secret.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from console.errors import CommandError, ExitCode
from console.local import listen_privately, may_speak, named
from console.output import Output, counted, plain
from gateway.config import STATUS_SOCKET

DEADLINE: Final = 5.0
"""Seconds an asker has to take the document, and a command to get it."""

Document = dict[str, Any]


class StatusServer:
    """Answers `document()` on `STATE/status.sock` between `start` and `close`."""

    def __init__(self, state: Path, document: Callable[[], Awaitable[Document]]) -> None:
        self._path = state / STATUS_SOCKET
        self._document = document
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens. A socket file that a killed gateway left behind is replaced."""
        self._server = await asyncio.start_unix_server(self._answer, sock=listen_privately(self._path))

    async def close(self) -> None:
        """Stops listening and removes the socket."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            if may_speak(writer.get_extra_info("socket")):
                writer.write(json.dumps(await self._document(), default=plain).encode())
                async with asyncio.timeout(DEADLINE):
                    await writer.drain()
        writer.close()


def ask(state: Path) -> Document:
    """The document of the gateway that runs on `state`. Raises CommandError."""
    path = state / STATUS_SOCKET
    chunks: list[bytes] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(DEADLINE)
            with named(path) as address:
                sock.connect(address)
            while chunk := sock.recv(65_536):
                chunks.append(chunk)
    except PermissionError as error:
        raise CommandError(f"{path} is not yours to ask", "run this as the gateway's user, or as root") from error
    except TimeoutError as error:
        what = f"the gateway on {state} did not answer within {DEADLINE:.0f} s"
        raise CommandError(what, "see its log", ExitCode.UNREACHABLE) from error
    except OSError as error:
        fix = f"start it with: gloam-gateway run --state {state}"
        raise CommandError(f"no gateway runs on {state}", fix, ExitCode.UNREACHABLE) from error
    if not chunks:
        raise CommandError("the gateway did not answer", "run this as the gateway's user, or as root")
    try:
        document: Document = json.loads(b"".join(chunks))
    except ValueError as error:
        what = f"the answer of the gateway on {state} was cut short"
        raise CommandError(what, "see its log", ExitCode.UNREACHABLE) from error
    return document


def describe(document: Document, output: Output) -> None:
    """The document for a person."""
    link, cloak, certificate = document["link"], document["cloak"], document["certificate"]
    state = "draining" if document["draining"] else "ready" if document["ready"] else "not ready"
    output.say(f"gateway {document['gateway']} of {document['domain']}: {state}, up since {document['since']}")
    output.say(f"listens on {document['listen']}, knocks on {document['knock']}")
    output.say(f"cloak: {cloak['name']} ({cloak['why']})")
    if trouble := cloak["trouble"]:
        output.say(f"cloak, at {trouble['at']}: {trouble['detail']}")
    output.say(f"link: {_link(link)}")
    problem = f"; not renewed yet: {certificate['problem']}" if certificate["problem"] else ""
    output.say(
        f"certificate: {certificate['name']} until {certificate['expires']}, "
        f"renewed by itself from {certificate['renewal_due']} on{problem}"
    )
    rows = [
        [each["user"], each["session"], each["seconds_left"], each["resources"] or "nothing"]
        for each in document["leases"]
    ]
    output.table(counted(len(rows), "lease"), ["USER", "SESSION", "SECONDS LEFT", "MAY REACH"], rows)
    rows = [
        [
            *(each[key] for key in ("resource", "protocol", "session", "source", "target", "bytes_up", "bytes_down")),
            each["dropped"] if each["protocol"] == "udp" else "",
        ]
        for each in document["tunnels"]
    ]
    columns = ["RESOURCE", "PROTOCOL", "SESSION", "FROM", "TARGET", "UP", "DOWN", "DROPPED"]
    output.table(counted(len(rows), "tunnel"), columns, rows)
    rows = [
        [each["pid"], each["connections"], each["cpu_seconds"], each["memory_bytes"] // 2**20, each["since"]]
        for each in document["workers"]
    ]
    output.table(counted(len(rows), "worker"), ["PID", "CONNECTIONS", "CPU SECONDS", "MEMORY MIB", "SINCE"], rows)
    rows = [[each["source"], each["for"]] for each in document["windows"]]
    output.table(counted(len(rows), "open window"), ["SOURCE", "FOR"], rows)
    output.say("counters: " + ", ".join(f"{name} {count}" for name, count in document["counters"].items()))


def _link(link: Document) -> str:
    waiting = f"; waiting to be sent: {counted(link['reports_waiting'], 'report')}" if link["reports_waiting"] else ""
    if link["up"]:
        return (
            f"up with {link['controller']} since {link['since']}, {counted(link['applied'], 'change')} applied{waiting}"
        )
    left = link["outage_left_seconds"]
    ends = "" if left is None else f"; the last lease ends in {left:.0f} s"
    return f"DOWN since {link['since']}: {link['problem'] or 'connecting'}{ends}{waiting}"
