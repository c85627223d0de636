"""How the blend is fitted: the halves of the validation slice, and weights that follow what helps."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.model.blend import DCN, BlendConfig, Member
from trainer.heads.blending import _calibration, _isotonic_knots, _weights, second_half


def test_both_halves_have_frauds_wherever_two_users_have() -> None:
    user = np.repeat(np.arange(40, dtype=np.int32), 5)
    label = np.isin(user, (4, 8)).astype(np.int8)  # both even: the parity of users would leave one half without
    second = second_half(user, label)
    assert label[second].sum() == label[~second].sum() == 5
    assert all(len(np.unique(second[user == one])) == 1 for one in range(40)), "a user is in one half"
    assert 0.4 < second.mean() < 0.6
    alone = second_half(user, (user == 4).astype(np.int8))
    assert not alone[user == 4].any()


def test_a_head_that_only_harms_gets_no_weight() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(4000) < 0.05).astype(np.int8)
    user = rng.integers(0, 400, 4000).astype(np.int32)
    good = 2.0 * label + rng.normal(size=4000)
    logits, prior = np.stack([good, *(3 * rng.normal(size=(2, 4000)))]), np.full(3, 1 / 3)
    weights = _weights(logits, label, user, prior, seed=0)
    assert weights[0] > 0.7
    assert weights[1:].max() < 0.1
    assert weights.sum() == pytest.approx(1)
    few = np.where(np.cumsum(label) <= 3, label, 0).astype(np.int8)
    assert _weights(logits, few, user, prior, seed=0)[2] > 0.2, "three frauds prove little"
    np.testing.assert_array_equal(_weights(logits, np.zeros_like(label), user, prior, seed=0), prior)


def test_a_calibration_ascends_whatever_the_labels_are() -> None:
    """Steps of an isotonic regression may differ by rounding alone, and logits by almost nothing."""
    tried = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        mean = rng.normal(size=int(rng.integers(200, 3000))).round(int(rng.integers(1, 8))) * rng.choice([1, 1e-6, 10])
        chance = np.clip(rng.choice([0.001, 0.1, 1 / 3]) * np.exp(mean * rng.choice([-1, 0, 1, 2])), 0, 1)
        label = (rng.random(len(mean)) < chance).astype(np.int8)
        if 0 < label.sum() < len(label):
            tried += 1
            BlendConfig((Member(DCN, 1, 1, 0),), *_isotonic_knots(mean, label), ())  # raises where one does not
            BlendConfig((Member(DCN, 1, 1, 0),), *_calibration(mean, label, seed), ())
    assert tried > 40
