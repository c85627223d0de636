"""Metrics of next-transaction prediction (paper 4); those of fraud scores are in panther_core.evaluation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.history import History
from panther_core.model.bulk import EncodedHistory
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.serving import PantherModel

HITS = (1, 5, 10)
_CHUNK = 4096


@torch.inference_mode()
def hit_rates(
    model: PantherModel, history: History, encoded: EncodedHistory, rows: NDArray[np.int64]
) -> dict[str, float]:
    """HR@1, 5, 10 of the next token, ranked against the whole vocabulary, over events that have a history.

    Events outside the vocabulary ([UNK]) count as misses.
    """
    rows = rows[history.history_len[rows] > 0]
    place, table = encoded.place[rows], model.panther.token_table()
    hits = np.zeros(len(HITS))
    for low in range(0, len(rows), _CHUNK):
        part = slice(low, low + _CHUNK)
        h = torch.from_numpy(encoded.cached[place[part] - 1, : model.config.d])
        target = model.panther.tokeniser(attributes(as_tensor(history.code[rows[part]], model.device)))
        logits = model.panther.query(h) @ table
        rank = (logits > logits.gather(1, target[:, None])).sum(dim=1)
        hits += [float(((rank < k) & (target > 0)).sum()) for k in HITS]
    return {f"hr_{k}": float(hit / max(1, len(rows))) for k, hit in zip(HITS, hits, strict=True)}
