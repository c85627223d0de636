"""The service: a turn when one is due or the stream has drifted, whatever became of the one before."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from panther_core.base.times import now_ms
from trainer.rollout import journal
from trainer.rollout.journal import Ended, Turn
from trainer.rollout.service import Service, retry_s

_TURN = "import sys; open({log!r}, 'a').write(sys.argv[1] + '\\n'); {then}"
_LOOK = 'print(\'{{"drifted": {drifted}, "why": ["amount"]}}\')'


def serve(tmp_path: Path, arguments: str, until: Path, end: signal.Signals = signal.SIGTERM) -> str:
    """Run a service for two seconds after the file `until` has come, then end it; what it said."""
    code = (
        "from pathlib import Path; from trainer.rollout import service; service._RETRY_S = 0.5;"
        f"service.Service(Path({str(tmp_path)!r}), {arguments}).run()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (until.exists() and until.stat().st_size):
        time.sleep(0.1)
    time.sleep(2)  # a second turn would have begun
    process.send_signal(end)
    return process.communicate(timeout=20)[1]


def turns(tmp_path: Path, then: str = "pass", drifted: str | None = None, every_s: float | None = 3600) -> list[str]:
    """Reasons of the turns that a service begins in some seconds, ended by SIGTERM; `then`: what a turn does."""
    log = tmp_path / "log"
    turn = [sys.executable, "-c", _TURN.format(log=str(log), then=then)]
    look = None if drifted is None else [sys.executable, "-c", _LOOK.format(drifted=drifted)]
    serve(tmp_path, f"{turn!r}, {look!r}, {every_s!r}, 1.0, None", log)
    return log.read_text().splitlines()


def test_the_first_turn_comes_at_once_and_the_next_one_after_the_interval(tmp_path: Path) -> None:
    assert turns(tmp_path) == ["every 1 h"]


def test_a_turn_that_fails_or_is_killed_does_not_end_the_service(tmp_path: Path) -> None:
    found = turns(tmp_path, "import os; os.kill(os.getpid(), 9)", every_s=0.5)
    assert found == ["every 0.5 s"] * len(found)
    assert len(found) > 1


def test_turns_that_fail_again_and_again_come_less_often() -> None:
    """Of a log too young to learn from every turn fails for days."""
    pauses = [retry_s(failed, 6 * 3600) for failed in (1, 2, 3, 7, 8, 10_000)]
    assert pauses == [300, 600, 1200, 19_200, 21_600, 21_600]
    assert [retry_s(failed, None) for failed in (1, 10_000)] == [300, 3600]
    assert retry_s(1, 120) == 120


def test_a_turn_begins_where_the_stream_has_drifted(tmp_path: Path) -> None:
    assert turns(tmp_path, drifted="true", every_s=None)[0] == "drift: amount"


def test_a_drift_turn_that_fails_comes_again_with_its_reason(tmp_path: Path) -> None:
    found = turns(tmp_path, "sys.exit(1)", drifted="true", every_s=None)
    assert len(found) > 1
    assert set(found) == {"drift: amount"}


def test_a_turn_that_was_cut_off_comes_again_where_only_drift_begins_one(tmp_path: Path) -> None:
    journal.begin(tmp_path, Turn(1, 2))
    assert turns(tmp_path, drifted="false", every_s=None) == ["a turn that was cut off"]


def test_the_alert_budget_is_looked_at_between_turns(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"open({str(seen)!r}, 'a').write('.'); print('{{\"why\": \"11 alerts: kept\"}}')"
    said = serve(tmp_path, f"[], None, None, 1.0, {[sys.executable, '-c', code]!r}, 0.1", seen)
    assert "alert budget: 11 alerts: kept" in said
    fails = [sys.executable, "-c", f"open({str(seen)!r}, 'a').write('.'); raise SystemExit(3)"]
    seen.unlink()
    said = serve(tmp_path, f"[], None, None, 1.0, {fails!r}, 0.1", seen)
    assert "alert budget: not looked at, exit code 3" in said


def test_a_turn_ends_with_a_service_that_is_killed(tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    serve(tmp_path, f"{[sys.executable, '-c', code]!r}, None, 3600, 1.0, None", tmp_path / "pid", signal.SIGKILL)
    ended(tmp_path)


def test_after_a_restart_the_interval_counts_from_the_last_turn(tmp_path: Path) -> None:
    def due_in_s() -> float | None:
        due = Service(tmp_path, [], None, 3600, 0, None)._first_turn_s()
        return None if due is None else due - time.time()

    assert due_in_s() is not None
    assert due_in_s() <= 0  # type: ignore[operator]
    journal.add(tmp_path, Ended(now_ms() - 600_000, "by hand", 1, 2))
    assert 2900 < due_in_s() < 3100  # type: ignore[operator]
    journal.begin(tmp_path, Turn(1, 3))
    assert due_in_s() <= 0, "a turn was cut off"  # type: ignore[operator]


def test_sigterm_ends_the_turn_under_way_too(tmp_path: Path) -> None:
    assert turns(
        tmp_path,
        f"import time; open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid())); time.sleep(60)",
    )
    ended(tmp_path)


def ended(tmp_path: Path) -> None:
    """Wait until the process whose id stands in the folder is gone."""
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.1)
    raise AssertionError("the turn still runs")
