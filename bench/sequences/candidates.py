"""What the encoder ranks first after a history: the lists that a re-ranker orders anew.

Shapes: M histories, N candidates each, D width, I items (0 is padding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.sequences.batches import Inputs, Stage, held_out_inputs, training_inputs
from bench.sequences.evaluate import ranks_of
from bench.sequences.model import SequenceModel
from panther_core.data.formats.sequences import LeaveOneOut, Sequences
from panther_core.model.bulk import chunks

_POSITIONS = 8192
_SCORES = 4 << 20  # held at a time
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Lists:
    """Candidates by falling encoder logit; where fewer than N items are left, the rest have logit -inf."""

    h_MD: Tensor
    item_MN: Tensor
    logit_MN: Tensor
    seen_MN: Tensor
    """bool: the history holds the item (always false where seen items are left out)."""
    target_M: Tensor
    place_M: Tensor
    """The encoder's full rank of the item that came, 0 = best, ties against it; < N: it is among the candidates."""

    def __len__(self) -> int:
        return len(self.target_M)

    def take(self, rows: Tensor) -> Lists:
        """Some of them."""
        parts = (self.h_MD, self.item_MN, self.logit_MN, self.seen_MN, self.target_M, self.place_M)
        return Lists(*(part[rows] for part in parts))


def training_lists(
    model: SequenceModel, split: LeaveOneOut, encoder: LeaveOneOut, candidates: int, most: int, seed: int
) -> Lists:
    """At most `most` training positions, drawn at random; no item behind `split.train_end` is history or target.

    `encoder` is the split that the encoder was trained on: where its training part is shorter, only the training
    items that it never saw are targets.
    """
    h_MD, at = states(model, training_inputs(split, model.config.model.length), model.config.model.length)
    if (encoder.train_end < split.train_end).any():
        rows = np.flatnonzero(at + 1 >= encoder.train_end[_user(split.sequences, at)])
    else:
        rows = np.arange(len(at))
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return lists(model, h_MD[torch.from_numpy(rows)], at[rows], split, candidates)


def held_out_lists(model: SequenceModel, split: LeaveOneOut, stage: Stage, candidates: int) -> Lists:
    """One list an evaluated user, for the item held out at that stage."""
    h_MD, at = states(model, held_out_inputs(split, stage, model.config.model.length), 1)
    return lists(model, h_MD, at, split, candidates)


@torch.inference_mode()
def states(model: SequenceModel, inputs: Inputs, newest: int) -> tuple[Tensor, Places]:
    """h [M, D] after each of the `newest` last items of every row, and the places [M] of those items, ascending."""
    model.eval()
    h: list[Tensor] = []
    places: list[Places] = []
    for rows in chunks(inputs.lengths, _POSITIONS):
        items, _ = inputs.take(rows)
        end = inputs.end[rows, None]
        at = inputs.begin[rows, None] + np.arange(items.shape[1])
        counts = (at < end) & (at >= end - newest)
        h.append(model(torch.from_numpy(items))[torch.from_numpy(counts)])
        places.append(at[counts])
    every = np.concatenate(places)
    order = np.argsort(every)
    return torch.cat(h)[torch.from_numpy(order)], every[order]


@torch.inference_mode()
def lists(model: SequenceModel, h_MD: Tensor, at: Places, split: LeaveOneOut, candidates: int) -> Lists:
    """The first `candidates` items after the histories that end at places `at` (those included)."""
    sequences, leave_out = split.sequences, not split.repeats()
    table_ID = model.output_rows()
    count = min(candidates, len(table_ID) - 1)
    target_M = torch.from_numpy(sequences.items[at + 1].astype(np.int64))
    size, out = max(1, _SCORES // len(table_ID)), []
    for start in range(0, len(at), size):
        part = slice(start, start + size)
        out.append(_top(model.query(h_MD[part]) @ table_ID.T, target_M[part], sequences, at[part], count, leave_out))
    item, logit, seen, place = (torch.cat(column) for column in zip(*out, strict=True))
    return Lists(h_MD, item, logit, seen, target_M, place)


def _top(
    scores_MI: Tensor, target_M: Tensor, sequences: Sequences, at: Places, count: int, leave_out: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seen_2S = history_pairs(sequences, at)
    place_M = ranks_of(scores_MI, target_M, seen_2S if leave_out else None)  # overwrites the scores left out
    logit_MN, item_MN = scores_MI.topk(count, dim=1)
    seen_MN = torch.zeros_like(item_MN, dtype=torch.bool)
    if not leave_out:
        seen_MI = torch.zeros_like(scores_MI, dtype=torch.bool)
        seen_MI[seen_2S[0], seen_2S[1]] = True
        seen_MN = seen_MI.gather(1, item_MN)
    return item_MN, logit_MN, seen_MN, place_M


def history_pairs(sequences: Sequences, at: Places) -> Tensor:
    """(row, item) pairs [2, S] of everything a user took up to and including place at[row]."""
    begin = sequences.bounds[_user(sequences, at)]
    count = at + 1 - begin
    row = np.repeat(np.arange(len(at)), count)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - begin, count)
    return torch.from_numpy(np.stack([row, sequences.items[place]]).astype(np.int64))


def _user(sequences: Sequences, at: Places) -> Places:
    return np.searchsorted(sequences.bounds, at, side="right") - 1
