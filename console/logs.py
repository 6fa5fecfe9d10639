"""Logs: one line an event on stderr, ``key=value`` for people or JSON for machines.

Laws:

1. Libraries that use ``logging`` come out in the same form.
2. A secret is never rendered: values that hide themselves stay hidden, and fields named like secrets are masked.
3. Values are made visible: what a stranger sent cannot act on the terminal of whoever reads the log.
"""

import json as json_module
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import IO, Any, Final

import structlog
from structlog.typing import Processor

from console.output import plain
from console.text import visible

_MASKED: Final = re.compile(r"(?:\A|_)(?:secret|password|passphrase|otp|token|private_key|authorization|cookie)\Z")
_BARE: Final = re.compile(r"\A[^\s\"=\\]+\Z")
_MASK: Final = "(hidden)"


def configure_logs(json: bool, level: str | int = "info", *, stream: IO[str] | None = None) -> None:  # noqa: FBT001 - the one choice there is
    """Sends structlog and ``logging`` to ``stream`` (stderr) from ``level`` up; may be called again."""
    number = level if isinstance(level, int) else logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask,
    ]
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                render_json if json else render_human,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def mask(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides the values of fields named like secrets."""
    for key in event:
        if _MASKED.search(key):
            event[key] = _MASK
    return event


def render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """One JSON document."""
    return json_module.dumps(event, default=_json_value)


def render_human(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """``TIME LEVEL EVENT key=value …``; a traceback follows on lines of its own."""
    fields = dict(event)
    fields.pop("logger", None)
    when, level, what = (str(fields.pop(key, "")) for key in ("timestamp", "level", "event"))
    trace = str(fields.pop("exception", ""))
    line = " ".join([when, f"{level:<8}", visible(what), *(f"{visible(k)}={_value(v)}" for k, v in fields.items())])
    return "\n    ".join([line.rstrip(), *(visible(each) for each in trace.splitlines())])


def _value(value: object) -> str:
    text = value if isinstance(value, str) else _plain_text(value)
    return visible(text) if _BARE.match(text) else json_module.dumps(visible(text), ensure_ascii=False)


def _plain_text(value: object) -> str:
    try:
        return str(plain(value))
    except TypeError:
        return str(value)


def _json_value(value: object) -> object:
    try:
        return plain(value)
    except TypeError:
        return str(value)
