"""The served blend: LightGBM's trees read as text, the blend on both ways to a score, its reasons, foreign files."""

from __future__ import annotations

from dataclasses import dataclass

import lightgbm
import msgspec
import numpy as np
import pytest
import torch

from panther_core.base.errors import BadInput
from panther_core.decide.rules import RuleModel
from panther_core.decide.scoring import ExplainRequest, ScoreRequest
from panther_core.model.blend import (
    BOOSTING,
    BOOSTING_PANTHER,
    DCN,
    DCN_CONTEXT,
    RULES,
    Blend,
    BlendConfig,
    Member,
    calibrated,
)
from panther_core.model.head import ContextHead
from panther_core.model.kernels.dcn_kernel import dcn_weights
from panther_core.model.kernels.score_kernel import ScoreKernel
from panther_core.model.kernels.tree_kernel import sum_of
from panther_core.model.serving import PantherModel
from panther_core.model.trees import read_trees
from panther_core.state.features import WIDTH
from tests.panther_core.model.conftest import make_model, random_codes, random_profiles

ROWS = 64


def boosted(columns: int, seed: int = 0, trees: int = 40) -> lightgbm.Booster:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3000, columns)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, -1] + rng.normal(size=3000) > 1).astype(np.int8)
    parameters = {"objective": "binary", "verbosity": -1, "num_leaves": 15, "num_threads": 1}
    return lightgbm.train(parameters, lightgbm.Dataset(x, y), trees)


LOGISTIC = RuleModel(
    np.full(WIDTH, 0.5, np.float32), np.full(WIDTH, 2, np.float32), np.linspace(-1, 1, WIDTH, dtype=np.float32), -3.0
)


@dataclass(frozen=True)
class Blended:
    model: PantherModel
    request: ScoreRequest


@pytest.fixture(scope="module")
def blended() -> Blended:
    model = make_model()
    dense = len(model.head.mean)
    wide = dense + model.config.user_dim
    trees = {
        name: read_trees(boosted(n, n).model_to_string(), n)
        for name, n in ((BOOSTING, WIDTH), (BOOSTING_PANTHER, wide))
    }
    soft = np.where(np.arange(wide) < WIDTH, 0.0, 0.05)
    heads = (Member(DCN, 0.2, 1.5, -1.0), Member(DCN_CONTEXT, 0.1, 1, 0), Member(BOOSTING, 0.2, 1, 0))
    members = (*heads, Member(BOOSTING_PANTHER, 0.4, 2, 0.5), Member(RULES, 0.1, 1, 1))
    model.context = ContextHead(model.config, WIDTH).eval()
    model.context.mean.fill_(0.3)
    model.context.std.fill_(0.7)
    config = BlendConfig(members, (-4.0, 0.0, 1.0), (-6.0, -1.0, 2.0), tuple(soft.tolist()))
    model.blend = Blend(config, LOGISTIC, trees, dcn_weights(model.context))
    rng = np.random.default_rng(5)
    codes = random_codes(rng, 4 * ROWS).reshape(ROWS, 4)
    lengths = rng.integers(0, 9, ROWS).astype(np.int32)
    windows = random_codes(rng, ROWS * model.config.length).reshape(ROWS, -1)
    profile = random_profiles(rng, ROWS)
    cached = model.encode(windows, np.full(ROWS, 9, np.int32), profile).cached
    features = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return Blended(model, ScoreRequest(features, codes[:, 3], codes[:, :3], profile, cached, lengths))


@pytest.mark.parametrize("columns", [3, 60])
def test_trees_read_from_text_give_what_lightgbm_gives(columns: int) -> None:
    booster, x = boosted(columns), np.random.default_rng(1).normal(size=(500, columns)).astype(np.float32)
    want = booster.predict(x, raw_score=True)
    trees = read_trees(booster.model_to_string(), columns)
    np.testing.assert_allclose(sum_of(trees, x, np.zeros(columns)), want, rtol=0, atol=1e-9)
    at_thresholds = x.copy()  # an equal value goes to the left
    at_thresholds[:, trees.column_N[0]] = np.float32(trees.threshold_N[0])
    want = booster.predict(at_thresholds, raw_score=True)
    np.testing.assert_allclose(sum_of(trees, at_thresholds, np.zeros(columns)), want, rtol=0, atol=1e-9)


def test_the_last_digits_of_a_soft_column_do_not_show() -> None:
    trees, rng = read_trees(boosted(6).model_to_string(), 6), np.random.default_rng(2)
    x = rng.normal(size=(20_000, 6)).astype(np.float32)
    x[:, 0] = np.float32(trees.threshold_N[trees.column_N == 0][0])
    other = x + rng.choice([-1e-6, 1e-6], x.shape).astype(np.float32)
    apart = [np.abs(sum_of(trees, x, np.full(6, w)) - sum_of(trees, other, np.full(6, w))).max() for w in (0, 0.05)]
    assert apart[0] > 0.05, "a hard threshold moves a score by a leaf"
    assert apart[1] < 2e-4


