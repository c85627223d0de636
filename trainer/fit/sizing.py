"""Fits the preset `default` to the size of a log (capacity, batches, passes of pretraining); says how long it takes."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from trainer.fit.train_config import PRESETS, TrainConfig

_OTHER_S, _ENCODED, _MEASURED, _HEAD_S = (
    20,
    35_000,
    20_000,
    1.2e-3,
)  # seconds; rows a second, twice; seconds a head's row


class _Size(NamedTuple):
    """What logs below so many rows get."""

    rows: float
    d: int
    layers: int
    user_dim: int
    batch_positions: int
    speed: float  # events a second that pretraining takes in, on two cores


_SIZES = (_Size(30_000, 32, 1, 16, 1024, 50_000), _Size(math.inf, 64, 2, 32, 4096, 22_000))


def sized(config: TrainConfig, rows: int) -> TrainConfig:
    """`config` for a log of `rows` rows; the same where it is not `sized`.

    A shape of the model that somebody chose stays. `epochs` remains the most passes over the log; fewer are made where
    `updates` steps are less.
    """
    if not config.sized:
        return config
    size = _of(rows)
    if config.model == PRESETS["default"].model:
        changes = {"d": size.d, "layers": size.layers, "user_dim": size.user_dim}
        config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, **changes))
    passes = math.ceil(config.updates * size.batch_positions / max(1, rows * config.validation_from))
    epochs = min(config.epochs, max(1, passes)) if config.updates else config.epochs
    return msgspec.structs.replace(config, epochs=epochs, batch_positions=size.batch_positions)


def minutes(config: TrainConfig, rows: int) -> float:
    """The most that a training with a config of `sized` takes on two cores; it ends sooner where pretraining gets no
    better."""
    pretrain_s = config.epochs * rows * config.validation_from / _of(rows).speed
    head = rows * (config.validation_from - config.finetune_from) * (1 + config.cold_share)
    head_s = _HEAD_S * min(head, config.head_rows * (1 + config.cold_share) or head)
    return (pretrain_s + head_s + rows / _ENCODED + rows / _MEASURED + _OTHER_S) / 60


def _of(rows: int) -> _Size:
    return next(size for size in _SIZES if rows < size.rows)
