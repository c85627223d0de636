"""Chances of being in an episode against a slow sum over every possible episode, and against leaks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from panther_core.base.times import DAY_MS
from panther_core.entities.episodes import Episode, Evidence, chance, label_evidence
from panther_core.entities.grouped import Grouped

EPISODE = Episode(hazard=0.07, length_d=4, share=0.8)
KEYS, DAYS, AHEAD_D = 3, 12, 2
FIRST_MS = 17_600 * DAY_MS


class Rows:
    """A few keys over twelve days, some days with several rows."""

    def __init__(self, seed: int, count: int = 60) -> None:
        rng = np.random.default_rng(seed)
        self.time_ms = FIRST_MS + np.sort(rng.integers(0, DAYS * DAY_MS, count))
        self.day = (self.time_ms - FIRST_MS) // DAY_MS
        self.key = rng.integers(0, KEYS, count)
        self.fraud = rng.random(count) < 0.4
        self.elsewise = rng.random(count) * 0.6

    def chance(self, ahead_d: int = AHEAD_D) -> np.ndarray:
        grouped = Grouped.of(self.key, self.time_ms, KEYS)
        value = label_evidence(self.fraud, self.elsewise, EPISODE.share)
        seen_ms = self.time_ms - ahead_d * DAY_MS
        seen = grouped.until(self.key, seen_ms)
        evidence = Evidence(grouped, self.day, self.key, value, FIRST_MS)
        return chance(evidence, EPISODE, self.key, seen, seen_ms, ahead_d)


def state_paths(days: int) -> list[tuple[float, list[int]]]:
    """Every course of `days` days with its prior chance: 0 clean, k the k-th day of an episode."""
    paths: list[tuple[float, list[int]]] = []
    for begins in product((False, True), repeat=days):
        weight, state, course = 1.0, 0, []
        for begin in begins:
            inside = 0 < state < EPISODE.length_d
            clean_before = state == 0  # an episode that just ended leaves a clean day first
            weight *= (EPISODE.hazard if begin else 1 - EPISODE.hazard) if clean_before else float(not begin)
            state = state + 1 if inside else int(begin and clean_before)
            course.append(state)
        if weight:
            paths.append((weight, course))
    return paths


def slow_chance(rows: Rows, i: int) -> float:
    """Bayes' rule over all courses up to the moment of knowledge; then it lasts, or a new one begins."""
    cut = rows.time_ms[i] - AHEAD_D * DAY_MS
    seen = [j for j in range(len(rows.key)) if rows.key[j] == rows.key[i] and rows.time_ms[j] <= cut]
    total = inside = 0.0
    for prior, course in state_paths(int(rows.day[i]) - AHEAD_D + 1):
        weight = prior
        for j in seen:
            share = EPISODE.share if course[rows.day[j]] else 0.0
            fraud = rows.elsewise[j] + (1 - rows.elsewise[j]) * share
            weight *= fraud if rows.fraud[j] else 1 - fraud
        total += weight
        inside += weight * (0 < course[-1] <= EPISODE.length_d - AHEAD_D)
    lasting = inside / total
    return lasting + (1 - lasting) * (1 - (1 - EPISODE.hazard) ** AHEAD_D)


@pytest.mark.parametrize("seed", range(3))
def test_chance_equals_bayes_rule_over_all_courses(seed: int) -> None:
    rows = Rows(seed)
    got = rows.chance()
    asked = [i for i in range(0, len(rows.key), 3) if rows.day[i] >= AHEAD_D]
    assert len(asked) > 5
    for i in asked:
        assert got[i] == pytest.approx(slow_chance(rows, i))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_unknown_at_a_row_changes_its_chance(seed: int) -> None:
    rows, other = Rows(seed), Rows(seed)
    young = other.time_ms > rows.time_ms[30] - AHEAD_D * DAY_MS
    other.fraud[young] ^= True
    before, after = rows.chance(), other.chance()
    np.testing.assert_allclose(after[:31], before[:31], rtol=1e-9)
    assert not np.allclose(after[31:], before[31:])


def test_no_episode_without_hazard_and_nothing_known_before_day_0() -> None:
    rows = Rows(0)
    assert (rows.chance()[rows.day < AHEAD_D] == 0).all()
    grouped = Grouped.of(rows.key, rows.time_ms, KEYS)
    evidence = Evidence(grouped, rows.day, rows.key, np.full(60, 5.0), FIRST_MS)
    never = Episode(0.0, 4, 0.8)
    assert (chance(evidence, never, rows.key, grouped.position, rows.time_ms) == 0).all()
