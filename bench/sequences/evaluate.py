"""Full ranking: the held-out item's place among all items (behind `panther bench seqrec` and `rerank`).

Shapes: U evaluated users, M histories, I rows of the item table (row 0 is padding), D width, S (row, item) pairs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.sequences.batches import HeldOutStage, SequenceInputs, held_out_inputs
from bench.sequences.model import SequenceModel
from panther_core.data.formats.sequences import LeaveOneOut, Sequences
from panther_core.model.bulk import chunks
from trainer.fit.ranking import places_among

_SCORES = 8 << 20  # scores held in memory at a time
_POSITIONS = 8192  # padded positions encoded at a time
Places = NDArray[np.int64]


@torch.inference_mode()
def ranks(model: SequenceModel, split: LeaveOneOut, stage: HeldOutStage, exclude_seen: bool) -> Places:
    """Place [U] of the held-out item among all items, 0 = best; ties count against it.

    `exclude_seen` leaves the user's earlier items out of the ranking, as the published full rankings do.
    """
    h_UD, at_U = states(model, held_out_inputs(split, stage, model.config.model.length), newest=1)
    target_U = torch.from_numpy(split.sequences.items[at_U + 1].astype(np.int64))
    table_ID = model.output_rows()
    out = np.empty(len(target_U), np.int64)
    size = max(1, _SCORES // len(table_ID))
    for start in range(0, len(out), size):
        part = slice(start, start + size)
        seen_2S = history_pairs(split.sequences, at_U[part]) if exclude_seen else None
        out[part] = ranks_of(model.query(h_UD[part]) @ table_ID.T, target_U[part], seen_2S).numpy()
    return out


def ranks_of(scores_MI: Tensor, target_M: Tensor, seen_2S: Tensor | None) -> Tensor:
    """Place [M] of each target among the items, without item 0 (padding) and the pairs `seen_2S`.

    A target that is itself among the pairs stays in the ranking. Overwrites `scores_MI`.
    """
    own_M1 = scores_MI.gather(1, target_M[:, None])
    scores_MI[:, 0] = -torch.inf
    if seen_2S is not None:
        scores_MI[seen_2S[0], seen_2S[1]] = -torch.inf
        scores_MI.scatter_(1, target_M[:, None], own_M1)
    return places_among(scores_MI, own_M1)


@torch.inference_mode()
def states(model: SequenceModel, inputs: SequenceInputs, newest: int) -> tuple[Tensor, Places]:
    """h [M, D] after each of the `newest` last items of every row, and the places [M] of these items, ascending.

    A place is an index into `Sequences.items`.
    """
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


def history_pairs(sequences: Sequences, at: Places) -> Tensor:
    """(row, item) pairs [2, S] of all items a user took up to and including place at[row], also beyond the window."""
    begin = sequences.bounds[owners(sequences, at)]
    count = at + 1 - begin
    row = np.repeat(np.arange(len(at)), count)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - begin, count)
    return torch.from_numpy(np.stack([row, sequences.items[place]]).astype(np.int64))


def owners(sequences: Sequences, at: Places) -> Places:
    """User to whose sequence each place belongs."""
    return np.searchsorted(sequences.bounds, at, side="right") - 1
