"""The candidate lists of `panther bench rerank`: the items that the encoder ranks first after a history.

Shapes: M histories, N candidates each, D width, I items (0 is padding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.sequences.batches import HeldOutStage, held_out_inputs, training_inputs
from bench.sequences.evaluate import Places, history_pairs, owners, ranks_of, states
from bench.sequences.model import SequenceModel
from panther_core.data.formats.sequences import LeaveOneOut, Sequences

_SCORES = 4 << 20  # scores held in memory at a time


@dataclass(frozen=True)
class CandidateLists:
    """M lists of candidates by falling encoder logit. Where fewer than N items are left, the rest have logit -inf."""

    h_MD: Tensor
    item_MN: Tensor
    logit_MN: Tensor
    seen_MN: Tensor
    """bool: the item is in the history (always false on sets where seen items are left out of the ranking)."""
    target_M: Tensor
    place_M: Tensor
    """The encoder's rank of the target among all items, 0 = best, ties against it; below N it is a candidate."""

    def __len__(self) -> int:
        return len(self.target_M)

    def take(self, rows: Tensor) -> CandidateLists:
        """The lists of some rows."""
        parts = (self.h_MD, self.item_MN, self.logit_MN, self.seen_MN, self.target_M, self.place_M)
        return CandidateLists(*(part[rows] for part in parts))


def training_lists(
    model: SequenceModel, split: LeaveOneOut, encoder: LeaveOneOut, candidates: int, most: int, seed: int
) -> CandidateLists:
    """Lists after at most `most` training positions drawn at random; nothing behind `split.train_end` is used.

    `encoder` is the split that the encoder was trained on. Where its training part is shorter than that of `split`,
    only the items that the encoder has not seen are targets.
    """
    h_MD, at = states(model, training_inputs(split, model.config.model.length), model.config.model.length)
    if (encoder.train_end < split.train_end).any():
        rows = np.flatnonzero(at + 1 >= encoder.train_end[owners(split.sequences, at)])
    else:
        rows = np.arange(len(at))
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return lists(model, h_MD[torch.from_numpy(rows)], at[rows], split, candidates)


def held_out_lists(model: SequenceModel, split: LeaveOneOut, stage: HeldOutStage, candidates: int) -> CandidateLists:
    """One list for every evaluated user, whose target is the item held out at `stage`."""
    h_MD, at = states(model, held_out_inputs(split, stage, model.config.model.length), 1)
    return lists(model, h_MD, at, split, candidates)


@torch.inference_mode()
def lists(model: SequenceModel, h_MD: Tensor, at: Places, split: LeaveOneOut, candidates: int) -> CandidateLists:
    """Lists of `candidates` items after the histories that end at places `at`; `h_MD` are the states there."""
    sequences, leave_out = split.sequences, not split.repeats()
    table_ID = model.output_rows()
    count = min(candidates, len(table_ID) - 1)
    target_M = torch.from_numpy(sequences.items[at + 1].astype(np.int64))
    size, out = max(1, _SCORES // len(table_ID)), []
    for start in range(0, len(at), size):
        part = slice(start, start + size)
        out.append(_top(model.query(h_MD[part]) @ table_ID.T, target_M[part], sequences, at[part], count, leave_out))
    item, logit, seen, place = (torch.cat(column) for column in zip(*out, strict=True))
    return CandidateLists(h_MD, item, logit, seen, target_M, place)


def _top(
    scores_MI: Tensor, target_M: Tensor, sequences: Sequences, at: Places, count: int, leave_out: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seen_2S = history_pairs(sequences, at)
    place_M = ranks_of(scores_MI, target_M, seen_2S if leave_out else None)  # sets the scores of left-out items to -inf
    logit_MN, item_MN = scores_MI.topk(count, dim=1)
    seen_MN = torch.zeros_like(item_MN, dtype=torch.bool)
    if not leave_out:
        seen_MI = torch.zeros_like(scores_MI, dtype=torch.bool)
        seen_MI[seen_2S[0], seen_2S[1]] = True
        seen_MN = seen_MI.gather(1, item_MN)
    return item_MN, logit_MN, seen_MN, place_M
