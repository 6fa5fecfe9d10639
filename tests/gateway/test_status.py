"""`gloam-gateway status` when the gateway answers late, half, or not at all."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.status
from console.errors import CommandError, ExitCode
from console.local import listen_privately
from gateway.config import STATUS_SOCKET
from gateway.status import ask


@contextlib.contextmanager
def answering(state: Path, answer: bytes, until: threading.Event) -> Iterator[None]:
    """A gateway's status socket that says `answer` and hangs up once `until` is set."""
    listener = listen_privately(state / STATUS_SOCKET)
    listener.settimeout(None)

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as sock:
            sock.sendall(answer)
            until.wait(60)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        until.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def refused(state: Path) -> CommandError:
    with pytest.raises(CommandError) as error:
        ask(state)
    assert error.value.code is ExitCode.UNREACHABLE
    return error.value


def test_a_slow_gateway_is_not_told_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.status, "DEADLINE", 0.1)
    with answering(tmp_path, b'{"ready":', threading.Event()):
        error = refused(tmp_path)
    assert "did not answer within" in error.what
    assert error.fix == "see its log"


def test_an_answer_cut_short_is_said_to_be_one(tmp_path: Path) -> None:
    gone = threading.Event()
    gone.set()
    with answering(tmp_path, b'{"ready": tr', gone):
        assert "cut short" in refused(tmp_path).what


def test_where_no_gateway_runs_the_fix_is_to_start_one(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert "no gateway runs" in error.what
    assert f"run --state {tmp_path}" in error.fix
