"""A filter: the chance that a key (a merchant) is in an episode of compromise, given its known history.

The model: a key is clean until an episode begins, with the same chance on every day. An episode lasts a fixed number of
calendar days, and a share of the key's payments in it is fraud. This is a Markov chain whose state is the day within
the episode, so the chance is exact for data that follow the model. The evidence of a payment is log P(payment |
episode) - log P(payment | clean). All payments of a day share one state.

Shapes: D days, K keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from panther_core.entities.arrays import Floats

_STRONGEST = 30.0  # bound of the absolute evidence of a day


@dataclass(frozen=True)
class Episode:
    """`hazard`: chance that an episode begins at a clean key on a day. `share`: part of its payments that is fraud."""

    hazard: float
    length_d: int
    share: float


def chance(evidence_DK: Floats, episode: Episode) -> Floats:
    """Chance [K] that a key is in an episode on the last day, given the evidence of the days before it, by day and
    key."""
    weight_DK = np.exp(np.clip(evidence_DK, -_STRONGEST, _STRONGEST))
    state_LK = np.zeros((episode.length_d, evidence_DK.shape[1]))  # L: day of the episode
    clean_K = np.ones(evidence_DK.shape[1])
    for day, weight_K in enumerate(weight_DK):
        begins = clean_K * episode.hazard
        clean_K = clean_K - begins + state_LK[-1]
        state_LK = np.concatenate([begins[None], state_LK[:-1]])
        if day < len(weight_DK) - 1:
            total_K = clean_K + state_LK.sum(axis=0) * weight_K
            state_LK *= weight_K / total_K
            clean_K = clean_K / total_K
    active_K = state_LK.sum(axis=0)
    return np.asarray(active_K / (active_K + clean_K))
