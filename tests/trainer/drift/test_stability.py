"""Distances of samples: none between samples of one population, however few or many; large between two."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.drift.stability import SHIFTED, counts_of, least_distance, least_ratio, stability_index

Codes = np.ndarray[tuple[int], np.dtype[np.int64]]


def shift(before: Codes, now: Codes) -> float:
    return stability_index(counts_of(before), counts_of(now))


def test_a_shift_is_zero_for_one_population_and_large_for_another() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 5, 10_000)
    assert shift(before, rng.permutation(before)) == 0
    assert shift(before, np.zeros(1000, np.int64)) > 1


def test_the_index_is_the_sum_over_values_less_what_chance_makes() -> None:
    before, now = np.array([500_000, 500_000]), np.array([800_000, 200_000])
    by_hand = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    assert stability_index(before, now) == pytest.approx(by_hand - 2e-6, abs=1e-9)


def test_a_value_that_training_never_had_counts() -> None:
    before, now = np.array([0, 500, 500]), np.array([150, 425, 425])
    assert stability_index(before, now) > SHIFTED
    assert stability_index(before, np.array([0, 500, 480, 0, 20])) < SHIFTED, "and one that is rare does not yet"


@pytest.mark.parametrize("rows", [300, 1000, 5000])
def test_few_payments_of_the_same_population_are_no_other_one(rows: int) -> None:
    """By chance alone an index of many values would be large where few payments are judged."""
    rng = np.random.default_rng(rows)
    share = rng.dirichlet(np.full(60, 0.4))
    before = rng.choice(60, 50_000, p=share)
    assert max(shift(before, rng.choice(60, rows, p=share)) for _ in range(20)) < SHIFTED
    assert shift(before, rng.choice(60, rows, p=np.roll(share, 1))) > SHIFTED


def test_distances_of_means_leave_to_chance_what_it_makes() -> None:
    assert least_distance((10.0, 1000), (11.0, 1000), deviation=2.0) == pytest.approx(0.5 - 1.96 * np.sqrt(0.002))
    assert least_distance((10.0, 1000), (9.0, 1000), deviation=2.0) == pytest.approx(0.5 - 1.96 * np.sqrt(0.002))
    assert least_distance((10.0, 1000), (11.0, 10), deviation=2.0) == 0, "ten payments say little"
    assert least_distance((0.02, 10**9), (0.06, 10**9)) == pytest.approx(0.211, abs=1e-3)


def test_ratios_of_rare_shares_leave_to_chance_what_it_makes() -> None:
    assert least_ratio((50, 10_000), (50, 10_000)) == 1
    assert least_ratio((0, 10_000), (1, 10_000)) == 1, "one alert where there was none"
    assert least_ratio((100_000, 10**7), (400_000, 10**7)) == pytest.approx(4, rel=0.02)
    assert least_ratio((400_000, 10**7), (100_000, 10**7)) == pytest.approx(4, rel=0.02)
