"""What one process of a training in several does; imported once, then forked for every rank (see test_parallel)."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch._dynamo  # the first step of an optimiser does: 5 s of CPU, here once instead of in each rank

from tests.panther_core.model.conftest import CONFIG, make_model, random_history
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.curve import read_curve
from trainer.fit.evaluate import Validation
from trainer.fit.parallel import join
from trainer.fit.pretrain import PretrainOptions, pretrain
from trainer.fit.train_config import TrainConfig


def run(environment: dict[str, str], folder: Path, options: tuple[str, ...], changes: dict[str, Any]) -> dict[str, Any]:
    """Size of the group, a sum of the weights, epochs, and the curve (of the first process alone)."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    model = msgspec.structs.replace(CONFIG, dropout=0.0, contrastive_weight=0.5)
    history = random_history(np.random.default_rng(0), [1, 3, 40, 17, 0, 16, 8, 30, 5])
    config = TrainConfig(model=model, batch_positions=128, learning_rate=1e-3, **changes)
    group, panther = join(), make_model(model).panther
    if not group.first:  # its own clock is slow, its validation is better every time, its folder is its own if asked
        real, hits = time.perf_counter, itertools.count()
        time.perf_counter = lambda: real() * 1e-6
        Validation.hit_rate = lambda self, panther: float(next(hits))  # type: ignore[method-assign]
    validation = Validation(history, np.arange(len(history.code)), 50, model.length, 0)
    place = folder / (f"checkpoint{group.rank}" if "own" in options else "checkpoint")
    checkpoint = Checkpoint(place, f"key{group.rank}" if "other" in options else "key")
    found = pretrain(panther, history, config, 1, PretrainOptions(checkpoint, validation, folder / "curve.csv", group))
    total = sum(float(p.detach().double().abs().sum()) for p in panther.parameters())
    curve = read_curve(folder / "curve.csv") if group.first else []
    return {"size": group.size, "weights": total, "epochs": found["epochs"], "curve": curve}
