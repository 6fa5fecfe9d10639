"""The controller's end of the administration socket.

1. Only the controller's own user and root may speak: the socket is 0600, and the kernel says who connected.
2. A command is a name, a frozen class of arguments (unknown ones are refused) and a function; there is no other route.
3. Who did it is part of every change: handlers are told the actor.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from console.local import listen_privately, may_speak, peer_uid
from console.output import plain
from controller.errors import Refused, StorageError

log = structlog.get_logger()

BODY_BYTES = 4 * 1024 * 1024  # a policy file is the largest thing an administrator sends


class Arguments(BaseModel):
    """What a command is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Nothing(Arguments):
    """For commands that need no arguments."""


Document = Any


@dataclass(frozen=True, slots=True)
class Command:
    """`answer(arguments, actor)` gives a document; `stream` gives many, one a line. One of the two is there.

    What both are given has been validated as `arguments`, which their own signatures name.
    """

    arguments: type[Arguments]
    answer: Callable[[Any, str], Awaitable[Document]] | None = None
    stream: Callable[[Any, str], AsyncIterator[Document]] | None = None


class AdminServer:
    """Serves `commands` on a Unix socket at `path` between `start` and `close`."""

    def __init__(self, path: Path, commands: dict[str, Command]) -> None:
        self._path = path
        self._commands = commands
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_post("/{command}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def start(self) -> None:
        """Listen. A socket file that a killed controller left behind is replaced."""
        await self._runner.setup()
        await web.SockSite(self._runner, listen_privately(self._path)).start()

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - one a kind of refusal
        transport = request.transport
        peer = transport.get_extra_info("socket") if transport is not None else None
        if not may_speak(peer):
            return _refusal(403, "forbidden", "this socket belongs to the controller's own user", "run it as that user")
        name = request.match_info["command"]
        command = self._commands.get(name)
        if command is None:
            fix = "use the gloam-controller of the version that runs"
            return _refusal(404, "unknown_command", "the controller knows no such command", fix)
        try:
            return await self._carry_out(command, request, f"admin/{peer_uid(peer)}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            what = f"{'.'.join(str(part) for part in first['loc']) or 'arguments'}: {first['msg']}"
            return _refusal(422, "bad_arguments", what, "see the command's --help")
        except web.HTTPRequestEntityTooLarge:
            what = f"that is more than the {BODY_BYTES // 1_048_576} MiB a command takes"
            return _refusal(413, "too_large", what, "give it less")
        except Refused as error:
            return _refusal(422 if error.misused else 409, error.code, error.what, error.fix)
        except StorageError as error:
            return _refusal(503, "storage", error.what, error.fix)
        except ConnectionError:
            raise
        except Exception:  # the edge of the program: logged whole, told without details
            log.exception("administrator's command failed", command=name)
            return _refusal(500, "internal", "the controller could not do it", "see the controller's log")

    async def _carry_out(self, command: Command, request: web.Request, actor: str) -> web.StreamResponse:
        arguments = command.arguments.model_validate_json(await request.read())
        if command.stream is not None:
            return await self._stream(request, command.stream(arguments, actor))
        if command.answer is None:
            raise TypeError("a command without an answer")
        return web.json_response(await command.answer(arguments, actor), dumps=_dumps)

    async def _stream(self, request: web.Request, documents: AsyncIterator[Document]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # whoever was following has gone
            async for document in documents:
                await response.write(_dumps(document).encode() + b"\n")
            await response.write_eof()
        return response


def _dumps(document: Document) -> str:
    return json.dumps(document, default=plain)


def _refusal(status: int, code: str, sentence: str, fix: str) -> web.Response:
    return web.json_response({"code": code, "sentence": sentence, "fix": fix}, status=status)
