"""Pretraining: predict the next transaction of every user, without labels (paper 3).

A batch holds windows of about the same length, so that little padding is computed. Every event is predicted exactly
once an epoch: a user's first event from the profile alone, any other from the window that the worker would have had.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panther_core.base.console import progress_bar
from panther_core.base.errors import BadInput
from panther_core.model.bulk import Windows, chunks, padded, plan
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.panther import Panther
from panther_core.state.history import History
from trainer.fit.checkpoint import Best, Checkpoint
from trainer.fit.curve import LearningCurve
from trainer.fit.evaluate import Validation
from trainer.fit.losses import next_token, profile_contrast
from trainer.fit.optimiser import adamw, set_rate
from trainer.fit.parallel import ALONE, ProcessGroup
from trainer.fit.train_config import TrainConfig

_WARM_UP = 0.05  # share of the steps in which the learning rate rises
_FINAL = 0.05  # learning rate at the end, as a share of its peak


@dataclass(frozen=True)
class Batch:
    """B windows with N predictions: S of users' first events, from profiles alone, then those after window
    positions."""

    codes_BT: Tensor
    profile_B8: Tensor
    last_B: Tensor  # position of each window's last event
    output_BT: Tensor  # bool: positions whose next event is predicted
    start_profile_S8: Tensor
    target_N: Tensor  # CODE bits of the predicted events: S first events, then those that follow `output_BT`
    windows: int  # number of windows in the batch, those of other processes included


class Batches:
    """The batches of a history, in an order that depends on the seed and the epoch alone."""

    def __init__(self, history: History, config: TrainConfig, seed: int, group: ProcessGroup = ALONE) -> None:
        self._codes = history.code[history.order]
        self._profile = history.profile[history.order]
        user = history.user[history.order]
        self._follows = np.append(user[1:] == user[:-1], False)  # whether the next event is of the same user
        self._windows = plan(history, config.model.length)
        self._starts_user = np.zeros(len(self._codes), np.bool_)
        self._starts_user[history.bounds[:-1][np.diff(history.bounds) > 0]] = True
        self._positions, self._seed, self._group = config.batch_positions, seed, group
        rng = np.random.default_rng(seed)
        # shuffled before the stable sort by length, so that windows of equal length in a batch are of unrelated users
        self._mixed = self._windows.take(rng.permutation(len(self._windows)))
        self._groups = list(chunks(self._mixed.end - self._mixed.begin, self._positions))

    def __len__(self) -> int:
        return len(self._groups)

    def epoch(self, number: int) -> Iterator[Batch]:
        """All batches of epoch `number`, shuffled; of each batch, this process's share of the windows."""
        for group in np.random.default_rng((self._seed, number)).permutation(len(self._groups)):
            mine = self._groups[group][self._group.rank :: self._group.size]
            yield self._batch(self._mixed.take(mine), len(self._groups[group]))

    def _batch(self, w: Windows, windows: int) -> Batch:
        codes = padded(self._codes, w.begin, w.end)
        place = w.begin[:, None] + np.arange(codes.shape[1])
        output = (
            (place >= w.first[:, None])
            & (place < w.end[:, None])
            & self._follows[np.minimum(place, len(self._codes) - 1)]
        )
        starts = w.begin[self._starts_user[w.begin] & (w.first == w.begin)]
        target = np.concatenate([self._codes[starts], self._codes[place[output] + 1]])
        device = self._group.device
        return Batch(
            codes_BT=as_tensor(codes, device),
            profile_B8=torch.from_numpy(self._profile[w.end - 1]).to(device),
            last_B=torch.from_numpy(w.end - w.begin - 1).to(device),
            output_BT=torch.from_numpy(output).to(device),
            start_profile_S8=torch.from_numpy(self._profile[starts]).to(device),
            target_N=as_tensor(target, device),
            windows=windows,
        )


@dataclass(frozen=True)
class PretrainOptions:
    """Optional parts of a pretraining."""

    checkpoint: Checkpoint | None = None
    """File that an interrupted pretraining resumes from."""
    validation: Validation | None = None
    """Measures HR@10 after each epoch; the best epoch's weights are kept (see TrainConfig.patience)."""
    curve: Path | None = None
    """CSV file with a line of figures for each epoch."""
    group: ProcessGroup = ALONE
    """The processes that train together."""


