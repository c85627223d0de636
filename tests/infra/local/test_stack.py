"""Both servers as one stack, through the command line: up, status, kill -9, up again, down."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.run import app
from infra.local.errors import StackError
from infra.local.kafka import KafkaBroker
from infra.local.ports import pick_free
from infra.local.process import group_members
from infra.local.stack import LocalStack


@pytest.fixture(autouse=True)
def _own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests kill what they use."""
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "TRITON_URL"):
        monkeypatch.delenv(name, raising=False)


def _cli(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout)


def _states(answer: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {part["name"]: (part["state"], part["started"]) for part in answer["parts"]}


def _kill(pid: int) -> None:
    """Send SIGKILL, and wait until the process is gone, which takes a while for a large process."""
    os.kill(pid, signal.SIGKILL)
    end_s = time.monotonic() + 5
    while pid in group_members(pid) and time.monotonic() < end_s:
        time.sleep(0.01)


def test_up_status_kill_up_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = uuid.uuid4().hex  # to tell this server's shared memory from that of other servers
    monkeypatch.setattr("infra.local.triton.secrets.token_hex", lambda _: mark)

    def shared_memory() -> list[Path]:
        return list(Path("/dev/shm").glob(f"panther_{mark}_*"))

    kafka, http, grpc, metrics = pick_free(4)
    here = ("--dir", tmp_path / "run")
    ports = (
        "--kafka-port", kafka, "--triton-http-port", http, "--triton-grpc-port", grpc,
        "--triton-metrics-port", metrics,
    )  # fmt: skip
    code, answer = _cli("status", *here)
    assert (code, set(_states(answer).values())) == (1, {("stopped", False)})
    try:
        code, answer = _cli("up", *here, *ports)
        assert (code, set(_states(answer).values())) == (0, {("healthy", True)}), answer
        groups = {part["name"]: part["pid"] for part in answer["parts"]}
        key_file = Path(answer["triton_key_file"])
        key = key_file.read_text()
        assert len(key) >= 32
        assert key_file.stat().st_mode & 0o777 == 0o600
        code, answer = _cli("up", *here, *ports)
        assert (code, set(_states(answer).values())) == (0, {("healthy", False)}), "up again starts nothing"
        code, answer = _cli("up", *here, *ports, "--kafka-port", kafka + 2)
        assert code == 1
        assert "run `panther down` first" in answer["error"]["message"]

        _kill(groups["triton"])  # its Python model may outlive it, and `up` must end that model
        code, answer = _cli("status", *here)
        assert (code, _states(answer)) == (1, {"kafka": ("healthy", False), "triton": ("stopped", False)})
        code, answer = _cli("up", *here, *ports)
        assert (code, _states(answer)) == (0, {"kafka": ("healthy", False), "triton": ("healthy", True)})
        assert group_members(groups["triton"]) == []
        groups |= {part["name"]: part["pid"] for part in answer["parts"]}
        assert shared_memory()
        assert key_file.read_text() == key, "workers that run know it"
        assert key not in (tmp_path / "run" / "state.json").read_text()

        _kill(groups["kafka"])
        code, answer = _cli("status", *here)
        assert (code, _states(answer)) == (1, {"kafka": ("stopped", False), "triton": ("healthy", False)})
    finally:
        code, answer = _cli("down", *here)
    assert (code, answer["stopped"]) == (0, ["triton"])
    assert [group_members(pid) for pid in groups.values()] == [[], []]
    assert _cli("down", *here)[1]["stopped"] == []
    assert not shared_memory()
    assert (tmp_path / "run" / "kafka" / "data" / "meta.properties").exists(), "down keeps the data"


def test_a_part_that_cannot_start_takes_the_other_down_again(tmp_path: Path) -> None:
    stack = LocalStack.on_free_ports(tmp_path)
    triton = stack._wanted["triton"]
    pids = []

    def remember() -> None:
        type(triton).spawn(triton)  # type: ignore[arg-type]
        assert triton.process is not None
        pids.append(triton.process.ref.pid)

    triton.spawn = remember  # type: ignore[method-assign]
    kafka = stack._wanted["kafka"]
    assert isinstance(kafka, KafkaBroker)
    with socket.create_server(("127.0.0.1", kafka.port)), pytest.raises(StackError, match="to be free"):
        stack.up()
    assert len(pids) == 1
    assert group_members(pids[0]) == []
    assert {part.state for part in stack.status()} == {"stopped"}


def test_parts_named_by_the_environment_are_checked_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, triton = pick_free(2)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{kafka}")
    monkeypatch.setenv("TRITON_URL", f"grpc://127.0.0.1:{triton}")
    code, answer = _cli("up", "--dir", tmp_path)
    assert code == 1
    assert f"no Kafka answers at 127.0.0.1:{kafka}" in answer["error"]["message"]
    assert f"nothing accepts connections at 127.0.0.1:{triton}" in answer["error"]["message"]
    code, answer = _cli("status", "--dir", tmp_path)
    assert code == 1
    assert all(part["external"] and part["pid"] is None for part in answer["parts"])
    assert not (tmp_path / "kafka").exists()


def test_a_damaged_state_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"version": 99}')
    code, answer = _cli("status", "--dir", tmp_path)
    assert code == 1
    assert "version 99, expected 1" in answer["error"]["message"]


def test_two_ups_in_one_folder_do_not_race(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    with stack._locked(), pytest.raises(StackError, match="another `up` or `down` is at work"):
        LocalStack(tmp_path).down()
