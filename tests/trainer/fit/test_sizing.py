"""The preset that fits itself to a log: what it changes, what it leaves, and how many rows the heads see."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from panther_core.model_config import ModelConfig
from trainer.fit.finetune import sample_negatives
from trainer.fit.sizing import minutes, sized
from trainer.fit.train_config import preset


def test_larger_logs_get_more_capacity_and_fewer_passes() -> None:
    default = preset("default")
    small, middle, large = (sized(default, rows) for rows in (5_000, 500_000, 5_000_000))
    assert small.model.d < middle.model.d == large.model.d
    assert small.batch_positions < middle.batch_positions
    assert small.epochs == default.epochs > middle.epochs > large.epochs >= 1
    assert small.patience == large.patience > 0
    known = [minutes(sized(default, rows), rows) for rows in (5_000, 50_000, 500_000, 5_000_000)]
    assert known == sorted(known)
    assert known[0] < 3
    assert known[-1] < 30


def test_what_somebody_chose_stays() -> None:
    default, own = preset("default"), ModelConfig(layers=3)
    assert sized(msgspec.structs.replace(default, model=own), 1000).model == own
    assert sized(msgspec.structs.replace(default, epochs=2), 1000).epochs == 2
    assert sized(preset("paper"), 1000) == preset("paper")


@pytest.mark.parametrize(("head_rows", "honest"), [(0, 400), (250, 150), (20, 100)])
def test_the_heads_see_at_most_so_many_rows_and_every_fraud(head_rows: int, honest: int) -> None:
    label = np.zeros(10_000, np.int8)
    label[::100] = 1
    config = msgspec.structs.replace(preset("default"), negatives=4, head_rows=head_rows)
    chosen = sample_negatives(label, np.arange(len(label)), config, seed=0)
    assert (label[chosen].sum(), len(chosen)) == (100, 100 + honest)
    assert (np.diff(chosen) > 0).all()
