"""Full ranking: the held-out item's place among all items, and the metrics of those places."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.sequences.batches import Inputs, Stage, held_out_inputs
from bench.sequences.model import SequenceModel
from panther_core.data.formats.sequences import LeaveOneOut
from panther_core.model.bulk import chunks

_SCORES = 8 << 20  # held at a time
_POSITIONS = 8192


@torch.inference_mode()
def ranks(model: SequenceModel, split: LeaveOneOut, stage: Stage, exclude_seen: bool) -> NDArray[np.int64]:
    """Place [evaluated users] of the held-out item among all items, 0 = best; ties count against it.

    `exclude_seen` leaves the user's earlier items out of the ranking, as the published full rankings do.
    """
    model.eval()
    inputs = held_out_inputs(split, stage, model.config.model.length)
    h_UD, target_U = _last_states(model, inputs)
    table_ND = model.output_rows()
    out = np.empty(len(target_U), np.int64)
    size = max(1, _SCORES // len(table_ND))
    for start in range(0, len(out), size):
        part = slice(start, start + size)
        scores = model.query(h_UD[part]) @ table_ND.T
        seen = _seen(split, stage, split.evaluated[part]) if exclude_seen else None
        out[part] = ranks_of(scores, torch.from_numpy(target_U[part]), seen).numpy()
    return out


def ranks_of(scores_BN: Tensor, target_B: Tensor, seen_2S: Tensor | None) -> Tensor:
    """Items that score no lower than the target, itself not counted; item 0 is padding. `seen_2S`: (row, item) pairs
    that are left out. Overwrites `scores_BN`."""
    own_B1 = scores_BN.gather(1, target_B[:, None])
    scores_BN[:, 0] = -torch.inf
    if seen_2S is not None:
        scores_BN[seen_2S[0], seen_2S[1]] = -torch.inf
        scores_BN.scatter_(1, target_B[:, None], own_B1)
    below_BN = (scores_BN < own_B1).view(torch.uint8)  # a score that is no number is not below: it is never a hit
    return scores_BN.shape[1] - 1 - below_BN.sum(dim=1, dtype=torch.int32).long()


def _last_states(model: SequenceModel, inputs: Inputs) -> tuple[Tensor, NDArray[np.int64]]:
    """h [rows, D] after the last item of each row, and the item that comes next."""
    lengths = inputs.lengths
    h_UD = torch.empty(len(lengths), model.config.model.d)
    target = np.empty(len(lengths), np.int64)
    for rows in chunks(lengths, _POSITIONS):
        items, following = inputs.take(rows)
        last = lengths[rows] - 1
        h_UD[torch.from_numpy(rows)] = model(torch.from_numpy(items))[torch.arange(len(rows)), torch.from_numpy(last)]
        target[rows] = following[np.arange(len(rows)), last]
    return h_UD, target


def _seen(split: LeaveOneOut, stage: Stage, users: NDArray[np.intp]) -> Tensor:
    """(row, item) pairs of all items before the held-out one, older than the window too."""
    begin, end = split.sequences.bounds[users], split.train_end[users] + (stage == "test")
    count = end - begin
    row = np.repeat(np.arange(len(users)), count)
    at = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
    return torch.from_numpy(np.stack([row, split.sequences.items[at]]).astype(np.int64))
