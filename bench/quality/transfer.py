"""`panther bench transfer`: HR@k and NDCG@k for users that pretraining never saw (paper C.1) and on another log (C.2).

A finished run is a line of `runs.jsonl` in the output folder and is not run again; an interrupted run resumes from its
checkpoint. Every row of a table is measured on the same events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from bench.quality.carry_over import carry_over
from bench.quality.unseen_users import (
    Mask,
    UserSplit,
    by_frequency,
    known_users,
    split_users,
    with_context,
    without_context,
)
from bench.results import Figures, FiguresRun, RunStore, data_key, key_of, over_seeds
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.pretrain import PretrainOptions, pretrain
from trainer.fit.train_config import TrainConfig

Rows = dict[str, Callable[[], Figures]]

CONFIG = TrainConfig(
    model=ModelConfig(layers=2, dropout=0.05), epochs=10, patience=3, batch_positions=1024, learning_rate=2e-3
)


class NamedLog(msgspec.Struct, frozen=True):
    """A table with a name, and its profile fields; None: they are fitted on the table."""

    name: str
    table: TransactionTable
    profile: tuple[ProfileField, ...] | None = None

    @property
    def facts(self) -> tuple[Any, ...]:
        """What the log adds to the key of a run."""
        return self.name, data_key(self.table)


class TransferConfig(msgspec.Struct, frozen=True):
    """Shares of users, and budgets of fine-tuning; every row has the same training. Raises BadInput."""

    train: TrainConfig = CONFIG
    """Settings of pretraining, with its cuts in time."""
    known: float = 0.8
    """Share of users that may be trained on."""
    small: float = 0.1
    """Share of users, all of them known, that fine-tuning on the other log gets."""
    budgets: tuple[int, ...] = (1, 4, 16, 64)
    """Passes of fine-tuning; each is a run of its own, so that no test figure chooses between them."""

    def __post_init__(self) -> None:
        if not 0 < self.small <= self.known < 1:
            raise BadInput(f"expected 0 < small <= known < 1 (shares of users), got {self.small} and {self.known}")


class Transfer:
    """Trains the runs that are missing from the output folder and gathers the figures of all."""

    def __init__(self, out: Path, seeds: Sequence[int], config: TransferConfig | None = None) -> None:
        """Raises BadInput without a seed, InvalidFile."""
        if not seeds:
            raise BadInput("expected at least one seed, got none: name some with --seeds")
        self._out, self._seeds, self._config = out, tuple(seeds), config or TransferConfig()
        self._done = RunStore(out, FiguresRun)

    def unseen(self, log: NamedLog) -> dict[str, Any]:
        """C.1: {"log": ..., "rows": {name: mean and deviation over the seeds of each figure}}."""
        return {"log": log.name, "rows": self._over_seeds(lambda seed: self._unseen(log, seed))}

    def elsewhere(self, source: NamedLog, target: NamedLog) -> dict[str, Any]:
        """C.2: {"source": ..., "target": ..., "rows": ...}, a row for each kind of training and number of passes."""
        rows = self._over_seeds(lambda seed: self._elsewhere(source, target, seed))
        return {"source": source.name, "target": target.name, "rows": rows}

    def _over_seeds(self, of_seed: Callable[[int], dict[str, Figures]]) -> dict[str, Any]:
        runs = [of_seed(seed) for seed in self._seeds]
        return {name: over_seeds([run[name] for run in runs]) for name in runs[0]}

    def _unseen(self, log: NamedLog, seed: int) -> dict[str, Figures]:
        known_U = known_users(log.table, self._config.known, seed)
        split = split_users(log.table, known_U, known_U, self._config.train, log.profile)

        def model(keep_N: Mask, name: str) -> PantherModel:
            return self._pretrained(log, split, keep_N, f"{name} seed {seed}", seed)

        rows: Rows = {
            "popular": lambda: by_frequency(split, own=False),
            "own counts, then popular": lambda: by_frequency(split, own=True),
            "known users, without context": lambda: without_context(model(split.fit_N, "known users"), split),
            "known users": lambda: with_context(model(split.fit_N, "known users"), split),
            "all users": lambda: with_context(model(split.early_N, "all users"), split),
        }
        return self._run(rows, ("unseen", log.facts), seed, split)

    def _elsewhere(self, source: NamedLog, target: NamedLog, seed: int) -> dict[str, Figures]:
        config = self._config
        known_U, small_U = (known_users(target.table, share, seed) for share in (config.known, config.small))
        split = split_users(target.table, known_U, small_U, config.train, target.profile)

        @cache
        def learnt() -> PantherModel:
            everyone = np.ones(len(source.table.user.words), np.bool_)
            all_of_it = split_users(source.table, everyone, everyone, config.train, source.profile)
            return self._pretrained(source, all_of_it, all_of_it.fit_N, f"source seed {seed}", seed)

        def tuned(passes: int, start: Callable[[], PantherModel] | None) -> Figures:
            return fine_tuned(split, config, passes, start() if start else None, seed)

        rows: Rows = {
            "popular": lambda: by_frequency(split, own=False),
            "own counts, then popular": lambda: by_frequency(split, own=True),
        }
        for passes in config.budgets:
            rows[f"from scratch, {passes} passes"] = partial(tuned, passes, None)
            rows[f"pretrained elsewhere, {passes} passes"] = partial(tuned, passes, learnt)
        return self._run(rows, ("elsewhere", source.facts, target.facts), seed, split)

    def _run(self, rows: Rows, where: tuple[Any, ...], seed: int, split: UserSplit) -> dict[str, Figures]:
        counts = {"test_events": float(len(split.test)), "vocabulary": float(split.vocabulary.size)}
        shares = self._config.train, self._config.known, self._config.small
        out: dict[str, Figures] = {}
        for name, work in rows.items():
            key = key_of(where, name, *shares, seed)
            run = self._done.find(key)
            if run is None:
                say(f"  {name}, seed {seed}")
                started = time.perf_counter()
                figures = work() | counts | {"seconds": round(time.perf_counter() - started, 1)}
                facts = {"where": where, "row": name, "seed": seed}
                run = self._done.add(FiguresRun(key=key, facts=facts, figures=figures))
            out[name] = run.figures
        return out

    def _pretrained(self, log: NamedLog, split: UserSplit, keep_N: Mask, title: str, seed: int) -> PantherModel:
        """A model pretrained on the events `keep_N`; its checkpoint stays in the output folder for the next call."""
        config = self._config.train
        key = key_of(log.facts, config, seed, int(np.flatnonzero(keep_N).sum()), int(keep_N.sum()))
        torch.manual_seed(seed)
        model = PantherModel(config.model, split.schema, split.vocabulary)
        run = PretrainOptions(Checkpoint(self._out / f"pretrain-{key}", key), split.judge(config, seed))
        losses = pretrain(model.panther, split.part(keep_N), config, seed, run)
        say(f"  {title}: epoch {losses['best_epoch']:.0f}, validation HR@10 {losses['best_hr@10']:.4f}")
        return model


def fine_tuned(
    split: UserSplit, config: TransferConfig, passes: int, source: PantherModel | None, seed: int
) -> Figures:
    """Figures after `passes` over the small part, starting from `source`'s weights that fit, or from scratch."""
    torch.manual_seed(seed)
    model = PantherModel(config.train.model, split.schema, split.vocabulary)
    share = carry_over(source.panther, model.panther) if source else 0.0
    train = msgspec.structs.replace(config.train, epochs=passes, patience=0)
    pretrain(model.panther, split.part(split.fit_N), train, seed)
    facts = {"carried_over": share, "small_part_events": float(split.fit_N.sum())}
    return with_context(model.eval(), split) | facts
