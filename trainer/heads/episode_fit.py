"""Parameters of episodes (panther_core.entities.episodes) fitted to labels: hazard, length and share, by maximum
likelihood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from panther_core.entities.episodes import RARE, Episode, beliefs, by_day, label_evidence, weight
from panther_core.entities.grouped import Floats, Ints

_FIRST = Episode(hazard=1e-4, length_d=14, share=0.5)
_LENGTHS_D, _STEPS_D = range(7, 57, 7), (3, 2, 1)  # lengths tried first, then steps around the best
_ROUNDS = 4  # of re-estimating hazard and share


@dataclass(frozen=True)
class EpisodeLabels:
    """Labels that an episode is fitted to. Each row has a day and a key (merchant or user); `elsewise` as in
    `label_evidence`."""

    day: Ints
    key: Ints
    fraud: NDArray[np.bool_]
    elsewise: Floats
    keys: int


def fit_episode(labels: EpisodeLabels) -> Episode:
    """Parameters of the most likely episode; hazard 0 when there is no fraud among the labels."""
    if not labels.fraud.any():
        return replace(_FIRST, hazard=0.0)
    # A length that divides the true one fits well too, with several episodes in a row in place of one. So a grid of
    # lengths is tried before finer steps around the best.
    best = max((_settled(labels, replace(_FIRST, length_d=length)) for length in _LENGTHS_D), key=itemgetter(0))
    for step in _STEPS_D:
        lengths = (best[1].length_d + sign * step for sign in (-1, 1))
        best = max(
            [best, *(_settled(labels, replace(best[1], length_d=length)) for length in lengths if length > 0)],
            key=itemgetter(0),
        )
    return _settled(labels, best[1])[1]


def _settled(labels: EpisodeLabels, episode: Episode) -> tuple[float, Episode]:
    """Log likelihood, and the episode with hazard and share re-estimated from the beliefs that follow from them."""
    shape = int(labels.day.max()) + 1, labels.keys
    counts = by_day(labels.day, labels.key, np.ones(len(labels.day)), shape)
    frauds = by_day(labels.day, labels.key, labels.fraud, shape)
    exposure = labels.keys * np.minimum(np.arange(shape[0]) + 1, episode.length_d).sum()
    gain = 0.0
    for _ in range(_ROUNDS):
        value = label_evidence(labels.fraud, labels.elsewise, episode.share)
        evidence = by_day(labels.day, labels.key, value, shape)
        belief = beliefs(evidence, episode)
        inside = belief.active_DK * weight(evidence)
        inside /= inside + belief.clean_DK
        share = float((inside * frauds).sum() / max((inside * counts).sum(), RARE))
        gain, episode = belief.gain, replace(episode, hazard=float(inside.sum() / exposure), share=share)
    return gain, episode
