"""One run of `panther bench seqrec`: train, keep the round with the best validation HR@10, rank the test items once.

Validated and tested are averages of the weights over the last updates. At a constant learning rate the figures of the
weights themselves vary from update to update by more than models differ.
"""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bench.results import FinishedRun
from bench.sequences.batches import SequenceInputs, batches, training_inputs
from bench.sequences.contrast import behaviour_contrast
from bench.sequences.evaluate import ranks
from bench.sequences.losses import SampledItems, full_softmax, sampled_softmax
from bench.sequences.model import SequenceModel
from bench.sequences.sequence_config import SequenceConfig
from panther_core.base.console import progress_bar
from panther_core.data.formats.sequences import LeaveOneOut, Sequences
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.optimiser import adamw, set_rate
from trainer.fit.ranking import metrics

CHOSEN_BY = "hr@10"


@dataclass(frozen=True)
class SequenceRun:
    """The figures of one training."""

    validation: dict[str, float]
    test: dict[str, float]
    best_round: int
    rounds: int
    seconds: float
    """Since the training began, or since it was last resumed."""


class SequenceLine(FinishedRun, frozen=True, kw_only=True):
    """A finished run of one model on one set."""

    set: str
    model: str
    seed: int
    config: SequenceConfig
    run: SequenceRun


def run_key(sequences: Sequences, config: SequenceConfig, seed: int) -> str:
    """16 hex digits that name a run by all that its result depends on, the code aside."""
    digest = hashlib.sha256(msgspec.json.encode((config, seed)))
    digest.update(sequences.items.tobytes() + sequences.bounds.tobytes())
    return digest.hexdigest()[:16]


class Progress(nn.Module):
    """Everything that a checkpoint must hold.

    That is the model, its averaged weights, the best average so far, and the validation figure of every round.
    """

    history: Tensor

    def __init__(self, model: SequenceModel, config: SequenceConfig) -> None:
        super().__init__()
        self.model, self.best = model, copy.deepcopy(model)

        def averaging(mean: Any, now: Any, updates: Any) -> None:
            """Decay faster during the first updates, whose weights are far from where training ends."""
            decay = min(config.average, (1 + int(updates)) / (10 + int(updates)))
            get_ema_multi_avg_fn(decay)(mean, now, updates)  # type: ignore[no-untyped-call]

        self._average = AveragedModel(model, multi_avg_fn=averaging)
        self.register_buffer("history", torch.full((config.epochs,), -1.0, dtype=torch.float64))

    @property
    def average(self) -> SequenceModel:
        """The model with exponentially averaged weights."""
        return cast(SequenceModel, self._average.module)

    def updated(self) -> None:
        """Take the model's weights into the average; to be called after each update."""
        self._average.update_parameters(self.model)

    def record(self, done: int, figure: float) -> None:
        """Note the validation `figure` of round `done` (0-based), and keep the average if it is the best so far."""
        if figure > float(self.history.max()):
            self.best.load_state_dict(self.average.state_dict())
        self.history[done] = figure

    @property
    def best_round(self) -> int:
        """The round (0-based) with the best figure; the earliest of equals."""
        return int(self.history.argmax())


def train(
    split: LeaveOneOut, config: SequenceConfig, seed: int, checkpoint: Checkpoint | None = None, name: str = "train"
) -> SequenceRun:
    """Train and evaluate. An interrupted run resumes after the last round in `checkpoint`, with the same result."""
    torch.manual_seed(seed)
    model = SequenceModel(config, len(split.sequences.item_names))
    progress = Progress(model, config)
    optimiser = adamw(model, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    inputs, exclude_seen = training_inputs(split, config.model.length), not split.repeats()
    done, started = checkpoint.load(progress, optimiser) if checkpoint else 0, time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task(name, total=config.epochs, completed=done, note="")
        while done < config.epochs and done - progress.best_round <= config.patience:
            loss = _round(progress, optimiser, inputs, seed, done)
            progress.record(done, metrics(ranks(progress.average, split, "validation", exclude_seen))[CHOSEN_BY])
            done += 1
            bar.update(task, advance=1, note=f"loss {loss:.3f} validation {float(progress.history[done - 1]):.4f}")
            if checkpoint:
                checkpoint.save(progress, optimiser, done)
    validation = metrics(ranks(progress.best, split, "validation", exclude_seen))
    test = metrics(ranks(progress.best, split, "test", exclude_seen))
    return SequenceRun(validation, test, progress.best_round + 1, done, time.perf_counter() - started)


def _round(
    progress: Progress, optimiser: torch.optim.Optimizer, inputs: SequenceInputs, seed: int, number: int
) -> float:
    """Make whole passes until there were `steps_per_epoch` updates; returns the mean loss.

    Everything random comes from (seed, number), so that a resumed run equals an uninterrupted one.
    """
    model, config = progress.model, progress.model.config
    rng = np.random.default_rng([seed, number])
    torch.manual_seed(int(rng.integers(2**62)))
    model.train()
    losses: list[float] = []
    while not losses or len(losses) < config.steps_per_epoch:
        for rows in batches(inputs.lengths, config.batch_positions, rng):
            # steps are counted from the round's number, not from the updates made so far, which a resumed run lacks
            ramp = (number * config.steps_per_epoch + len(losses) + 1) / max(1, config.warm_up)
            set_rate(optimiser, config.learning_rate * min(1.0, ramp))
            losses.append(_step(model, optimiser, *(torch.from_numpy(part) for part in inputs.take(rows))))
            progress.updated()
    return float(np.mean(losses))


def _step(model: SequenceModel, optimiser: torch.optim.Optimizer, items_BT: Tensor, next_BT: Tensor) -> float:
    h_BTD, weight = model(items_BT), model.config.model.contrastive_weight
    loss = _loss(model, h_BTD, next_BT)
    if weight:
        again_BTD = model(items_BT)  # the second view: another dropout mask
        term = behaviour_contrast(h_BTD, again_BTD, next_BT, model.config.model.contrastive_temperature)
        loss = (loss + _loss(model, again_BTD, next_BT)) / 2 + weight * term
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
    return loss.item()


def _loss(model: SequenceModel, h_BTD: Tensor, next_BT: Tensor) -> Tensor:
    query_MD, target_M = model.query(h_BTD[next_BT > 0]), next_BT[next_BT > 0]
    count, items = model.config.negatives, len(model.item_ND) - 1
    if not count:
        return full_softmax(query_MD, model.output_rows(), target_M)
    sample_S = torch.randint(1, items + 1, (count,))
    own, other = model.output_rows(target_M), model.output_rows(sample_S)
    return sampled_softmax(query_MD, own, other, SampledItems(sample_S, target_M), items)
