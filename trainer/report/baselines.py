"""Baselines of a version's report: gradient boosting on the rows that the fraud head is trained on.

One baseline has the context features alone, the other also PANTHER's outputs (Delta and e_u), so that the gain by the
encoder and the gain by the head can be told apart. Both are calibrated like the head.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.base.odds import sigmoid
from panther_core.entities.grouped import Floats
from panther_core.state.history import History
from trainer.fit.calibrate import platt
from trainer.fit.finetune import HeadInputs
from trainer.heads.boosting import boosted_logits
from trainer.report.measure import BOOSTING, BOOSTING_PANTHER


def boosted_scores(
    history: History,
    label_N: NDArray[np.int8],
    rows: Mapping[str, NDArray[np.int64]],
    inputs: Mapping[str, HeadInputs],
    seed: int,
) -> dict[str, tuple[Floats, Floats]]:
    """By scorer: probabilities of fraud of the rows "validation" and "test"; fitted on the rows "chosen", calibrated on
    "validation"."""
    plain = {name: history.features[part] for name, part in rows.items()}
    panther = {name: torch.cat([inputs[name].dense_NX, inputs[name].e_NU], dim=1).numpy() for name in rows}
    label = {name: label_N[part] for name, part in rows.items()}
    return {BOOSTING: _scores(plain, label, seed), BOOSTING_PANTHER: _scores(panther, label, seed)}


def _scores(
    x: Mapping[str, NDArray[np.float32]], label: Mapping[str, NDArray[np.int8]], seed: int
) -> tuple[Floats, Floats]:
    asked = np.concatenate([x["validation"], x["test"]])
    # LightGBM sets OpenMP's number of threads for the whole process; another number would change torch's results
    logit = boosted_logits(x["chosen"], label["chosen"], asked, torch.get_num_threads(), seed)
    count = len(x["validation"])
    scale, bias = platt(logit[:count], label["validation"])
    chance = sigmoid(scale * logit + bias)
    return chance[:count], chance[count:]
