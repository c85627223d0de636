"""Gradient boosting on columns: the baseline, and one part of PANTHER's system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from panther_core.grouped import Floats, Ints

ROUNDS = 250
#: where there are odds to start from, little is left to learn
FROM_ODDS_ROUNDS, FROM_ODDS = 100, {"num_leaves": 7}
_PROBE_ROUNDS = 100
#: chosen on windows before the published test folds, for the baseline and for the head with PANTHER's columns alike
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "verbosity": -1,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 100,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10,
    "deterministic": True,
    "force_row_wise": True,
}


@dataclass(frozen=True)
class Columns:
    """Features [N, F], and the log odds [N] that boosting starts from, if there are such."""

    x_NF: NDArray[np.float32]
    odds_N: Floats | None = None

    def take(self, rows: Ints) -> Columns:
        """Some of the rows."""
        return Columns(self.x_NF[rows], None if self.odds_N is None else self.odds_N[rows])


def boosted_logits(fitted: Columns, label: NDArray[np.int8], test: Columns, threads: int, seed: int) -> Floats:
    """Fit on N rows; fraud logits of the rows of `test`."""
    parameters, rounds = PARAMETERS | {"seed": seed, "num_threads": threads}, ROUNDS
    if fitted.odds_N is not None:
        parameters, rounds = parameters | FROM_ODDS, FROM_ODDS_ROUNDS
    booster = lightgbm.train(parameters, lightgbm.Dataset(fitted.x_NF, label, init_score=fitted.odds_N), rounds)
    learnt = np.asarray(booster.predict(test.x_NF, raw_score=True, num_threads=threads), np.float64)
    return learnt if test.odds_N is None else learnt + test.odds_N


def best_columns(x_NF: NDArray[np.float32], label: NDArray[np.int8], count: int, threads: int) -> NDArray[np.intp]:
    """The `count` columns that boosting on these rows gains most by, in column order."""
    parameters = PARAMETERS | {"seed": 0, "num_threads": threads}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x_NF, label), _PROBE_ROUNDS)
    return np.sort(np.argsort(-booster.feature_importance("gain"), kind="stable")[:count])
