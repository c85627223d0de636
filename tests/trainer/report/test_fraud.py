"""Fraud scores in a training's report: what a scorer gains against another, and what the resamples say of it."""

from __future__ import annotations

import numpy as np

from panther_core.base.times import HOUR_MS
from panther_core.evaluation import fraud_metrics
from tests.panther_core.report.test_curves import scored
from trainer.report.fraud import ScoredRows, measure_fraud


def test_a_scorer_against_noise_gains_beyond_chance_and_against_itself_nothing() -> None:
    score, label = scored()
    user = np.arange(len(score), dtype=np.int32) // 4
    noise = np.random.default_rng(2).random(len(score))
    for other, tells in ((noise, True), (score, False)):
        scores = {"model": score, "rules": other}
        metrics = {name: fraud_metrics(value, label) for name, value in scores.items()}
        rows = ScoredRows(label, user, np.zeros(len(user), np.int64), scores)
        found = measure_fraud(rows, metrics | {"validation": metrics["model"]}, 0.5, 0.01, 0)
        assert (found.gains["rules"][1] > 0) == tells
        model = found.scorers[0]
        assert model.interval[0] < model.metrics["average_precision"] < model.interval[1]
        assert len(model.recall) == len(model.precision) <= 310
        assert (model.recall[-1], found.alerts) == (1, (score >= 0.5).sum())


def test_a_log_of_one_user_has_intervals_too() -> None:
    score, label = scored()
    hours = np.arange(len(score)) * HOUR_MS
    rows = ScoredRows(label, np.zeros(len(score), np.int32), hours, {"model": score})
    assert len(np.unique(rows.units())) == -(-len(score) // (7 * 24))
    metrics = {"model": fraud_metrics(score, label)}
    found = measure_fraud(rows, metrics | {"validation": metrics["model"]}, 0.5, 0.01, 0)
    assert found.users == 1
    assert found.scorers[0].interval[0] < metrics["model"]["average_precision"] < found.scorers[0].interval[1]


def test_frauds_of_few_users_have_the_widest_intervals() -> None:
    score, label = scored()
    user = np.where(label == 1, np.arange(len(label)) % 4, 10 + np.arange(len(label)) // 4).astype(np.int32)
    scores = {"model": score, "rules": -score}
    metrics = {name: fraud_metrics(value, label) for name, value in scores.items()}
    rows = ScoredRows(label, user, np.zeros(len(user), np.int64), scores)
    found = measure_fraud(rows, metrics | {"validation": metrics["model"]}, 0.5, 0.01, 0)
    assert (found.robbed, found.scorers[0].interval, found.gains["rules"][1:]) == (4, (0, 1), (-1, 1))
