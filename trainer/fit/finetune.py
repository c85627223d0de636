"""Fine-tuning: the fraud head on matured labels, encoder frozen (paper eq. 3).

The encoder's outputs before every event are computed once (encode_history), so that an epoch computes the head alone.
N rows, X dense inputs, U width of e_u, S span of the text convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn import functional as F

from panther_core.base.console import progress_bar
from panther_core.decide.scoring import SURPRISE
from panther_core.model.bulk import EncodedHistory, by_users, places, places_before, score_request
from panther_core.model.codes import as_tensor
from panther_core.model.head import ContextHead, FraudHead
from panther_core.model.outputs import unpack
from panther_core.model.serving import PantherModel
from panther_core.state.history import History
from panther_core.state.window import RECENT
from trainer.fit.train_config import TrainConfig

_CHUNK = 4096
_LEAST_BATCH = 64
_WEIGHT_DECAY = 0.3  # strong, because a few hundred frauds are a small data set


@dataclass(frozen=True)
class Spans:
    """The codes of the last S events of N rows, each row's own event the last; made when they are asked for."""

    codes_K: Tensor  # of all events, by place
    place_N: Tensor
    known_N: Tensor  # earlier events of the row's user
    span: int

    def __getitem__(self, index: Tensor) -> Tensor:
        """Of some rows, [B, S]; zeros on the left."""
        back_S = torch.arange(self.span - 1, -1, -1, device=self.codes_K.device)
        codes_BS = self.codes_K[(self.place_N[index, None] - back_S).clamp(min=0)]
        return torch.where(back_S <= self.known_N[index, None], codes_BS, 0)

    def and_then(self, other: Spans) -> Spans:
        """These rows, then those of `other`."""
        place_N = torch.cat([self.place_N, other.place_N + len(self.codes_K)])
        codes_K = torch.cat([self.codes_K, other.codes_K])
        return Spans(codes_K, place_N, torch.cat([self.known_N, other.known_N]), self.span)


@dataclass(frozen=True)
class HeadInputs:
    """Inputs of the head for N rows. `surprise` [N, A] is no input of its own: the manifest takes its mean."""

    dense_NX: Tensor
    e_NU: Tensor
    codes_NS: Spans
    surprise: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.dense_NX)

    @classmethod
    def room(cls, model: PantherModel, history: History, codes_K: Tensor, rows: NDArray[np.int64]) -> HeadInputs:
        """Room for the inputs of the (kept) events `rows`; `codes_K`: codes of all events, by place."""
        count, place, device = len(rows), places(history)[rows], model.device
        spans = Spans(
            codes_K,
            torch.from_numpy(place).to(device),
            torch.from_numpy(history.history_len[rows]).to(device),
            model.config.span,
        )
        surprise = np.empty((count, len(SURPRISE)), np.float32)
        return cls(torch.empty(count, len(model.head.mean)), torch.empty(count, model.config.user_dim), spans, surprise)

    def within(self, first: int, end: int) -> NDArray[np.int64]:
        """Which rows are events at places from `first` to `end`."""
        place = self.codes_NS.place_N.cpu().numpy()
        return np.flatnonzero((place >= first) & (place < end))

    @torch.inference_mode()
    def fill(
        self,
        model: PantherModel,
        history: History,
        encoded: EncodedHistory,
        rows: NDArray[np.int64],
        at: NDArray[np.int64],
    ) -> None:
        """Fill in those of `rows[at]`, of which `encoded` has the outputs before them."""
        for low in range(0, len(at), _CHUNK):
            some = at[low : low + _CHUNK]
            request = score_request(history, encoded, rows[some])
            cold = torch.from_numpy(request.history_len == 0)
            known = model.with_cold(
                unpack(torch.from_numpy(request.cached), model.config), cold, torch.from_numpy(request.profile)
            )
            delta = model.deviation(known, as_tensor(request.code, model.device))
            place = torch.from_numpy(some)
            self.dense_NX[place] = model.head.dense(torch.from_numpy(request.features), delta, cold)
            self.e_NU[place] = known.e_BU
            self.surprise[some] = delta.surprise_BA.numpy()

    def and_then(self, other: HeadInputs) -> HeadInputs:
        """These rows, then those of `other`."""
        return HeadInputs(
            torch.cat([self.dense_NX, other.dense_NX]),
            torch.cat([self.e_NU, other.e_NU]),
            self.codes_NS.and_then(other.codes_NS),
            np.concatenate([self.surprise, other.surprise]),
        )


