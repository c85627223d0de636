"""The refresh on a real stack: killed at every stage, and a version that fails in the stream taken back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from panther_core.artifact import MANIFEST, SIGNATURE
from panther_core.base.errors import BadInput
from stream.tools.produce import produce_labels
from tests.e2e.conftest import LABEL_DELAY_MS, Stage
from tests.e2e.turns import (
    begin_turn,
    below,
    ended_by_sigterm,
    finished,
    history,
    kill_when,
    models,
    panther,
    refresh,
    traffic,
    wait_until,
)
from tests.fixtures_keys import Keys, make_keys
from trainer.rollout import journal
from trainer.rollout.deploy import served
from trainer.rollout.go_live import roll_back
from trainer.rollout.journal import Turn

_LOADED_S = 20.0  # after its start a scorer serves for sure: one that hangs while it loads keeps others from loading


def test_drift_begins_a_turn_and_a_stable_stream_does_not(stage: Stage) -> None:
    """The turn is ended in its midst, and stays begun: the next test goes on with it."""
    service, looks = refresh(stage, "--on-drift", "--look-every", "1s"), set[int]()

    def looked() -> bool:
        looks.update(child.pid for child in below(service, "drift", "--json"))
        return len(looks) > 1  # the second one has begun: the first one has found nothing

    wait_until(service, looked)
    assert not (models(stage) / journal.TURN).exists()
    part = stage.live.take(slice(0, 600))
    ids = np.array([f"drifted-{name}" for name in part.transaction_id.tolist()])
    stage.produce(replace(part, transaction_id=ids, amount=part.amount * 8))
    wait_until(service, (models(stage) / journal.TURN).exists)
    (turn,) = below(service, "refresh", "--once")
    assert turn.cmdline()[-2:][0] == "--why"
    assert turn.cmdline()[-1].startswith("drift: ")
    assert turn.nice() == 10
    assert "a turn begins: drift: " in ended_by_sigterm(service)
    assert journal.begun(models(stage)) == Turn(1, 2)
    assert journal.ended_turns(models(stage)) == []


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
    turn = begin_turn(stage, "--shadow", "60s")
    wait_until(turn, lambda: below(turn, "shadow", "run"))
    shadows = below(turn, "shadow", "run")
    turn.kill()  # it alone, and not what it has started
    turn.communicate()
    _, left = psutil.wait_procs(shadows, 20)
    assert not left
    assert history(stage)[-1].version == 3
    assert journal.begun(models(stage)) == Turn(3, 901), "the last test goes on with it"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("signed") / "keys")


def said(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and all words of a command."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, " ".join((out + err).split())


def test_a_version_that_nobody_has_signed_is_refused_everywhere(stage: Stage, keys: Keys, tmp_path: Path) -> None:
    """At load, at promotion, and by a worker where whoever promotes it has no key; versions 2 and 3 are loaded."""
    two, live = str(models(stage) / "2"), str(models(stage) / "3")
    repository = ("--repository", str(stage.system.stack.model_repository))
    key = {"PANTHER_MODELS_KEY": str(keys.public)}
    assert said(panther(stage, "models", "sign", live, "--key", str(keys.private)))[0] == 0
    altered = tmp_path / "3"
    shutil.copytree(live, altered)
    manifest = json.loads((altered / MANIFEST).read_bytes())
    (altered / MANIFEST).write_text(json.dumps(manifest | {"threshold": 0.99}))
    commands = [
        panther(stage, "models", "verify", live, **key),
        panther(stage, "models", "verify", str(altered), **key),
        panther(stage, "models", "load", two, *repository, **key),
        panther(stage, "models", "load", str(altered), *repository, **key),
        panther(stage, "models", "promote", two, "--anyway", **key),
    ]
    answers = [said(command) for command in commands]
    assert [code for code, _ in answers] == [0, 1, 1, 1, 1]
    for place, why in enumerate(2 * ["got a signature of something else", f"found no {SIGNATURE} beside it"], 1):
        assert why in answers[place][1]
    assert history(stage)[-1].version == 3

    assert stage.system.stop_worker()
    stage.system.start_worker(**key)
    stage.wait_ready("worker")
    code, words = said(panther(stage, "models", "promote", two, "--anyway"))
    assert code == 1
    assert "a worker does not take version 2" in words
    assert f"found no {SIGNATURE} beside it" in words
    part = stage.live.take(slice(200, 220))
    stage.produce(part)
    ledger = stage.collect({*part.transaction_id.tolist()})
    assert {ledger.decisions[name].model.version for name in part.transaction_id.tolist()} == {3}
    assert said(panther(stage, "models", "rollback", *repository, "--to", "3", **key))[0] == 0


def test_a_service_shadows_signs_switches_and_begins_again_until_it_is_ended(stage: Stage, keys: Keys) -> None:
    signing, key = ("--sign-key", str(keys.private)), {"PANTHER_MODELS_KEY": str(keys.public)}
    before = len(journal.ended_turns(models(stage)))
    with traffic(stage, 1000, "shadowed-"):
        service = refresh(stage, "--every", "1s", "--shadow", "8s", "--watch", "1s", *signing, **key)
        wait_until(service, lambda: (models(stage) / "902").exists())
    ended_by_sigterm(service)
    (turn,) = journal.ended_turns(models(stage))[before:]
    assert (turn.why, turn.champion, turn.challenger) == ("every 1 s", 3, 901)
    assert (turn.promoted, turn.rolled_back, turn.error) == (True, False, None)
    assert journal.begun(models(stage)) == Turn(901, 902)
    assert history(stage)[-1].version == 901
    report = json.loads((models(stage) / "901" / "refresh.json").read_text())
    assert report["shadow"]["live_versions"].keys() == {"3"}
    assert report["shadow"]["payments"] >= 300
    assert "shadow_alert_rate" in {check["check"] for check in report["gate"]}
    assert [check["check"] for check in report["watch"]] == ["live_decisions"], "a second is too short to judge by"
    part = stage.live.take(slice(220, 240))
    stage.produce(part)
    ledger = stage.collect({*part.transaction_id.tolist()})
    took = {ledger.decisions[name].model.version for name in part.transaction_id.tolist()}
    assert took == {901}, "a worker takes it, since it is signed"
