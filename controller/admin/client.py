"""The commands' end of the administration socket: one request, one document (or a stream of them).

It waits and uses nothing but the standard library, so that a command starts fast.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from console.errors import CommandError, ExitCode
from console.local import named

SOCKET = "admin.sock"
WAIT_SECONDS = 60
_CODES: dict[int, ExitCode] = {
    http.HTTPStatus.SERVICE_UNAVAILABLE: ExitCode.UNREACHABLE,
    http.HTTPStatus.UNPROCESSABLE_ENTITY: ExitCode.USAGE,
}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("controller", timeout=WAIT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with named(self._path) as address:
            self.sock.connect(address)


def call(state: Path, command: str, **arguments: Any) -> Any:
    """The document the controller answers `command` with. Raises CommandError, with the controller's own sentence."""
    connection, response = _ask(state, command, arguments)
    try:
        return json.loads(response.read())
    finally:
        connection.close()


def stream(state: Path, command: str, **arguments: Any) -> Iterator[Any]:
    """The documents the controller answers `command` with, one a line, as they come."""
    connection, response = _ask(state, command, arguments)
    try:
        if connection.sock is not None:
            connection.sock.settimeout(None)  # a stream is silent as long as nothing happens
        while line := response.readline():
            if line.strip():
                yield json.loads(line)
    finally:
        connection.close()


def _ask(state: Path, command: str, arguments: dict[str, Any]) -> tuple[_UnixConnection, http.client.HTTPResponse]:
    path = state / SOCKET
    if not state.exists():
        raise CommandError(
            f"there is no controller state in {state}", "name it with --state, or run gloam-controller init"
        )
    connection = _UnixConnection(path)
    try:
        connection.request("POST", f"/{command}", json.dumps(arguments), {"Content-Type": "application/json"})
        response = connection.getresponse()
    except PermissionError as error:
        raise CommandError(
            f"{path} is not yours to use", "run this as the user the controller runs as, or root"
        ) from error
    except TimeoutError as error:
        raise CommandError("the controller did not answer in time", "see its log", ExitCode.UNREACHABLE) from error
    except (OSError, http.client.HTTPException) as error:
        fix = f"start it: gloam-controller run --state {state}"
        raise CommandError("the controller is not running", fix, ExitCode.UNREACHABLE) from error
    if response.status != http.HTTPStatus.OK:
        try:
            refusal = json.loads(response.read())
            code = _CODES.get(response.status, ExitCode.FAILED)
            raise CommandError(refusal["sentence"], refusal["fix"] or "see gloam-controller --help", code)
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"the controller answered {response.status}", "see the controller's log") from error
        finally:
            connection.close()
    return connection, response
