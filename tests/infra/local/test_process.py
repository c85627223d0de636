"""Child processes: nothing is lost, and a pid that went to someone else is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.local.errors import StartFailed
from infra.local.process import ManagedProcess, ProcessRef, group_members

# A parent that ignores SIGTERM and has a child, like a hung server with a helper.
STUBBORN = "trap '' TERM; sleep 300 & echo ready; while :; do wait; done"


def _start(tmp_path: Path, script: str) -> ManagedProcess:
    return ManagedProcess.start("it", ["/bin/sh", "-c", script], tmp_path / "it.log")


def _eventually(condition: object, deadline_s: float = 5.0) -> bool:
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def _said_ready(process: ManagedProcess) -> str | None:
    return None if "ready" in process.log_tail() else "no word yet"


def test_a_polite_process_ends_without_sigkill(tmp_path: Path) -> None:
    process = _start(tmp_path, "exec sleep 300")
    assert process.alive()
    assert process.stop()
    assert not process.alive()
    assert process.stop(), "stopping again is safe"


def test_the_whole_group_of_a_stubborn_process_is_killed(tmp_path: Path) -> None:
    process = _start(tmp_path, STUBBORN)
    process.wait_ready(lambda: _said_ready(process), 5)
    assert len(group_members(process.ref.pid)) == 2
    assert not process.stop(grace_s=0.2)
    assert group_members(process.ref.pid) == []


def test_helpers_left_behind_by_a_dead_leader_are_killed(tmp_path: Path) -> None:
    process = _start(tmp_path, "sleep 300 & echo ready; exec sleep 300")
    process.wait_ready(lambda: _said_ready(process), 5)
    os.kill(process.ref.pid, signal.SIGKILL)
    assert _eventually(lambda: not process.alive())
    assert group_members(process.ref.pid) != []
    process.stop()
    assert group_members(process.ref.pid) == []


def test_a_start_that_ends_says_so_with_its_log(tmp_path: Path) -> None:
    process = _start(tmp_path, "echo no such option; exit 7")
    with pytest.raises(StartFailed, match=r"it ended \(exit status 7\)") as failed:
        process.wait_ready(lambda: "nothing yet", 5)
    assert failed.value.log_tail == "no such option"
    process.stop()


def test_a_start_that_stays_silent_says_what_is_missing(tmp_path: Path) -> None:
    process = _start(tmp_path, "exec sleep 300")
    with pytest.raises(StartFailed, match="still was not: the port is closed"):
        process.wait_ready(lambda: "the port is closed", 0.2)
    process.stop()


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="cannot be executed"):
        ManagedProcess.start("it", [str(tmp_path / "none")], tmp_path / "it.log")


def test_the_log_of_the_start_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        process = _start(tmp_path, f"echo {word}")
        assert _eventually(lambda p=process, w=word: w in p.log_tail())
        process.stop()
    assert (tmp_path / "it.log.previous").read_text() == "first\n"


def test_a_pid_of_someone_else_is_neither_alive_nor_stopped(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        process = _start(tmp_path, "exec sleep 300")
        for ref in (
            ProcessRef(other.pid, -1, process.ref.boot_id),
            ProcessRef(other.pid, process.ref.start_ticks, "another boot"),
        ):
            adopted = ManagedProcess("it", ref, tmp_path / "it.log")
            assert not adopted.alive()
            adopted.stop(grace_s=0.1)
        assert other.poll() is None
        process.stop()
    finally:
        other.kill()
        other.wait()


def test_an_adopted_process_can_be_stopped(tmp_path: Path) -> None:
    process = _start(tmp_path, "exec sleep 300")
    assert ManagedProcess("it", ProcessRef(*process.ref), process.log_path).stop()
    assert not process.alive()
    process.stop()


@pytest.mark.parametrize("released", [False, True])
def test_only_a_released_process_outlives_a_killed_parent(tmp_path: Path, released: bool) -> None:
    script = f"""
import sys, time
from pathlib import Path
from infra.local.process import ManagedProcess
process = ManagedProcess.start("it", ["sleep", "300"], Path({str(tmp_path / "it.log")!r}))
if {released}: process.release()
print(*process.ref, flush=True)
time.sleep(300)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, ticks, boot = parent.stdout.readline().split()
    child = ManagedProcess("it", ProcessRef(int(pid), int(ticks), boot), tmp_path / "it.log")
    assert child.alive()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _eventually(lambda: not child.alive(), 1.0) is not released
    child.stop()
    assert not child.alive()
