"""A worker's log: as text or as one JSON object a line, with repeated lines held back.

No line names a user or a transaction, neither as JSON nor as text; tests/e2e/test_stream.py checks that.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

#: Loggers whose repeats are held back, with those below them. A broker that is gone makes aiokafka's retries write 120
#: lines a second, and a model server that is gone makes every micro-batch write two.
_HELD = ("aiokafka", "faust", "mode", "stream.worker.processor", "stream.scorer")
_EVERY_S = 10.0
_FORGET_S = 60.0  # a line that has not come for so long is news
_REMEMBERED = 1000  # templates


class HoldBack(logging.Filter):
    """Lets one repeated warning or error of each of these loggers through every ten seconds, with the others' count.

    What a logger has not said within the last minute passes at once. Two lines are the same if their templates are;
    arguments do not matter. Errors of aiokafka become warnings, since it tries all of them again by itself; what it
    gives up raises, and is said as the error that stops the worker. `now_s`: a clock that does not go back.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._said_s: dict[tuple[str, str], float] = {}  # by logger and template: when it last came
        self._passed_s: dict[str, float] = {}  # by logger of _HELD: when a repeated line last passed
        self._held: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; the first one after others were held back says how many."""
        library = next((name for name in _HELD if f"{record.name}.".startswith(f"{name}.")), None)
        if library is None or record.levelno < logging.WARNING:
            return True
        if library == "aiokafka":
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        now_s, line = self._now_s(), (record.name, str(record.msg))
        if len(self._said_s) > _REMEMBERED:  # a library that writes its arguments into its templates
            self._said_s.clear()
        last_s, self._said_s[line] = self._said_s.get(line), now_s
        if last_s is None or now_s - last_s > _FORGET_S:
            self._passed_s.setdefault(library, now_s)
            return True
        if now_s - self._passed_s.setdefault(library, now_s) < _EVERY_S:
            self._held[library] = self._held.get(library, 0) + 1
            return False
        self._passed_s[library] = now_s
        if held := self._held.pop(library, 0):
            record.msg = f"{record.getMessage()} (and {held} lines like this or others of {library} before it)"
            record.args = ()
        return True


class CrashLines(logging.Filter):
    """Hands what Faust says of a crash, each service with a traceback of its own, to `fail`, which says it once."""

    def __init__(self, fail: Callable[[BaseException], object]) -> None:
        super().__init__()
        self._fail = fail

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        template = str(record.msg)
        if template.endswith(("Crashed reason=%r", "]: Error: %r")) and isinstance(record.args, tuple):
            error = next(arg for arg in record.args if isinstance(arg, BaseException))
            if isinstance(error, Exception):  # a cancelled agent, which Faust begins anew, has not failed
                self._fail(error)
                return False
        if template.endswith("Error while stopping child %r: %r"):
            record.exc_info = None  # what fails while a worker stops is one line
        return not template.endswith("Reraising original exception...")


class JsonFormatter(logging.Formatter):
    """time (ISO 8601, UTC), level, logger, message, and `error` with the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def json_logging(level: str) -> dict[str, Any]:
    """The configuration (logging.config) that sends every logger's lines to stdout as JSON."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
        "root": {"level": level, "handlers": ["stdout"]},
    }


def filter_handlers(fail: Callable[[BaseException], object]) -> None:
    """Hold back repeats in what every handler of the root logger writes, and hand crashes of Faust's to `fail`."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(CrashLines(fail))
        handler.addFilter(HoldBack())
