"""Chances of being in an episode against a slow sum over every possible episode."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from panther_core.entities.episodes import Episode, chance

EPISODE = Episode(hazard=0.07, length_d=4, share=0.8)
KEYS, DAYS = 3, 11


def courses(days: int) -> list[tuple[float, list[int]]]:
    """Every course of `days` days with its prior chance: 0 clean, k the k-th day of an episode."""
    out: list[tuple[float, list[int]]] = []
    for begins in product((False, True), repeat=days):
        weight, state, course = 1.0, 0, []
        for begin in begins:
            inside = 0 < state < EPISODE.length_d
            clean_before = state == 0  # an episode that just ended leaves a clean day first
            weight *= (EPISODE.hazard if begin else 1 - EPISODE.hazard) if clean_before else float(not begin)
            state = state + 1 if inside else int(begin and clean_before)
            course.append(state)
        if weight:
            out.append((weight, course))
    return out


@pytest.mark.parametrize("seed", range(3))
def test_chance_equals_bayes_rule_over_all_courses(seed: int) -> None:
    evidence_DK = np.random.default_rng(seed).normal(0, 1.5, (DAYS, KEYS))
    got = chance(evidence_DK, EPISODE)
    for key in range(KEYS):
        total = inside = 0.0
        for prior, course in courses(DAYS):
            likelihood = np.exp(sum(evidence_DK[d, key] for d in range(DAYS - 1) if course[d]))
            total += prior * likelihood
            inside += prior * likelihood * (course[-1] > 0)
        assert got[key] == pytest.approx(inside / total)


def test_no_episode_without_hazard() -> None:
    assert (chance(np.full((DAYS, KEYS), 5.0), Episode(0.0, 4, 0.8)) == 0).all()
