"""The threshold follows the scores: slowly, and only where the budget is missed by more than chance."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.rollout.budget import next_threshold

BUDGET = 0.01


def scores(count: int = 20_000, seed: int = 0, moved: float = 0.0) -> np.ndarray:
    odds = np.random.default_rng(seed).normal(-5 + moved, 1.5, count)
    return 1 / (1 + np.exp(-odds))


THRESHOLD = float(np.quantile(scores(seed=7), 1 - BUDGET))


@pytest.mark.parametrize("seed", range(8))
def test_a_budget_that_is_kept_moves_nothing(seed: int) -> None:
    assert next_threshold(scores(seed=seed), THRESHOLD, BUDGET)[0] is None


@pytest.mark.parametrize("moved", [1.0, -1.0], ids=["more alerts", "fewer alerts"])
def test_where_the_scores_move_the_threshold_follows_step_by_step(moved: float) -> None:
    threshold, steps = THRESHOLD, 0
    while (new := next_threshold(scores(seed=steps, moved=moved), threshold, BUDGET)[0]) is not None:
        step = np.log(new / (1 - new)) - np.log(threshold / (1 - threshold))
        assert 0 < step * moved <= 0.25 + 1e-9, "towards the budget, and no faster"
        threshold, steps = new, steps + 1
        assert steps < 20
    assert steps >= 3
    share = (scores(seed=99, moved=moved) >= threshold).mean()
    assert BUDGET / 1.7 < share < BUDGET * 1.7  # 1.25 times, and what chance makes of 20,000


def test_few_decisions_move_nothing_and_it_says_so() -> None:
    moved, why = next_threshold(scores(1000, moved=3), THRESHOLD, BUDGET)
    assert moved is None
    assert "too few to tell" in why


def test_from_above_all_scores_it_comes_down_at_once_to_the_highest() -> None:
    """A training sets a threshold just above 1 where too many scores are 1."""
    found = scores()
    moved, _ = next_threshold(found, 1.0001, BUDGET)
    assert moved is not None
    assert moved < found.max()


def test_many_scores_of_one_do_not_bring_the_threshold_down_onto_them() -> None:
    """A training sets a threshold above scores of 1 where these are more than the budget."""
    found = np.concatenate([scores(moved=-5), np.full(1000, 1.0)])
    moved, why = next_threshold(found, 1.0001, BUDGET)
    assert moved is None
    assert "0 alerts in 21000 decisions, where the budget allows 210; the next lower threshold has 1000" in why
