"""Pretraining: predict the next transaction of every user, without labels (paper 3).

Batches are windows of about the same length, so that little padding is computed. Every event is predicted exactly
once an epoch: the first of a user from the profile alone, the others from the window the stream would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panther_core.console import progress_bar
from panther_core.history import History
from panther_core.model.bulk import Windows, chunks, padded, plan
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.panther import Panther
from trainer.checkpoint import Checkpoint
from trainer.config import TrainConfig
from trainer.losses import next_token, profile_contrast

_WARM_UP = 0.05  # share of the steps
_FINAL = 0.05  # share of the learning rate at the end


@dataclass(frozen=True)
class Batch:
    """B windows; N predictions, the first `starts` of which are of first events, from the profile alone."""

    codes_BT: Tensor
    profile_B8: Tensor
    last_B: Tensor  # position of each window's last event
    output_BT: Tensor  # bool: positions whose next event is known
    start_profile_S8: Tensor
    target_N: Tensor  # CODE bits of the events predicted: first events, then those after `output_BT`


class Batches:
    """Batches over a history, in an order that depends on the seed and the epoch only."""

    def __init__(self, history: History, config: TrainConfig, seed: int) -> None:
        self._codes = history.code[history.order]
        self._profile = history.profile[history.order]
        self._user = history.user[history.order]
        self._windows = plan(history, config.model.length)
        self._starts_user = np.zeros(len(self._codes), np.bool_)
        self._starts_user[history.bounds[:-1][np.diff(history.bounds) > 0]] = True
        self._positions, self._seed = config.batch_positions, seed
        rng = np.random.default_rng(seed)
        # ties between equal lengths are broken by chance, so that a batch holds unrelated users
        self._mixed = self._windows.take(rng.permutation(len(self._windows)))
        self._groups = list(chunks(self._mixed.end - self._mixed.begin, self._positions))

    def __len__(self) -> int:
        return len(self._groups)

    def epoch(self, number: int) -> Iterator[Batch]:
        """All batches, shuffled."""
        for group in np.random.default_rng((self._seed, number)).permutation(len(self._groups)):
            yield self._batch(self._mixed.take(self._groups[group]))

    def _batch(self, w: Windows) -> Batch:
        codes = padded(self._codes, w.begin, w.end)
        place = w.begin[:, None] + np.arange(codes.shape[1])
        follows = np.append(self._user[1:] == self._user[:-1], False)
        output = (place >= w.first[:, None]) & (place < w.end[:, None]) & follows[np.minimum(place, len(follows) - 1)]
        starts = w.begin[self._starts_user[w.begin] & (w.first == w.begin)]
        target = np.concatenate([self._codes[starts], self._codes[place[output] + 1]])
        cpu = torch.device("cpu")
        return Batch(
            codes_BT=as_tensor(codes, cpu),
            profile_B8=torch.from_numpy(self._profile[w.end - 1]),
            last_B=torch.from_numpy(w.end - w.begin - 1),
            output_BT=torch.from_numpy(output),
            start_profile_S8=torch.from_numpy(self._profile[starts]),
            target_N=as_tensor(target, cpu),
        )


def pretrain(
    panther: Panther, history: History, config: TrainConfig, seed: int, checkpoint: Checkpoint | None = None
) -> dict[str, float]:
    """Train in place; resumes from `checkpoint` after the last finished epoch. Returns losses (nats) and speed."""
    batches = Batches(history, config, seed)
    optimiser = torch.optim.AdamW(panther.parameters(), lr=config.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    done = checkpoint.load(panther, optimiser) if checkpoint else 0
    total = max(1, config.epochs * len(batches))
    generator, started, events = torch.Generator(), time.perf_counter(), 0
    result: dict[str, float] = {"epochs": done}
    panther.train()
    with progress_bar() as bar:
        task = bar.add_task("pretrain", total=total, completed=done * len(batches), note="")
        for epoch in range(done, config.epochs):
            torch.manual_seed(seed + epoch)  # dropout; with it a resumed run equals an uninterrupted one
            generator.manual_seed(seed + epoch)
            losses: list[NDArray[np.float64]] = []
            for i, batch in enumerate(batches.epoch(epoch)):
                _set_rate(optimiser, config.learning_rate, (epoch * len(batches) + i) / total)
                losses.append(_step(panther, optimiser, batch, generator))
                events += len(batch.target_N)
                bar.update(task, advance=1, note=f"next {losses[-1][0]:.3f}")
                if config.minutes and time.perf_counter() - started > config.minutes * 60:
                    break
            mean = np.mean(losses, axis=0)
            result |= {"next_token_loss": float(mean[0]), "attribute_loss": float(mean[1]), "contrast": float(mean[2])}
            result["epochs"] = epoch + 1
            if config.minutes and time.perf_counter() - started > config.minutes * 60:
                break
            if checkpoint:
                checkpoint.save(panther, optimiser, epoch + 1)
    panther.eval()
    return result | {"events_per_s": events / (time.perf_counter() - started)}


def _set_rate(optimiser: torch.optim.Optimizer, peak: float, progress: float) -> None:
    cosine = _FINAL + (1 - _FINAL) * (1 + math.cos(math.pi * progress)) / 2
    for group in optimiser.param_groups:
        group["lr"] = peak * min(1.0, (progress + 1e-3) / _WARM_UP) * cosine


def _step(
    panther: Panther, optimiser: torch.optim.Optimizer, batch: Batch, generator: torch.Generator
) -> NDArray[np.float64]:
    """One update; returns the losses (next token, attributes, contrast)."""
    config = panther.config
    h_BTD = panther(batch.codes_BT, batch.profile_B8)
    h_ND = torch.cat([panther.start(batch.start_profile_S8), h_BTD[batch.output_BT]])
    if not len(h_ND):
        return np.zeros(3)
    token = next_token(panther, h_ND, batch.target_N, generator)
    attribute = panther.surprise(h_ND, attributes(batch.target_N)).mean()
    e_BU = panther.user_embedding(h_BTD[torch.arange(len(batch.last_B)), batch.last_B])
    contrast = profile_contrast(e_BU, batch.profile_B8, config.contrastive_temperature)
    loss = token + config.attribute_weight * attribute + config.contrastive_weight * contrast
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(panther.parameters(), 1.0)
    optimiser.step()
    return np.array([token.item(), attribute.item(), contrast.item()])
