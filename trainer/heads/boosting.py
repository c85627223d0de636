"""Gradient boosting (LightGBM) on columns: the baseline, and one of the two heads of PANTHER's system."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

ROUNDS = 250  # trees
_LEAST_ROUNDS, _MOST_ROUNDS, _PATIENCE = 40, 800, 60  # trees, where a validation ends the fit
_PROBE_ROUNDS = 100  # trees that tell which columns matter
#: chosen on windows before the published test folds; the same for the baseline and for the head with PANTHER's columns
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


def boosted_logits(
    x_NF: NDArray[np.float32], label: NDArray[np.int8], test_MF: NDArray[np.float32], threads: int, seed: int
) -> NDArray[np.float64]:
    """Fit on N rows; fraud logits of M rows."""
    parameters = PARAMETERS | {"seed": seed, "num_threads": threads}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x_NF, label), ROUNDS)
    return np.asarray(booster.predict(test_MF, raw_score=True, num_threads=threads), np.float64)


def stopped_early(
    fit: tuple[NDArray[np.float32], NDArray[np.int8]],
    judge: tuple[NDArray[np.float32], NDArray[np.int8]],
    threads: int,
    seed: int,
) -> str:
    """A model in LightGBM's text format, fitted on rows and labels; the loss on other rows says when to stop."""
    rows = lightgbm.Dataset(*fit)
    small = max(5, min(PARAMETERS["min_child_samples"], len(fit[0]) // 100))
    parameters = PARAMETERS | {
        "seed": seed,
        "num_threads": threads,
        "min_child_samples": small,
        "metric": "binary_logloss",
    }
    quiet = lightgbm.early_stopping(_PATIENCE, verbose=False)
    judged = lightgbm.Dataset(*judge, reference=rows)
    # kept, because a booster that is not kept forgets the trees after its best one
    booster = lightgbm.train(parameters, rows, _MOST_ROUNDS, [judged], callbacks=[quiet], keep_training_booster=True)
    best = max(_LEAST_ROUNDS, booster.best_iteration)  # one tree has a handful of scores: no threshold divides them
    text: str = booster.model_to_string(num_iteration=best)
    return text


def best_columns(x_NF: NDArray[np.float32], label: NDArray[np.int8], count: int, threads: int) -> NDArray[np.intp]:
    """Numbers of the `count` columns with the largest gain in boosting on these rows, ascending."""
    parameters = PARAMETERS | {"seed": 0, "num_threads": threads}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x_NF, label), _PROBE_ROUNDS)
    return np.sort(np.argsort(-booster.feature_importance("gain"), kind="stable")[:count])
