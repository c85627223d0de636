"""A command that finds no Kafka or no Triton ends in one line, with exit code 1."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pytest

import cli
from panther_core.kafka.reading import broker_problem

CLOSED = "127.0.0.1:1"  # nobody listens there


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", CLOSED)
    monkeypatch.setenv("TRITON_URL", CLOSED)
    monkeypatch.chdir(tmp_path)


def said(command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """What a command that fails writes, all of it on one line."""
    monkeypatch.setattr("sys.argv", ["panther", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert ended.value.code == 1
    assert not out
    assert len(err.splitlines()) == 1, err
    return err


@pytest.mark.parametrize(
    "command",
    [
        "topics create",
        "dlq list",
        "dlq show 0:1",
        "dlq replay --code empty",
        "models list",
        "models rollback",
        "models retire",
        "parity --model 1",
        "replay --topic transactions --model 1",
        "explain somebody --live",
        "produce --data DATA --format sparkov",
        "refresh",
        "worker",
    ],
)
def test_a_command_without_kafka_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = str(Path(__file__).parents[1] / "data/sparkov")
    line = said([data if word == "DATA" else word for word in command.split()], monkeypatch, capfd)
    assert line.startswith(f"error expected a broker to answer (PLAINTEXT), but no Kafka answers at {CLOSED}")
    assert "KAFKA_BOOTSTRAP_SERVERS" in line


def test_every_command_asks_before_it_uses_kafka() -> None:
    folder = Path(cli.__file__).parent
    named = {path.name for path in folder.glob("*.py") if "KafkaSettings()" in path.read_text()}
    assert named == {"__init__.py", "options.py"}, "use cli.options.answering_kafka"


def test_a_command_without_triton_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = said(["models", "unload", "1", "--force"], monkeypatch, capfd)
    assert line.startswith(f"error expected version 1 to be unloaded at {CLOSED}, got ")


def test_a_broker_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        problem = asyncio.run(broker_problem({"bootstrap_servers": address}, within_s=0.5))
    assert problem is not None
    assert problem.startswith(f"no Kafka answers at {address}")


def test_a_server_that_goes_away_in_mid_command_is_one_line() -> None:
    from aiokafka.errors import KafkaTimeoutError
    from tritonclient.utils import InferenceServerException

    assert "expected Kafka at 127.0.0.1:1 to answer" in (cli.outage(KafkaTimeoutError("no answer\nin 40 s")) or "")
    assert "expected Triton at 127.0.0.1:1 to answer" in (cli.outage(InferenceServerException("gone")) or "")
    assert cli.outage(ValueError("ours")) is None


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is always full")
@pytest.mark.parametrize("open_file", [partial(open, mode="wb", buffering=0), partial(pa.OSFile, mode="wb")])
def test_a_full_disk_is_one_line(
    open_file: Callable[[str], BinaryIO], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Opened as it is: whatever puts a file in a path's place would take the device's."""

    def write() -> None:
        open_file("/dev/full").write(bytes(1 << 16))

    monkeypatch.setattr(cli, "app", write)
    assert "expected room on the disk, got: [Errno 28]" in said([], monkeypatch, capfd)
    assert cli.full_disk(OSError(errno.EACCES, "Permission denied")) is None


@pytest.fixture(autouse=True)
def _logs_as_before() -> object:
    loggers = [logging.getLogger(name) for name in ("aiokafka", "asyncio")]
    before = [(logger.handlers[:], logger.filters[:]) for logger in loggers]
    yield
    for logger, (handlers, filters) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.filters[:] = handlers, filters
