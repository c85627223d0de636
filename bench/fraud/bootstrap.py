"""How much of the figures of `panther bench fdh` is chance: a parametric bootstrap of the labels.

The same scores are measured against labels drawn anew. Most frauds that no label shows yet look like any payment; which
of them happen moves AUC by several thousandths and CP@100 by a few, while the frauds that are visible in advance move
neither. Frauds of a compromised merchant come together: of a merchant's payments in a test week either all are drawn as
such frauds or none, with the probability that each has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.fraud.protocol import Fold, metrics
from panther_core.data.table import TransactionTable
from panther_core.entities.grouped import Floats

DRAWS = 100


def by_chance(
    table: TransactionTable,
    folds: Sequence[Fold],
    scores: Sequence[Floats],
    chances: tuple[Floats, Floats],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Mean and standard deviation, over `DRAWS` draws, of each metric's mean over the folds.

    `scores` [week] of each fold. `chances` [N]: probability of fraud of every row of the table, by its merchant's
    episode, and of any kind. The customers that a test week leaves out stay the same, because their labels were known.
    """
    rng, draws, (seller_N, any_N) = np.random.default_rng(seed), [], chances
    other_N = 1 - (1 - any_N) / np.maximum(1 - seller_N, 1e-12)
    for _ in range(DRAWS):
        found = []
        for each, score in zip(folds, scores, strict=True):
            merchant = rng.random(len(table.merchant.words))[table.merchant.index]
            fraud = (merchant < seller_N) | (rng.random(len(table)) < other_N)
            found.append(metrics(each, replace(table, label=fraud.astype(np.int8)), score))
        draws.append({name: np.mean([row[name] for row in found]) for name in found[0]})
    values = {name: [draw[name] for draw in draws] for name in draws[0]}
    return {name: {"mean": float(np.mean(v)), "deviation": float(np.std(v))} for name, v in values.items()}
