"""Boosting from given odds."""

from __future__ import annotations

import numpy as np

from trainer.tabular.boosting import Columns, boosted_logits


def rows(seed: int, count: int = 3000) -> tuple[Columns, np.ndarray]:
    """A column that says nothing, odds that say all there is to know, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1, 1.5, count)
    label = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    return Columns(rng.normal(size=(count, 1)).astype(np.float32), odds), label


def test_boosting_starts_from_the_odds_and_predicts_with_those_of_the_tested_rows() -> None:
    (fitted, label), (test, _) = rows(0), rows(1)
    assert test.odds_N is not None
    got = boosted_logits(fitted, label, test, threads=1, seed=0)
    assert np.abs(got - test.odds_N).mean() < 0.3  # what it learns from the column is noise
    without = boosted_logits(Columns(fitted.x_NF), label, Columns(test.x_NF), threads=1, seed=0)
    assert np.abs(without - test.odds_N).mean() > 0.8


def test_rows_are_taken_with_their_odds() -> None:
    columns, _ = rows(2, count=10)
    part = columns.take(np.array([3, 1]))
    assert part.odds_N is not None
    assert columns.odds_N is not None
    np.testing.assert_array_equal(part.odds_N, columns.odds_N[[3, 1]])
    np.testing.assert_array_equal(part.x_NF, columns.x_NF[[3, 1]])