def test_the_head_without_panther_is_that_of_the_operators_and_sees_the_context_alone(blended: Blended) -> None:
    model, blend = blended.model, blended.model.blend
    assert model.context is not None
    assert blend is not None
    dense = np.random.default_rng(3).normal(size=(ROWS, len(model.head.mean)), scale=9).astype(np.float32)
    other = dense.copy()
    other[:, WIDTH:] += 1
    e = np.zeros((ROWS, model.config.user_dim), np.float32)
    with torch.inference_mode():
        want = model.context.logit(*(torch.from_numpy(part) for part in (dense, e, e[:, :0]))).numpy()
    assert want.std() > 0.1
    np.testing.assert_allclose(blend.raw(DCN_CONTEXT, np.zeros(ROWS), dense, e), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
        blend.raw(DCN_CONTEXT, np.zeros(ROWS), other, e), blend.raw(DCN_CONTEXT, np.zeros(ROWS), dense, e)
    )


def test_kernel_and_operators_give_the_same_score(blended: Blended) -> None:
    model, request = blended.model, blended.request
    assert model._kernel is None
    plain = model.score(request)
    model._kernel = ScoreKernel(model.panther, model.head)
    try:
        kernel = model.score(request)
    finally:
        model._kernel = None
    assert plain.score.std() > 0.05
    np.testing.assert_allclose(kernel.score, plain.score, atol=2e-5)
    alone = make_model()
    assert np.abs(alone.score(request).score - plain.score).max() > 0.1, "the blend is not the dcn alone"


def test_reasons_add_up_to_the_calibrated_logit_of_the_blend(blended: Blended) -> None:
    model, request = blended.model, blended.request
    why = model.explain(ExplainRequest.of(request))
    score = model.score(request).score
    np.testing.assert_allclose(why.base + why.contribution.sum(axis=1), why.logit, atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-why.logit.astype(np.float64))), score, atol=1e-5)
    assert why.base.std() < 1e-5, "one base for all rows"


def test_calibration_is_linear_between_knots_and_beyond_them() -> None:
    config = BlendConfig((Member(DCN, 1, 1, 0),), (-4.0, 0.0, 1.0), (-6.0, -1.0, 2.0), ())
    got = calibrated(np.array([-8.0, -4.0, -2.0, 0.0, 0.5, 1.0, 2.0]), config)
    np.testing.assert_allclose(got, [-11.0, -6.0, -3.5, -1.0, 0.5, 2.0, 5.0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tree\n", "code\n"),
        ("objective=binary sigmoid:1", "objective=regression"),
        ("max_feature_idx=5", "max_feature_idx=7"),
        ("left_child=1", "left_child=0"),
        ("right_child=2", "right_child=99"),
        ("right_child=2", "right_child=1"),
        ("split_feature=0", "split_feature=-1"),
        ("split_feature=0", "split_feature=6"),
        ("num_cat=0", "num_cat=1"),
        ("num_leaves=15", "num_leaves=4000000000"),
        ("num_leaves=15", "num_leaves=14"),
        ("threshold=", "threshold=nan "),
        ("leaf_value=", "leaf_value=1e999 "),
        ("decision_type=2", "decision_type=10"),
        ("Tree=0", "Three=0"),
    ],
)
def test_text_that_is_no_such_model_is_refused(old: str, new: str) -> None:
    text = boosted(6).model_to_string()
    assert old in text
    changed = text.replace(old, new, 1)
    with pytest.raises(BadInput, match="expected"):
        read_trees(changed if old != "Tree=0" else text.split("Tree=0")[0], 6)


@pytest.mark.parametrize(
    "change",
    [
        {"members": []},
        {"members": [{"name": "dcn", "weight": 2, "scale": 1, "bias": 0}]},
        {"members": [{"name": "pickle", "weight": 1, "scale": 1, "bias": 0}]},
        {"mean_logit": [0.0]},
        {"mean_logit": [1.0, 0.0]},
        {"calibrated": [0.0, 0.0]},
        {"soft": [-1.0]},
        {"more": 1},
    ],
)
def test_a_blend_of_other_content_is_refused(change: dict[str, object]) -> None:
    config = msgspec.to_builtins(BlendConfig((Member(DCN, 1, 1, 0),), (0.0, 1.0), (0.0, 1.0), (0.1,)))
    assert msgspec.convert(config, BlendConfig)
    with pytest.raises((msgspec.ValidationError, BadInput)):
        msgspec.json.decode(msgspec.json.encode(config | change), type=BlendConfig)


def test_the_rules_are_a_head_of_the_blend(blended: Blended) -> None:
    blend, features = blended.model.blend, blended.request.features
    assert blend is not None
    dense = np.hstack([features, np.full((ROWS, 3), 9, np.float32)])
    found = blend.raw(RULES, np.zeros(ROWS), dense, np.zeros((ROWS, 0), np.float32))
    want = np.clip((features.astype(np.float64) - 0.5) / 2, -8, 8) @ np.linspace(-1, 1, WIDTH) - 3
    np.testing.assert_allclose(found, want, atol=1e-5)
