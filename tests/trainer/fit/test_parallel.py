"""Two processes train what one does, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.local.ports import pick_free
from panther_core.artifact import load_manifest
from trainer.fit.curve import read_curve

_SCRIPT = """
import json, sys, time
import msgspec, numpy as np, torch
from tests.panther_core.model.conftest import CONFIG, make_model, random_history
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.train_config import TrainConfig
from trainer.fit.curve import read_curve
from trainer.fit.evaluate import Validation
from trainer.fit.parallel import join
from trainer.fit.pretrain import Run, pretrain
from pathlib import Path

torch.set_num_threads(1)
folder, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
model = msgspec.structs.replace(CONFIG, dropout=0.0, contrastive_weight=0.5)
history = random_history(np.random.default_rng(0), [1, 3, 40, 17, 0, 16, 8, 30, 5])
config = TrainConfig(model=model, batch_positions=128, learning_rate=1e-3, **changes)
group, panther = join(), make_model(model).panther
if not group.first:  # its own clock is slow, its validation is better every time, its folder is its own if asked
    time.perf_counter = lambda real=time.perf_counter: real() * 1e-6
    hits = iter(range(1000))
    Validation.hit_rate = lambda self, panther: float(next(hits))
validation = Validation(history, np.arange(len(history.code)), 50, model.length, 0)
place = folder / (f"checkpoint{group.rank}" if "own" in sys.argv else "checkpoint")
checkpoint = Checkpoint(place, f"key{group.rank}" if "other" in sys.argv else "key")
try:
    found = pretrain(panther, history, config, 1, Run(checkpoint, validation, folder / "curve.csv", group))
except Exception as error:
    sys.exit(str(error))
total = sum(float(p.double().abs().sum()) for p in panther.parameters())
curve = read_curve(folder / "curve.csv") if group.first else []
print(json.dumps({"size": group.size, "weights": total, "epochs": found["epochs"], "curve": curve}))
"""


def train(folder: Path, processes: int, *options: str, **changes: float) -> list[dict[str, Any]]:
    """What each of so many gloo processes found: losses by epoch (the first alone), epochs, a sum of the weights."""
    port, running = pick_free(1)[0], []
    for rank in range(processes):
        place: dict[str, object] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        place |= {"MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""}
        env = os.environ | {name: str(value) for name, value in place.items()}
        argv = [sys.executable, "-c", _SCRIPT, str(folder), json.dumps(changes), *options]
        running.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    try:
        outs = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()
    errors = [err.decode() for process, (_, err) in zip(running, outs, strict=True) if process.returncode]
    if errors:
        raise RuntimeError("\n".join(errors))
    return [json.loads(out) for out, _ in outs]


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
    argv = [beside / "panther", "models", "train", "--preset", "tiny", "--users", "200", "--days", "40"]
    argv += ["--label-delay-days", "2", "--out", tmp_path, "--json"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
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
    with pytest.raises(RuntimeError, match="other data in 0 and another epoch to go on after in 1 of 2"):
        train(tmp_path, 2, "own", epochs=2)
    with pytest.raises(RuntimeError, match="other data in 1 and another epoch to go on after in 0 of 2"):
        train(tmp_path / "data", 2, "other", epochs=1)
