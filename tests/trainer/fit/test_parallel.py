"""Two processes train what one does, and end together."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.local.ports import pick_free
from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from tests.trainer.fit import ranks
from trainer.fit.curve import read_curve

# Ranks are forked from a process that has imported torch and the trainer: a start takes a moment, not seconds.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([ranks.__name__])


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def train(folder: Path, processes: int, *options: str, **changes: float) -> list[dict[str, Any]]:
    """What each of so many gloo processes found: losses by epoch (the first alone), epochs, a sum of the weights."""
    port = pick_free(1)[0]
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with _PROCESSES.Pool(processes, maxtasksperchild=1) as pool:  # leaving it kills who still runs
        places = [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
        running = [pool.apply_async(ranks.run, (place, folder, options, changes)) for place in places]
        return [rank.get(timeout=120) for rank in running]


def test_two_gloo_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    one, two = train(tmp_path / "one", 1, epochs=3)[0], train(tmp_path / "two", 2, epochs=3)[0]
    assert (one["size"], two["size"]) == (1, 2)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)
    for mine, theirs in zip(one["curve"], two["curve"], strict=True):
        for name in ("next_token_loss", "attribute_loss", "contrast"):
            np.testing.assert_allclose(theirs[name], mine[name], rtol=1e-4, err_msg=name)


def test_the_command_under_torchrun_makes_one_version(tmp_path: Path) -> None:
    beside = Path(sys.executable).parent
    launch = [beside / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"]
    argv = [
        beside / "panther",
        "models",
        "train",
        "--data",
        "generator",
        "--preset",
        "tiny",
        "--users",
        "200",
        "--days",
        "40",
    ]
    argv += ["--label-delay-days", "2", "--out", tmp_path, "--json"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *argv], env=env, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["artifact"] == str(tmp_path)  # one line, of the first process
    assert len(read_curve(tmp_path / "pretrain.csv")) == 2
    assert load_manifest(tmp_path).metrics["pretrain"]["epochs"] == 2


def test_the_first_process_says_when_to_stop(tmp_path: Path) -> None:
    first, second = train(tmp_path / "time", 2, epochs=1000, minutes=0.005)
    assert 0 < first["epochs"] < 1000
    assert (second["epochs"], second["weights"]) == (first["epochs"], pytest.approx(first["weights"], rel=1e-9))
    first, second = train(tmp_path / "patience", 2, epochs=100, patience=1)
    assert (second["epochs"], second["weights"]) == (first["epochs"], pytest.approx(first["weights"], rel=1e-9))
    assert first["epochs"] < 100


def test_what_the_first_process_has_not_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 2, "own", epochs=1)
    with pytest.raises(BadInput, match="other data in 0 and another epoch to go on after in 1 of 2"):
        train(tmp_path, 2, "own", epochs=2)
    with pytest.raises(BadInput, match="other data in 1 and another epoch to go on after in 0 of 2"):
        train(tmp_path / "data", 2, "other", epochs=1)
