"""Two processes train what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infra.ports import pick_free

_SCRIPT = """
import json, sys
import msgspec, numpy as np, torch
from tests.model.conftest import CONFIG, make_model, random_history
from trainer.config import TrainConfig
from trainer.curve import read_curve
from trainer.parallel import join
from trainer.pretrain import Run, pretrain
from pathlib import Path

torch.set_num_threads(1)
model = msgspec.structs.replace(CONFIG, dropout=0.0, contrastive_weight=0.5)
history = random_history(np.random.default_rng(0), [1, 3, 40, 17, 0, 16, 8, 30, 5])
config = TrainConfig(model=model, batch_positions=128, epochs=3, learning_rate=1e-3)
group, panther = join(), make_model(model).panther
pretrain(panther, history, config, 1, Run(curve=Path(sys.argv[1]), group=group))
if group.first:
    total = sum(float(p.double().abs().sum()) for p in panther.parameters())
    print(json.dumps({"size": group.size, "weights": total, "curve": read_curve(Path(sys.argv[1]))}))
"""


def train(folder: Path, processes: int) -> dict[str, object]:
    """Losses by epoch and a sum of the weights, of so many gloo processes."""
    port, running = pick_free(1)[0], []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        env = os.environ | {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
        argv = [sys.executable, "-c", _SCRIPT, str(folder / f"{processes}.csv")]
        running.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    outs = [process.communicate(timeout=120) for process in running]
    assert all(process.returncode == 0 for process in running), outs[-1][1].decode()
    found: dict[str, object] = json.loads(outs[0][0])
    return found


def test_two_gloo_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    one, two = train(tmp_path, 1), train(tmp_path, 2)
    assert (one["size"], two["size"]) == (1, 2)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)
    for mine, theirs in zip(one["curve"], two["curve"], strict=True):  # type: ignore[call-overload]
        for name in ("next_token_loss", "attribute_loss", "contrast"):
            np.testing.assert_allclose(theirs[name], mine[name], rtol=1e-4, err_msg=name)