def head_inputs(model: PantherModel, history: History, encoded: EncodedHistory, rows: NDArray[np.int64]) -> HeadInputs:
    """Inputs of the rows `rows`, which must be kept ones (no redeliveries), of all of which `encoded` has the outputs
    before them."""
    out = HeadInputs.room(model, history, as_tensor(encoded.codes, model.device), rows)
    out.fill(model, history, encoded, rows, np.arange(len(rows)))
    return out


def head_inputs_by_users(model: PantherModel, history: History, rows: NDArray[np.int64]) -> HeadInputs:
    """Inputs of the (kept) rows `rows`, encoded as many users at a time as memory does not mind."""
    out = HeadInputs.room(model, history, as_tensor(history.code[history.order], model.device), rows)
    for wanted, first, end in by_users(history, places_before(history, rows)):
        out.fill(model, history, model.encode_history(history, wanted=wanted), rows, out.within(first, end))
    return out


def head_logits(head: FraudHead | ContextHead, inputs: HeadInputs, index: Tensor) -> Tensor:
    """Uncalibrated logits of the rows `index`; the text convolution runs over all S events, so that it can be
    trained."""
    e = inputs.e_NU[index]
    if head.text is None:
        return head.logit(inputs.dense_NX[index], e, e[:, :0])
    pooled = head.text.activations(F.pad(inputs.codes_NS[index], (RECENT, 0))).amax(dim=1)
    return head.logit(inputs.dense_NX[index], e, pooled)


@torch.inference_mode()
def all_logits(head: FraudHead | ContextHead, inputs: HeadInputs) -> NDArray[np.float64]:
    """Uncalibrated logits [N]."""
    parts = [head_logits(head, inputs, index) for index in torch.split(torch.arange(len(inputs)), _CHUNK)]
    return torch.cat(parts).double().numpy()


def sample_negatives(
    label: NDArray[np.int8], rows: NDArray[np.int64], config: TrainConfig, seed: int
) -> NDArray[np.int64]:
    """All fraud rows of `rows` and, for each, `negatives` legitimate ones drawn at random, at most `head_rows` in all
    but at least as many as frauds; ascending."""
    fraud, honest = rows[label[rows] == 1], rows[label[rows] == 0]
    most = max(len(fraud), config.head_rows - len(fraud)) if config.head_rows else len(honest)
    count = min(len(honest), config.negatives * len(fraud), most)
    return np.sort(np.concatenate([fraud, np.random.default_rng(seed).choice(honest, count, replace=False)]))


def finetune(
    head: FraudHead | ContextHead,
    train: HeadInputs,
    label: NDArray[np.int8],
    validation: HeadInputs,
    validation_label: NDArray[np.int8],
    config: TrainConfig,
    seed: int,
) -> list[float]:
    """Train in place, and keep the weights with the best validation average precision among those of `head_epochs`
    moments, evenly apart. Few rows make more passes, in smaller batches (`head_updates`).

    Returns the validation average precision at each moment.
    """
    torch.manual_seed(seed)
    head.mean.copy_(train.dense_NX.mean(dim=0)[: len(head.mean)])
    head.std.copy_(train.dense_NX.std(dim=0)[: len(head.std)].clamp(min=1e-3))
    target = torch.from_numpy(label).float()
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.head_learning_rate, weight_decay=_WEIGHT_DECAY)
    batches = max(1, len(train) // config.head_batch)
    if config.head_epochs * batches < config.head_updates:
        batches = max(batches, len(train) // _LEAST_BATCH)
    updates = max(config.head_updates, config.head_epochs * batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.head_learning_rate, total_steps=updates + 1)
    judged_at = set(np.linspace(0, updates, config.head_epochs + 1).round().astype(int)[1:].tolist())
    history: list[float] = []
    best = copy.deepcopy(head.state_dict())
    with progress_bar() as bar:
        task = bar.add_task("fine-tune", total=updates, note="")
        head.train()
        for done, index in enumerate(islice(_batches(len(train), batches), updates), 1):
            loss = F.binary_cross_entropy_with_logits(head_logits(head, train, index), target[index])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            bar.update(task, advance=1)
            if done in judged_at:
                head.eval()
                history.append(float(average_precision_score(validation_label, all_logits(head, validation))))
                bar.update(task, note=f"validation AP {history[-1]:.3f}")
                if history[-1] == max(history):
                    best = copy.deepcopy(head.state_dict())
                head.train()
    head.eval()
    head.load_state_dict(best)
    return history


def _batches(rows: int, batches: int) -> Iterator[Tensor]:
    """Rows in random order, each once in `batches` batches, for ever."""
    while True:
        yield from torch.randperm(rows).tensor_split(batches)
