"""Explanations: they add up, and they name the cause."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panther_core.decide.reasons import DENSE_KIND, KINDS
from panther_core.decide.scoring import SURPRISE, ScoreRequest
from panther_core.model.explain import explain
from panther_core.model.head import FraudHead
from panther_core.model.serving import PantherModel
from panther_core.state.features import NAMES, WIDTH
from tests.panther_core.model.conftest import CONFIG, LENGTH, SCHEMA, make_model, random_codes, random_profiles

CODES = [code for code, _, _ in KINDS]
DENSE = WIDTH + len(SURPRISE) + 4


def request_of(model: PantherModel, rows: int, seed: int = 0) -> ScoreRequest:
    """Every third user is cold."""
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, rows * LENGTH).reshape(rows, LENGTH)
    profile = random_profiles(rng, rows)
    length = np.full(rows, LENGTH - 1, np.int32)
    return ScoreRequest(
        features=rng.normal(size=(rows, WIDTH)).astype(np.float32) * 2,
        code=random_codes(rng, rows),
        recent=codes[:, -3:].copy(),
        profile=profile,
        cached=model.encode(codes, length, profile).cached,
        history_len=np.where(np.arange(rows) % 3 == 0, 0, length).astype(np.int32),
    )


@pytest.mark.parametrize("rows", [1, 9, 600])
def test_terms_and_base_add_up_to_the_calibrated_logit(rows: int) -> None:
    model = make_model(seed=4)
    model.head.scale.fill_(1.7)
    model.head.bias.fill_(-2.5)
    request = request_of(model, rows)
    why = model.explain(request)
    assert why.contribution.dtype == why.base.dtype == why.logit.dtype == np.float32
    np.testing.assert_allclose(why.contribution.sum(axis=1) + why.base, why.logit, atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-why.logit)), model.score(request).score, atol=1e-6)
    assert np.ptp(why.base) < 1e-5  # one base for all
    assert (np.abs(why.contribution).max(axis=0) > 0).all()  # no kind is forgotten


def test_the_nearest_prototypes_are_those_of_the_user_s_state() -> None:
    model = make_model(seed=6)
    request = request_of(model, 9)
    why = model.explain(request)
    sprm = model.panther.layers[-1].sprm
    with torch.inference_mode():
        way = sprm.out(sprm.prototypes_MD).numpy()
    for row in np.flatnonzero(request.history_len > 0):
        h = request.cached[row, : CONFIG.d]
        cosine = way @ h / (np.linalg.norm(way, axis=1) * np.linalg.norm(h))
        order = np.argsort(-cosine)[:3]
        assert why.prototype[row].tolist() == (order + 1).tolist()
        np.testing.assert_allclose(why.similarity[row], cosine[order], atol=1e-5)
    plain = make_model(msgspec.structs.replace(CONFIG, sprm=False))
    assert not plain.explain(request_of(plain, 3)).prototype.any()


def test_a_row_like_the_base_has_nothing_to_explain() -> None:
    head = make_model(seed=5).head
    head.mean.normal_()
    e, pooled = torch.nn.functional.normalize(torch.randn(1, CONFIG.user_dim)), torch.zeros(1, CONFIG.pooled)
    with torch.inference_mode():
        terms, base, logit = explain(head.calibrated, head.mean, head.mean[None], e, pooled, e[0])
    torch.testing.assert_close(base, logit)
    assert float(terms.abs().max()) < 1e-6


def test_inputs_alone_move_the_term_of_their_kind_alone(model: PantherModel) -> None:
    torch.manual_seed(0)
    e, pooled = torch.zeros(DENSE, CONFIG.user_dim), torch.zeros(DENSE, CONFIG.pooled)
    with torch.inference_mode():
        dense = model.head.mean + 2 * torch.eye(DENSE)
        terms, base, logit = explain(model.head.calibrated, model.head.mean, dense, e, pooled, e[0])
    want = torch.zeros(DENSE, len(KINDS))
    want[torch.arange(DENSE), torch.from_numpy(DENSE_KIND)] = logit - base
    torch.testing.assert_close(terms, want, atol=1e-5, rtol=0)


def test_kinds_that_only_matter_together_share_it() -> None:
    """logit = amount_z * device_new: each kind gets half."""
    head = FraudHead(CONFIG, SCHEMA, WIDTH).eval()
    a, b = NAMES.index("amount_z"), NAMES.index("device_new")
    with torch.inference_mode():
        for parameter in head.parameters():
            parameter.zero_()
        head.cross[0].weight[a, b] = 1.0
        head.out.weight[0, a] = 1.0
        dense = torch.zeros(1, DENSE)
        dense[0, a], dense[0, b] = 2.0, 3.0
        none = torch.zeros(1, CONFIG.user_dim), torch.zeros(1, CONFIG.pooled)
        terms, base, logit = explain(head.calibrated, head.mean, dense, *none, none[0][0])
    assert (float(base), float(logit)) == (0.0, 2.0 + 2.0 * 3.0)
    assert float(terms[0, CODES.index("UNUSUAL_AMOUNT")]) == pytest.approx(2 + 3)
    assert float(terms[0, CODES.index("NEW_DEVICE")]) == pytest.approx(3)


def test_a_trained_head_names_the_planted_cause() -> None:
    """Fraud is a huge amount, a surprising channel or a burst of payments, and a head that learnt so says which."""
    causes = {
        "UNUSUAL_AMOUNT": NAMES.index("amount_z"),
        "UNUSUAL_CHANNEL": WIDTH + 4 + SURPRISE.index("channel"),
        "HIGH_VELOCITY": NAMES.index("count_1h"),
    }
    torch.manual_seed(0)
    head = FraudHead(CONFIG, SCHEMA, WIDTH)

    def rows(count: int, seed: int) -> tuple[tuple[torch.Tensor, ...], NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        dense, cause = rng.normal(size=(count, DENSE)), rng.integers(0, 2 * len(causes), count)
        for i, column in enumerate(causes.values()):
            dense[cause == i, column] += 5
        e, pooled = rng.normal(size=(count, CONFIG.user_dim)) / 3, np.abs(rng.normal(size=(count, CONFIG.pooled)))
        return tuple(torch.from_numpy(part).float() for part in (dense, e, pooled)), cause

    inputs, cause = rows(6000, 0)
    target = torch.from_numpy(cause < len(causes)).float()
    optimiser = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(head.logit(*inputs), target).backward()
        optimiser.step()
    head.eval()
    inputs, cause = rows(600, 1)
    with torch.inference_mode():
        terms, _, _ = explain(head.calibrated, head.mean, *inputs, torch.zeros(CONFIG.user_dim))
        raised = inputs[0].clone()
        raised[:, causes["UNUSUAL_AMOUNT"]] += 3
        more, _, _ = explain(head.calibrated, head.mean, raised, *inputs[1:], torch.zeros(CONFIG.user_dim))
    named = np.array(CODES)[terms.argmax(dim=1).numpy()]
    for i, code in enumerate(causes):
        assert (named[cause == i] == code).mean() > 0.9, code
    honest = cause == len(causes)
    amount = CODES.index("UNUSUAL_AMOUNT")
    assert (more[honest, amount] > terms[honest, amount]).float().mean() > 0.95
