"""Metrics by name, of fraud scores and of next-transaction prediction (paper 4)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from panther_core.history import History
from panther_core.model.bulk import EncodedHistory
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.serving import PantherModel

TOP_SHARES = (0.0001, 0.001, 0.01)
HITS = (1, 5, 10)
_CHUNK = 4096


def fraud_metrics(score: NDArray[np.float64], label: NDArray[np.int8]) -> dict[str, float]:
    """Average precision, ROC AUC, and recall among the top 0.01 %, 0.1 % and 1 % of scores (at least one row)."""
    order, frauds = np.argsort(-score, kind="stable"), int(label.sum())
    out = {
        "average_precision": float(average_precision_score(label, score)),
        "auc": float(roc_auc_score(label, score)),
    }
    for share in TOP_SHARES:
        top = order[: max(1, round(len(order) * share))]
        out[f"recall_top_{share * 100:g}pct"] = float(label[top].sum() / frauds)
    return out


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
