"""The counted predictors rank as sorting all tokens would."""

from __future__ import annotations

import numpy as np

from panther_core.data.schema import CODE
from panther_core.data.vocabulary import fit_vocabulary
from tests.panther_core.model.conftest import SCHEMA, random_history
from trainer.report.next_tokens import fit_followers, token_pairs


def test_pairs_are_the_events_of_a_user_in_order() -> None:
    history = random_history(np.random.default_rng(0), [1, 3, 0, 5])
    vocabulary, _ = fit_vocabulary(SCHEMA, history.code.view(CODE))
    last, target, row = token_pairs(history, vocabulary)
    assert len(row) == 2 + 4
    assert (history.history_len[row] > 0).all()
    token = vocabulary.tokens(history.code.view(CODE))
    np.testing.assert_array_equal(target, token[row])
    before = {(u, n): t for u, n, t in zip(history.user, history.history_len, token, strict=True)}
    np.testing.assert_array_equal(last, [before[history.user[r], history.history_len[r] - 1] for r in row])


def test_followers_come_first_then_all_by_frequency() -> None:
    rng, size = np.random.default_rng(1), 12
    last, target = rng.integers(0, size, 300), rng.integers(0, size - 2, 300)  # two tokens never seen
    counted = fit_followers(last, target, size)
    seen = np.bincount(target[target > 0], minlength=size)
    popular = sorted((t for t in range(1, size) if seen[t]), key=lambda t: (-seen[t], t))
    for token in range(size):
        follows = np.bincount(target[(last == token) & (target > 0)], minlength=size)
        first = sorted((t for t in popular if follows[t]), key=lambda t: (-follows[t], popular.index(t)))
        order = first + [t for t in popular if t not in first]
        asked = np.array(popular)
        found = counted.ranks(np.full(len(asked), token), asked)
        np.testing.assert_array_equal(found, [order.index(t) for t in popular])
        assert (counted.ranks(np.full(3, token), np.array([0, size - 1, size - 2])) >= size - 1).all()
