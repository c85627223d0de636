"""JSON logs: one object a line, tracebacks included."""

from __future__ import annotations

import json
import logging
import logging.config

import pytest

from stream.ops.logs import json_logging


def test_every_record_is_one_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logging.config.dictConfig(json_logging("INFO"))
        logger = logging.getLogger("stream.somewhere")
        logger.debug("not at this level")
        logger.info('restored %d records\nof "two" lines', 7)
        try:
            raise ValueError("planted")
        except ValueError:
            logger.exception("it failed")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["message"] == 'restored 7 records\nof "two" lines'
    assert (first["level"], first["logger"]) == ("info", "stream.somewhere")
    assert first["time"].endswith("+00:00")
    assert "error" not in first
    assert 'raise ValueError("planted")' in second["error"]
