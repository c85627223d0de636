"""The service: a turn when one is due or the stream has drifted, whatever became of the one before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from panther_core.base.times import now_ms
from trainer.rollout import journal
from trainer.rollout.journal import Ended, Turn
from trainer.rollout.service import Service

_TURN = "import sys; open({log!r}, 'a').write(sys.argv[1] + '\\n'); {then}"
_LOOK = 'print(\'{{"drifted": {drifted}, "why": ["amount"]}}\')'


def turns(tmp_path: Path, then: str = "pass", drifted: str | None = None, every_s: float | None = 3600) -> list[str]:
    """Reasons of the turns that a service begins in some seconds, ended by SIGTERM; `then`: what a turn does."""
    log = tmp_path / "log"
    turn = [sys.executable, "-c", _TURN.format(log=str(log), then=then)]
    look = None if drifted is None else [sys.executable, "-c", _LOOK.format(drifted=drifted)]
    code = (
        "from pathlib import Path; from trainer.rollout.service import Service;"
        f"Service(Path({str(tmp_path)!r}), {turn!r}, {look!r}, {every_s!r}, 1.0, None).run()"
    )
    service = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not log.exists():
        time.sleep(0.1)
    if log.exists():
        time.sleep(2)  # a second turn would have begun
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=20)
    return log.read_text().splitlines() if log.exists() else []


def test_the_first_turn_comes_at_once_and_the_next_one_after_the_interval(tmp_path: Path) -> None:
    assert turns(tmp_path) == ["every 1 h"]


def test_a_turn_that_fails_or_is_killed_does_not_end_the_service(tmp_path: Path) -> None:
    found = turns(tmp_path, "import os; os.kill(os.getpid(), 9)", every_s=0.5)
    assert found == ["every 0.000138889 h"] * len(found)
    assert len(found) > 1


def test_a_turn_begins_where_the_stream_has_drifted(tmp_path: Path) -> None:
    assert turns(tmp_path, drifted="true", every_s=None)[0] == "drift: amount"


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
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the turn still runs")
