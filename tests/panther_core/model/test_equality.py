"""The equalities that training, replay and the stream rest on: by window, event by event, cached or in full."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from panther_core.decide.scoring import ScoreRequest
from panther_core.model import bulk
from panther_core.model.bulk import places_before, score_request
from panther_core.model.codes import as_tensor
from panther_core.model.head import running_max
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.window import RECENT, window_start
from tests.panther_core.model.conftest import CONFIG, LENGTH, make_model, random_codes, random_history, random_profiles
from trainer.fit.finetune import all_logits, head_inputs, head_inputs_by_users

SEEDS = st.integers(0, 2**32 - 1)
CPU = torch.device("cpu")


def window_of(codes: np.ndarray, n: int) -> tuple[np.ndarray, int]:
    """Context window of a user with the first n of `codes`, padded to L as the engine does it."""
    start = window_start(n, LENGTH)
    out = np.zeros(LENGTH, np.uint64)
    out[: n - start] = codes[start:n]
    return out, n - start


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        ModelConfig(**{**{f: getattr(CONFIG, f) for f in CONFIG.__struct_fields__}, "profile": "first"}),
        ModelConfig(**{**{f: getattr(CONFIG, f) for f in CONFIG.__struct_fields__}, "profile": "none", "sprm": False}),
    ],
    ids=["positional", "first", "plain"],
)
@settings(max_examples=15, deadline=None)
@given(
    seed=SEEDS, lengths=st.lists(st.integers(0, 3 * LENGTH), min_size=1, max_size=6), changes=st.sampled_from([0, 0.1])
)
def test_encode_history_equals_encode_event_by_event(
    config: ModelConfig, seed: int, lengths: list[int], changes: float
) -> None:
    model, rng = make_model(config), np.random.default_rng(seed)
    history = random_history(rng, lengths, changes)
    encoded = model.encode_history(history)
    codes, sizes, rows = [], [], []
    for low, high in zip(history.bounds[:-1], history.bounds[1:], strict=True):
        own = history.code[history.order[low:high]]
        for n in range(1, high - low + 1):
            window, size = window_of(own, n)
            codes.append(window)
            sizes.append(size)
            rows.append(history.order[low + n - 1])
    if not rows:
        assert encoded.cached.shape[0] == 0
        return
    one = model.encode(np.array(codes), np.array(sizes, np.int32), history.profile[rows])
    np.testing.assert_allclose(encoded.cached, one.cached, rtol=1e-5, atol=1e-5)
    # the likeliest three may differ only where two behaviours are equally likely
    assert (encoded.expected == one.expected).mean() > 0.99


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, lengths=st.lists(st.integers(1, 3 * LENGTH), min_size=1, max_size=6))
def test_score_from_cached_outputs_equals_the_full_head(seed: int, lengths: list[int]) -> None:
    model, rng = make_model(), np.random.default_rng(seed)
    history = random_history(rng, lengths)
    rows = history.order
    encoded = model.encode_history(history)
    logit = all_logits(model.head, head_inputs(model, history, encoded, rows))
    score = model.score(score_request(history, encoded, rows)).score
    few = rows[::3]
    some = model.encode_history(history, wanted=places_before(history, few))
    wanted = all_logits(model.head, head_inputs(model, history, encoded, few))
    np.testing.assert_allclose(
        all_logits(model.head, head_inputs(model, history, some, few)), wanted, rtol=1e-5, atol=1e-5
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulk, "_WANTED", 5)  # a user or two at a time
        by_users = head_inputs_by_users(model, history, few)
    np.testing.assert_allclose(all_logits(model.head, by_users), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-logit)), rtol=1e-5, atol=1e-6)


def test_rows_of_a_batch_do_not_influence_each_other(model: PantherModel) -> None:
    rng = np.random.default_rng(3)
    lengths = np.array([1, 15, 7, 7, 2, 12], np.int32)
    codes = np.zeros((6, LENGTH), np.uint64)
    for row, length in enumerate(lengths):
        codes[row, :length] = random_codes(rng, length)
    profile = random_profiles(rng, 6)
    together = model.encode(codes, lengths, profile)
    for row in range(6):
        alone = model.encode(codes[row : row + 1], lengths[row : row + 1], profile[row : row + 1])
        np.testing.assert_allclose(together.cached[row], alone.cached[0], rtol=1e-5, atol=1e-5)


def test_padding_is_never_read(model: PantherModel) -> None:
    rng = np.random.default_rng(4)
    codes, profile = random_codes(rng, 3 * LENGTH).reshape(3, LENGTH), random_profiles(rng, 3)
    length = np.full(3, 5, np.int32)
    clean = np.where(np.arange(LENGTH) < 5, codes, np.uint64(0))
    a, b = model.encode(codes, length, profile), model.encode(clean, length, profile)
    np.testing.assert_allclose(a.cached, b.cached, rtol=1e-6, atol=1e-6)


def test_later_events_change_nothing_before_them(model: PantherModel) -> None:
    rng = np.random.default_rng(5)
    codes, profile = random_codes(rng, LENGTH)[None], torch.from_numpy(random_profiles(rng, 1))
    other = codes.copy()
    other[0, 9:] = random_codes(rng, LENGTH - 9)
    with torch.inference_mode():
        a, b = (model.panther(as_tensor(c, CPU), profile) for c in (codes, other))
    np.testing.assert_allclose(a[:, :9], b[:, :9], rtol=1e-6, atol=1e-6)
    assert not np.allclose(a[:, 9:], b[:, 9:], atol=1e-3)


@given(seed=SEEDS, length=st.integers(1, 30), reach=st.integers(0, 40))
def test_running_max_equals_the_plain_one(seed: int, length: int, reach: int) -> None:
    values = np.random.default_rng(seed).random((1, length, 2)).astype(np.float32)
    got = running_max(torch.from_numpy(values), reach).numpy()
    for t in range(length):
        want = values[0, max(0, t - reach + 1) : t + 1].max(axis=0) if reach else np.zeros(2)
        np.testing.assert_array_equal(got[0, t], want)


def test_pooled_is_the_maximum_over_complete_windows_of_the_last_events(model: PantherModel) -> None:
    text, span = model.head.text, CONFIG.span
    codes = as_tensor(random_codes(np.random.default_rng(6), 3 * span)[None], CPU)
    with torch.inference_mode():
        pooled = text.pooled(text.every(codes))[0]
        for t in (0, 1, 2, 5, span - 2, span, 3 * span - 1):
            last = codes[:, max(0, t + 1 - (span - 1)) : t + 1]
            want = text.activations(F.pad(last, (RECENT, 0))).amax(dim=1)[0]
            np.testing.assert_allclose(pooled[t], want, atol=1e-6)


def test_cold_and_never_encoded_users_get_finite_answers(model: PantherModel) -> None:
    rng = np.random.default_rng(7)
    features = rng.normal(size=(2, model.head.mean.shape[0] - 10)).astype(np.float32)
    cached = np.zeros((2, CONFIG.d + CONFIG.user_dim + CONFIG.pooled + 3), np.float32)
    request = ScoreRequest(
        features, random_codes(rng, 2), np.zeros((2, RECENT), np.uint64), random_profiles(rng, 2), cached,
        np.array([0, 4], np.int32),
    )  # fmt: skip
    answer = model.score(request)
    for part in (answer.score, answer.log_p, answer.z, answer.surprise):
        assert np.isfinite(part).all()
    assert ((answer.score >= 0) & (answer.score <= 1)).all()
