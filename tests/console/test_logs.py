import io
import json
import logging
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
import structlog

from console.logs import configure_logs


class Hidden:
    def __repr__(self) -> str:
        return "Secret(…)"


@pytest.fixture
def lines() -> Iterator[Callable[..., list[str]]]:
    """Configures logs on a buffer and answers its lines; puts the process's own logging back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()

    def configured(*, as_json: bool = False, level: str | int = "info") -> Callable[[], list[str]]:
        configure_logs(as_json, level, stream=stream)
        return lambda: stream.getvalue().splitlines()

    yield configured
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_for_people(lines: Callable[..., Callable[[], list[str]]]) -> None:
    read = lines()
    structlog.get_logger("t").info(
        "knock dropped", reason="unknown key", port=443, id=UUID(int=0), empty="", odd=Hidden()
    )
    (line,) = read()
    when, rest = line.split(" ", 1)
    assert when.endswith("Z")
    assert rest == (f'info     knock dropped reason="unknown key" port=443 id={UUID(int=0)} empty="" odd=Secret(…)')


def test_a_line_for_machines(lines: Callable[..., Callable[[], list[str]]]) -> None:
    read = lines(as_json=True)
    structlog.get_logger("t").warning("knock dropped", id=UUID(int=0), odd=Hidden(), name="\x1b\u202e")
    (line,) = read()
    assert line.isascii()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "knock dropped",
        "level": "warning",
        "id": str(UUID(int=0)),
        "odd": "Secret(…)",
        "name": "\x1b\u202e",
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_fields_named_like_secrets_are_masked(lines: Callable[..., Callable[[], list[str]]], *, as_json: bool) -> None:
    read = lines(as_json=as_json)
    structlog.get_logger("t").info(
        "login", password="hunter2", knock_secret="hunter2", otp="hunter2", token="hunter2", key_id="device/1"
    )
    (line,) = read()
    assert "hunter2" not in line
    assert line.count("(hidden)") == 4
    assert "device/1" in line


def test_strangers_cannot_write_to_the_terminal_through_the_log(lines: Callable[..., Callable[[], list[str]]]) -> None:
    read = lines()
    structlog.get_logger("t").info("name\x1b[2J", **{"k\n": "a\r\nforged line\u202e", "l": "\x9b"})
    (line,) = read()
    assert line.isprintable()
    assert r"name\x1b[2J k\n=" in line


def test_levels_filter_both_kinds_of_logger(lines: Callable[..., Callable[[], list[str]]]) -> None:
    read = lines(level="WARNING")
    structlog.get_logger("t").info("quiet")
    logging.getLogger("lib").info("quiet")
    structlog.get_logger("t").error("loud")
    logging.getLogger("lib").warning("loud %s", "too")
    assert [line.split(" ", 1)[1] for line in read()] == ["error    loud", "warning  loud too"]


def test_libraries_come_out_in_the_same_form(lines: Callable[..., Callable[[], list[str]]]) -> None:
    read = lines(as_json=True, level=logging.DEBUG)
    logging.getLogger("lib").debug("hello %d\x1b", 7)
    (line,) = read()
    event = json.loads(line)
    assert (event["event"], event["level"], event["logger"]) == ("hello 7\x1b", "debug", "lib")


def test_tracebacks_stay_with_their_line_and_are_visible(lines: Callable[..., Callable[[], list[str]]]) -> None:
    read = lines()
    try:
        int("\x1b[2J")
    except ValueError:
        structlog.get_logger("t").exception("broken")
        logging.getLogger("lib").exception("broken too")
    first, *rest = read()
    assert first.endswith("error    broken")
    assert sum("Traceback" in line for line in rest) == 2
    assert all(line.isprintable() for line in rest)
    assert sum(not line.startswith("    ") for line in rest) == 1


def test_configuring_again_replaces(lines: Callable[..., Callable[[], list[str]]]) -> None:
    lines()
    read = lines(as_json=True)
    structlog.get_logger("t").info("once")
    assert len(read()) == 1


def test_the_default_is_stderr(
    lines: Callable[..., Callable[[], list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(json=False)
    structlog.get_logger("t").info("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("info     hello\n")


def test_an_unknown_level_is_an_error() -> None:
    with pytest.raises(KeyError):
        configure_logs(json=False, level="loud")
