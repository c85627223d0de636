"""Metrics of next-transaction prediction (paper 4); those of fraud scores are in panther_core.evaluation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panther_core.model.bulk import EncodedHistory, chunks, padded, places
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.panther import Panther
from panther_core.model.serving import POSITIONS, PantherModel
from panther_core.state.history import History
from panther_core.state.window import window_start
from trainer.fit.ranking import MISS, metrics, places_among

_LOGITS = 8 << 20  # of next tokens held in memory at a time
_STRETCH = 1 << 16  # rows whose outputs are taken out together
Rows = NDArray[np.int64]


def hit_rates(model: PantherModel, history: History, encoded: EncodedHistory, rows: Rows) -> dict[str, float]:
    """HR@1/5/10/50 and NDCG@5/10 of the next token, ranked against the whole vocabulary, over events with a history.

    Events outside the vocabulary ([UNK]) count as misses.
    """
    return metrics(next_ranks(model, history, encoded, rows))


@torch.inference_mode()
def next_ranks(model: PantherModel, history: History, encoded: EncodedHistory, rows: Rows) -> NDArray[np.int64]:
    """Rank of the next token at each of the `rows` that have a history (token_ranks)."""
    rows = rows[history.history_len[rows] > 0]
    rank = list[NDArray[np.int64]]()
    for low in range(0, max(1, len(rows)), _STRETCH):
        part = rows[low : low + _STRETCH]
        h_ND = torch.from_numpy(encoded.after(encoded.place[part].astype(np.int64) - 1)[:, : model.config.d])
        rank.append(token_ranks(model.panther, h_ND.to(model.device), history.code[part]))
    return np.concatenate(rank)


def token_ranks(panther: Panther, h_ND: Tensor, code_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Rank [N] of each event's token among all tokens, 0 = best; MISS for [UNK].

    Tokens with an equal logit, or one that is not a number, count as ranked before the event's.
    """
    table, out = panther.token_table(), []
    rows = max(1, _LOGITS // table.shape[1])
    for low in range(0, len(code_N), rows):
        part = slice(low, low + rows)
        target = panther.tokeniser(attributes(as_tensor(code_N[part], h_ND.device)))
        logits = panther.query(h_ND[part]) @ table
        rank = places_among(logits, logits.gather(1, target[:, None]))
        out.append(torch.where(target > 0, rank, MISS).cpu())
    return torch.cat(out).numpy() if out else np.zeros(0, np.int64)


class Validation:
    """HR@10 on a sample of events, one window for each, which is cheap enough to measure after every epoch."""

    def __init__(self, history: History, rows: Rows, sample: int, length: int, seed: int) -> None:
        rows = rows[history.kept[rows] & (history.history_len[rows] > 0)]
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:sample])
        end, known = places(history)[rows].astype(np.int64), history.history_len[rows].astype(np.int64)
        size = known - window_start(known, length)
        codes = history.code[history.order]
        self._windows, self._last = padded(codes, end - size, end), size - 1
        self._profile, self._target = history.profile[history.order[end - 1]], history.code[rows]

    @torch.inference_mode()
    def hit_rate(self, panther: Panther) -> float:
        """HR@10 of the encoder with its present weights; afterwards it is in training or evaluation mode as before."""
        training, device = panther.training, panther.start_D.device
        panther.eval()
        h_ND = torch.empty(len(self._last), panther.config.d, device=device)
        for at in chunks(self._last + 1, POSITIONS):
            codes = as_tensor(self._windows[at][:, : int(self._last[at].max()) + 1], device)
            profile = torch.from_numpy(self._profile[at]).to(device)
            index = torch.from_numpy(at).to(device)
            h_ND[index] = panther.newest(codes, profile, torch.from_numpy(self._last[at]).to(device))
        panther.train(training)
        return metrics(token_ranks(panther, h_ND, self._target))["hr@10"]
