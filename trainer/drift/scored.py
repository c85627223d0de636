"""What a version would have answered to rows of a log, as a replay of it does: one path for all that looks back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panther_core import artifact
from panther_core.base.memory import give_back
from panther_core.base.odds import sigmoid
from panther_core.data.schema import CODE
from panther_core.data.table import TransactionTable
from panther_core.entities.merchant_history import MerchantHistory
from panther_core.model.serving import PantherModel
from panther_core.report.curves import Floats
from panther_core.serving_model import load_serving_model
from trainer.fit.arrived import Arrived
from trainer.fit.finetune import all_logits, head_inputs_by_users
from trainer.heads.blending import in_parts


@dataclass(frozen=True)
class Scored:
    """Answers to K rows, those of the rows asked for that the version would have decided (no copies)."""

    rows: NDArray[np.int64]  # [K] row numbers
    score: Floats  # [K] calibrated probabilities
    surprise: NDArray[np.float32]  # [K, A] nats (panther_core.decide.scoring.SURPRISE)
    code: NDArray[np.void]  # [K] CODE, gap filled
    unk: NDArray[np.bool_]  # [K] whether the vocabulary lacks the combination

    def part(self, wanted: NDArray[np.bool_]) -> Scored:
        """The rows among `wanted` [K] alone."""
        return Scored(self.rows[wanted], self.score[wanted], self.surprise[wanted], self.code[wanted], self.unk[wanted])


def score_rows(folder: Path, table: TransactionTable, rows: NDArray[np.int64], label_delay_ms: int) -> Scored:
    """Score rows of a log, which is the history of its users and merchants from its beginning. Raises ArtifactError."""
    give_back()  # a training, or the scores of another version, may have gone before
    model, served = PantherModel.load(folder), load_serving_model(folder)
    arrived = Arrived.of(table, served.schema, served.risk)
    rows = rows[arrived.kept[rows]]
    merchants = MerchantHistory(served.merchant_threshold)
    past = arrived.history(model.config.length, label_delay_ms, merchants, wanted=rows)
    inputs = head_inputs_by_users(model, past, rows)
    logit = all_logits(model.head, inputs)
    if model.blend is not None:
        logit = in_parts(model.blend.logit, logit, inputs)
    code = past.code[rows].view(CODE)
    return Scored(rows, sigmoid(logit), inputs.surprise, code, artifact.load_vocabulary(folder).tokens(code) == 0)


def scores_of(
    folder: Path, table: TransactionTable, rows: NDArray[np.int64], label_delay_ms: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores [N] of rows of a log, NaN for a row that the version would not have decided, and which it would have."""
    found = score_rows(folder, table, rows, label_delay_ms)
    kept = np.isin(rows, found.rows)
    out = np.full(len(rows), np.nan)
    out[kept] = found.score
    return out, kept
