"""A stream with every trouble at once, and its replay: nothing differs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from infra.parity_load import send_with_troubles, troubled
from panther_core.generator import PROFILE
from tests.e2e.conftest import LABEL_DELAY_MS, Stage
from trainer.config import preset
from trainer.pipeline import train


def test_replay_equals_a_stream_with_every_trouble(stage: Stage) -> None:
    system, models = stage.system, Path(stage.system.settings.models_dir)
    relabelled = replace(stage.history, label=np.roll(stage.history.label, 11))  # merchants' risks differ
    config = msgspec.structs.replace(preset("tiny"), epochs=0)
    train(
        relabelled,
        models / "2",
        config=config,
        version=2,
        label_delay_ms=LABEL_DELAY_MS,
        seed=1,
        continue_from=models / "1",
        profile=PROFILE,
    )
    sent = troubled(stage.live, seed=1)
    done = send_with_troubles(system, sent, rate=250)
    assert len(done) == 4, done

    argv = [str(Path(sys.prefix) / "bin" / "panther"), "parity", "--model", "1", "--model", "2"]
    out = system.folder / "parity"
    made = subprocess.run(
        [*argv, "--history", "topic", "--out", str(out), "--json"], env=system.environment, stdout=subprocess.PIPE
    )
    report = json.loads(made.stdout)
    assert (report["mismatches"], report["missing"], report["extra"]) == (0, 0, 0), report
    assert made.returncode == 0
    assert report["compared"] + report["repeated"] >= len(sent)
    assert report["past"] == len(stage.history)
    assert report["max_abs_error"] <= 1e-5
    assert report["repeated"] > 0
    assert min(report["versions"][v] for v in ("1", "2")) > 500
    assert report["alerts_online"] == report["alerts_replayed"] > 0
    assert json.loads((out / "parity.json").read_text()) == report
