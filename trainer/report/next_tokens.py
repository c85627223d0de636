"""Simple predictors of the next token, counted on the training events, as baselines for the model.

P distinct pairs (token, next token) of one user; V tokens, 0 = [UNK]. A target that is [UNK] is a miss for every
predictor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.data.schema import CODE
from panther_core.data.vocabulary import Vocabulary
from panther_core.state.history import History
from trainer.fit.ranking import MISS

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Followers:
    """Which tokens follow each token. `pair_P`: pairs as token * V + follower, sorted.

    `place_P`: place of the pair's follower among all followers of its token, the most frequent first.
    """

    pair_P: Ints
    place_P: Ints
    by_rank_P: Ints  # token * V + place of the follower in the order of all tokens, sorted
    rank_V: Ints  # place of each token in the order of frequency; V for tokens never seen

    def ranks(self, last: Ints, target: Ints) -> Ints:
        """Rank of each target among all tokens: first the followers of the last token, the most frequent ahead, then
        the other tokens by frequency."""
        size = len(self.rank_V)
        low, high = (np.searchsorted(self.pair_P, (last + step) * size) for step in (0, 1))
        at = np.minimum(np.searchsorted(self.pair_P, last * size + target), len(self.pair_P) - 1)
        rank = self.rank_V[target]
        before = np.searchsorted(self.by_rank_P, last * size + np.minimum(rank, size - 1)) - low
        other = rank + (high - low) - before
        place = np.where(self.pair_P[at] == last * size + target, self.place_P[at], other)
        return np.where(target > 0, place, MISS)


def token_pairs(history: History, vocabulary: Vocabulary) -> tuple[Ints, Ints, Ints]:
    """Token before, token, and row, of all events that have an event of the same user before them."""
    token = vocabulary.tokens(history.code[history.order].view(CODE))
    follows = np.flatnonzero(history.history_len[history.order] > 0)
    return token[follows - 1], token[follows], history.order[follows].astype(np.int64)


def fit_followers(last: Ints, target: Ints, size: int) -> Followers:
    """Count the pairs of `last` and `target`, without targets that are [UNK]. `size` is V."""
    known = target > 0
    count_V = np.bincount(target[known], minlength=size)
    rank_V = np.full(size, size)
    seen = np.argsort(-count_V, kind="stable")[: int((count_V > 0).sum())]
    rank_V[seen] = np.arange(len(seen))
    pair, count = np.unique(last[known] * size + target[known], return_counts=True)
    token, follower = pair // size, pair % size
    order = np.lexsort((rank_V[follower], -count, token))
    place = np.empty(len(pair), np.int64)
    place[order] = np.arange(len(pair)) - np.searchsorted(token, token[order])
    return Followers(pair, place, np.sort(token * size + rank_V[follower]), rank_V)
