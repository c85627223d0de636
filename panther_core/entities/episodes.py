"""A filter: the chance that a key (a merchant or a user) is in an episode of compromise, given its known history.

The model: a key is clean until an episode begins, with the same chance on every day. An episode lasts a fixed number of
calendar days, and a share of the key's payments in it is fraud. This is a Markov chain whose state is the day within
the episode, so the chance is exact for data that follow the model. The evidence of a payment is log P(payment |
episode) - log P(payment | clean). All payments of a day share one state: beliefs are kept for the start of each day,
and evidence within a day is a prefix sum.

Shapes: N rows in time order, Q queries, D days from the first row's on, K keys, L days of an episode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS
from panther_core.entities.grouped import Floats, Grouped, Ints

RARE = 1e-6  # lower bound of chances; 1 - RARE is the upper bound
_STRONGEST = 30.0  # bound of the absolute evidence


@dataclass(frozen=True)
class Episode:
    """`hazard`: chance that an episode begins at a clean key on a day. `share`: part of its payments that is fraud."""

    hazard: float
    length_d: int
    share: float


@dataclass(frozen=True)
class Beliefs:
    """Chances at the start of each day, before the day's payments: that the key is clean, that it is in an episode, and
    that it is in an episode which still lasts `ahead_d` days later. `gain`: log likelihood of all evidence, against no
    episode ever."""

    clean_DK: Floats
    active_DK: Floats
    lasting_DK: Floats
    gain: float


def by_day(day: Ints, key: Ints, values: NDArray[np.generic], shape: tuple[int, int]) -> Floats:
    """Sums [D, K] of the rows' values by day and key."""
    total = np.bincount(day * shape[1] + key, values.astype(np.float64), shape[0] * shape[1])
    return total.astype(np.float64).reshape(shape)


def label_evidence(fraud: NDArray[np.bool_], otherwise: Floats, share: float) -> Floats:
    """Evidence [N] of labels. `otherwise` [N]: chance that a payment is fraud for another reason than an episode."""
    share = float(np.clip(share, RARE, 1 - RARE))
    otherwise = np.clip(otherwise, RARE, 1 - RARE)
    return np.where(fraud, np.log(otherwise + (1 - otherwise) * share) - np.log(otherwise), np.log(1 - share))


def weight(evidence: Floats) -> Floats:
    """Likelihood ratio of evidence, bounded."""
    return np.exp(np.clip(evidence, -_STRONGEST, _STRONGEST))


def beliefs(evidence_DK: Floats, episode: Episode, ahead_d: int = 0) -> Beliefs:
    """Filter over the days; `evidence_DK` is the sum of evidence by day and key."""
    weight_DK = weight(evidence_DK)
    clean_DK, active_DK, lasting_DK = np.empty((3, *evidence_DK.shape))
    state_LK = np.zeros((episode.length_d, evidence_DK.shape[1]))
    clean_K, gain = np.ones(evidence_DK.shape[1]), 0.0
    for day, weight_K in enumerate(weight_DK):
        begins = clean_K * episode.hazard
        clean_K = clean_K - begins + state_LK[-1]
        state_LK = np.concatenate([begins[None], state_LK[:-1]])
        clean_DK[day], active_DK[day] = clean_K, state_LK.sum(axis=0)
        lasting_DK[day] = state_LK[: max(episode.length_d - ahead_d, 0)].sum(axis=0)
        total_K = clean_K + active_DK[day] * weight_K
        gain += float(np.log(total_K).sum())
        state_LK *= weight_K / total_K
        clean_K = clean_K / total_K
    return Beliefs(clean_DK, active_DK, lasting_DK, gain)


@dataclass(frozen=True)
class Evidence:
    """Evidence [N] of the rows of `grouped`, in row order, with the day and key of each."""

    grouped: Grouped
    day: Ints
    key: Ints
    value: Floats
    first_ms: int  # midnight of day 0


def chance(evidence: Evidence, episode: Episode, key: Ints, seen: Ints, seen_ms: Ints, ahead_d: int = 0) -> Floats:
    """Chance [Q] that a key is in an episode `ahead_d` days after `seen_ms`, given its rows before position `seen`.

    Those rows must lie at or before `seen_ms`. In the days after `seen_ms` the episode may still last, or an episode
    may begin as at a clean key. 0 where `seen_ms` lies before day 0.
    """
    asked = (seen_ms - evidence.first_ms) // DAY_MS
    shape = int(max(evidence.day.max(initial=0), asked.max(initial=0))) + 1, len(evidence.grouped.bounds) - 1
    belief = beliefs(by_day(evidence.day, evidence.key, evidence.value, shape), episode, ahead_d)
    day, there = np.maximum(asked, 0), asked >= 0
    total = evidence.grouped.running(evidence.value)
    midnight = evidence.grouped.until(key, evidence.first_ms + day * DAY_MS - 1)
    today = weight(np.where(there, total[np.maximum(seen, midnight)] - total[midnight], 0))
    lasting = belief.lasting_DK[day, key] * today / (belief.active_DK[day, key] * today + belief.clean_DK[day, key])
    begun = 1 - (1 - episode.hazard) ** min(ahead_d, episode.length_d)
    return np.where(there, lasting + (1 - lasting) * begun, 0)