def pretrain(
    panther: Panther, history: History, config: TrainConfig, seed: int, run: PretrainOptions | None = None
) -> dict[str, float]:
    """Train in place, resuming after the last finished epoch. Returns losses (nats) and the speed of this process.

    The weights are moved to the group's device. A resumed run gives the weights of an uninterrupted one bit for bit.
    """
    run = run or PretrainOptions()
    batches = Batches(history, config, seed, run.group)
    panther.to(run.group.device)
    optimiser = adamw(panther, lr=config.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    best = Best()
    done = run.checkpoint.load(panther, optimiser, best) if run.checkpoint else 0
    _same_everywhere(run, done)
    curve = LearningCurve(run.curve if run.group.first else None, done)
    total = max(1, config.epochs * len(batches))
    generator, started, events = torch.Generator(), time.perf_counter(), 0
    result: dict[str, float] = {"epochs": done}
    panther.train()
    with progress_bar() as bar:
        task = bar.add_task("pretrain", total=total, completed=done * len(batches), note="")
        for epoch in range(done, config.epochs):
            if _out_of_patience(best, epoch, config):
                break
            torch.manual_seed(seed + epoch)  # seeds dropout by epoch: a resumed run equals an uninterrupted one
            generator.manual_seed(seed + epoch)
            losses: list[NDArray[np.float64]] = []
            for i, batch in enumerate(batches.epoch(epoch)):
                set_rate(optimiser, config.learning_rate * _share_of_peak((epoch * len(batches) + i) / total))
                losses.append(train_step(panther, optimiser, batch, generator, run.group))
                events += len(batch.target_N)
                bar.update(task, advance=1, note=f"next {losses[-1][0]:.3f}")
                if _time_is_up(config, run.group, started):
                    break
            mean = np.mean(losses, axis=0)
            result |= {"next_token_loss": float(mean[0]), "attribute_loss": float(mean[1]), "contrast": float(mean[2])}
            result["epochs"] = epoch + 1
            if run.validation is not None:
                own = run.validation.hit_rate(panther) if run.group.first else 0.0
                result["validation_hr@10"] = run.group.first_says(own)
                best.see(panther, result["validation_hr@10"], epoch + 1)
            curve.add(result)
            if _time_is_up(config, run.group, started):
                break
            if run.checkpoint and run.group.first:
                run.checkpoint.save(panther, optimiser, epoch + 1, best)
    best.restore(panther)
    panther.eval()
    return result | best.figures() | {"events_per_s": events / (time.perf_counter() - started)}


def _same_everywhere(run: PretrainOptions, done: int) -> None:
    """Raise BadInput, in every process, if the data, settings or finished epochs of one differ from the first's."""
    key = run.checkpoint.key if run.checkpoint else ""
    data = float(int(hashlib.sha256(key.encode()).hexdigest()[:13], 16))  # 52 bits, which a float64 holds exactly
    other_data, other_epoch = (run.group.total(int(run.group.first_says(mine) != mine)) for mine in (data, float(done)))
    if other_data or other_epoch:
        raise BadInput(
            f"expected all processes to have the log, settings and checkpoint of the first one, got other data in "
            f"{other_data} and another epoch to go on after in {other_epoch} of {run.group.size} (here {done}): give "
            "all of them the same options, and an --out that they share"
        )


def _time_is_up(config: TrainConfig, group: ProcessGroup, started: float) -> bool:
    """Whether training has taken `config.minutes`, by the first process's clock."""
    return config.minutes > 0 and group.first_says(time.perf_counter() - started) > config.minutes * 60


def _out_of_patience(best: Best, epoch: int, config: TrainConfig) -> bool:
    """Whether `config.patience` epochs have passed since the best one."""
    return bool(config.patience and best.epoch and epoch - best.epoch >= config.patience)


def _share_of_peak(progress: float) -> float:
    """Learning rate as a share of its peak, at `progress` 0..1 of the steps: linear warm-up, then a cosine."""
    cosine = _FINAL + (1 - _FINAL) * (1 + math.cos(math.pi * progress)) / 2
    return min(1.0, (progress + 1e-3) / _WARM_UP) * cosine


def train_step(
    panther: Panther,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    generator: torch.Generator,
    group: ProcessGroup = ALONE,
) -> NDArray[np.float64]:
    """One update. Returns the losses (next token, attributes, contrast) of the whole batch, over all processes."""
    config, cuda = panther.config, group.device.type == "cuda"
    count = group.total(len(batch.target_N))
    if not count:
        return np.zeros(3)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=cuda):
        parts_3 = torch.stack(_losses(panther, batch, generator, group, count))
    weight_3 = parts_3.new_tensor([1.0, config.attribute_weight, config.contrastive_weight])
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward((parts_3 * weight_3).sum())
    group.add_gradients(panther)
    torch.nn.utils.clip_grad_norm_(panther.parameters(), 1.0)
    optimiser.step()
    return group.add_up(parts_3.detach()).double().cpu().numpy()


def _losses(
    panther: Panther, batch: Batch, generator: torch.Generator, group: ProcessGroup, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """This process's parts of the three losses. Summed over processes they are the losses of all `count`
    predictions."""
    config, empty = panther.config, panther.start_D.new_zeros(0, panther.config.user_dim)
    token = attribute = panther.start_D.sum() * 0
    h_BTD = panther(batch.codes_BT, batch.profile_B8) if len(batch.last_B) else None
    if len(batch.target_N):
        assert h_BTD is not None  # a prediction belongs to a window
        h_ND, share = (
            torch.cat([panther.start(batch.start_profile_S8), h_BTD[batch.output_BT]]),
            len(batch.target_N) / count,
        )
        token = next_token(panther, h_ND, batch.target_N, generator) * share
        attribute = panther.surprise(h_ND, attributes(batch.target_N)).mean() * share
    e_BU = empty if h_BTD is None else panther.user_embedding(h_BTD[torch.arange(len(batch.last_B)), batch.last_B])
    most = batch.windows // group.size + 1
    users, profiles = group.gather(e_BU, most), group.gather(batch.profile_B8, most)
    contrast = profile_contrast(users, profiles, config.contrastive_temperature) / group.size
    return token, attribute, contrast
