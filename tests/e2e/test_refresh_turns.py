"""The refresh on a real stack: killed at every stage, and a version that fails in the stream taken back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from panther_core.base.errors import BadInput
from panther_core.data.events import ModelUpdate
from panther_core.kafka.updates import updates
from stream.tools.produce import produce_labels
from tests.e2e.conftest import LABEL_DELAY_MS, Stage
from trainer.rollout import journal
from trainer.rollout.deploy import served
from trainer.rollout.go_live import roll_back

_LOADED_S = 20.0  # after its start a scorer serves for sure: one that hangs while it loads keeps others from loading


def models(stage: Stage) -> Path:
    return Path(stage.system.settings.models_dir)


def history(stage: Stage) -> list[ModelUpdate]:
    return asyncio.run(updates(stage.system.kafka))


def begin_turn(stage: Stage, *options: str) -> subprocess.Popen[str]:
    """`panther refresh`, in a group of its own, so that it can be killed with all that it has started."""
    argv = [sys.executable, "-m", "cli", "refresh", "--once", "--anyway", "--json", "--label-delay-days", "1"]
    return subprocess.Popen(
        [*argv, "--repository", str(stage.system.stack.model_repository), *options],
        env=stage.system.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kill_when(stage: Stage, moment: Callable[[], bool], *options: str) -> None:
    """Begin a turn and kill -9 it as soon as `moment` holds."""
    process = begin_turn(stage, *options)
    while not moment():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finished(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return dict(json.loads(out))


def test_a_turn_that_is_killed_at_any_stage_is_gone_on_with(stage: Stage) -> None:
    asyncio.run(produce_labels(stage.system.kafka, stage.history, LABEL_DELAY_MS))
    repository, settings = stage.system.stack.model_repository, stage.system.settings
    two = models(stage) / "2"
    stages: dict[str, Callable[[], bool]] = {
        "it has a number": (models(stage) / journal.TURN).exists,
        "in training": two.exists,
        "trained": (two / "manifest.json").exists,
        "exported in part": (repository / "panther_encode" / "2").exists,
        "judged": (two / "refresh.json").exists,
        "live": lambda: history(stage)[-1].version == 2,
    }
    sent = 0
    for name, moment in stages.items():
        kill_when(stage, moment)
        live = history(stage)[-1].version
        assert live == (2 if name == "live" else 1), name
        assert all(live in versions for versions in served(settings.triton_url, settings.triton_headers).values()), name
        part = stage.live.take(slice(sent, sent + 20))
        sent += 20
        stage.produce(part)
        ledger = stage.collect(set(part.transaction_id.tolist()))
        assert ledger.decisions.keys() >= set(part.transaction_id.tolist()), name
        assert not ledger.contradicted
        assert not ledger.degraded, name
    done = finished(begin_turn(stage))
    assert (done["previous"], done["version"], done["promoted"], done["unloaded"]) == (1, 2, True, [])
    assert [update.version for update in history(stage)] == [1, 2], "announced once"
    assert journal.begun(models(stage)) is None
    assert not (models(stage) / "3").exists(), "no number was used up"
    assert [turn.promoted for turn in journal.ended_turns(models(stage))] == [True]


def test_a_server_that_is_killed_in_the_middle_leaves_what_is_live(stage: Stage) -> None:
    repository = stage.system.stack.model_repository
    process = begin_turn(stage)
    while not (repository / "panther_score" / "3").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.killpg(stage.system.triton_pid(), signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert history(stage)[-1].version == 2
    stage.system.stack.up(False)
    done = finished(begin_turn(stage))
    assert (done["previous"], done["version"], done["promoted"]) == (2, 3, True)
    failed, ended = journal.ended_turns(models(stage))[-2:]
    assert failed.error
    assert (ended.promoted, ended.challenger) == (True, 3)


@contextmanager
def traffic(stage: Stage, start: int) -> Iterator[None]:
    """Payments at a steady rate for as long as the block runs; where the log ends, it begins again with other ids."""
    over = threading.Event()

    def send() -> None:
        for again in itertools.count():
            for at in range(start, len(stage.live), 20):
                part = stage.live.take(slice(at, at + 20))
                ids = [f"{again}-{name}" for name in part.transaction_id.tolist()]
                stage.produce(replace(part, transaction_id=np.array(ids)))
                if over.wait(0.4):
                    return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_version_that_passes_the_gate_and_fails_in_the_stream_is_taken_back(stage: Stage) -> None:
    """Its scorer hangs again and again once it is live, as no check before the switch could see."""
    with traffic(stage, 1000):
        time.sleep(10)  # decisions of the version before it
        process = begin_turn(stage, "--watch", "90s")
        while history(stage)[-1].version != 4:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        server, hung = psutil.Process(stage.system.triton_pid()), set[psutil.Process]()
        while process.poll() is None:  # the worker has a scorer that hangs loaded again, and that one hangs too
            for child in server.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    loaded = time.time() - child.create_time() > _LOADED_S
                    if loaded and child not in hung and any("panther_score/4/" in a for a in child.cmdline()):
                        child.suspend()
                        hung.add(child)
            time.sleep(0.2)
        for scorer in hung:
            with contextlib.suppress(psutil.Error):
                scorer.resume()
        assert hung
        done = finished(process)
    assert (done["promoted"], done["rolled_back"]) == (True, True)
    failed = {check["check"] for check in done["watch"] if not check["held"]}  # type: ignore[attr-defined]
    assert "live_errors" in failed
    last = history(stage)[-1]
    assert last.version == 3
    assert "version 4 failed in the stream" in last.why
    page = (models(stage) / "4" / "refresh.html").read_text()
    assert "went live and was taken back" in page


def test_the_next_refresh_goes_on_from_the_version_that_was_gone_back_to(stage: Stage) -> None:
    """And a trial with a high number, or an operator who saw another version live, changes nothing."""
    (models(stage) / "900").mkdir()
    with pytest.raises(BadInput, match="expected version 4 to be live still, got 3"):
        roll_back(stage.system.kafka, stage.system.settings, stage.system.stack.model_repository, 1, instead_of=4)
    done = finished(begin_turn(stage))
    assert (done["previous"], done["version"]) == (3, 901)
