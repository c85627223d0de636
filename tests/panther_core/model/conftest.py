"""A tiny model with random weights, and made-up histories: equality does not need a trained model."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.schema import CODE, PROFILE_FIELDS, AttributeSchema, ProfileField
from panther_core.data.vocabulary import Vocabulary, fit_vocabulary
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.features import WIDTH
from panther_core.state.history import History

if not torch.cuda.is_available():
    # Before anything imports Triton's language: its kernels run on CPU tensors then, one program after the other.
    os.environ.setdefault("TRITON_INTERPRET", "1")

LENGTH = 16
CONFIG = ModelConfig(
    length=LENGTH, d=16, layers=2, heads=2, prototypes=8, user_dim=8, cnn_dim=4, cnn_filters=4, head_hidden=16
)
SCHEMA = AttributeSchema(
    amount_edges=(1.0, 5.0, 20.0, 100.0),
    categories=("food", "fuel", "travel"),
    channels=("chip", "online"),
    profile=(ProfileField("age", edges=(30.0, 60.0)), ProfileField("job", values=("cook", "clerk"))),
)


def random_codes(rng: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """Real events: every attribute within its range, amount at least 1."""
    codes = np.zeros(count, CODE)
    for name, size in SCHEMA.sizes.items():
        codes[name] = rng.integers(1 if name == "amount" else 0, size, count)
    return codes.view(np.uint64)


def random_profiles(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Profile codes [count, 8] within the schema's sizes."""
    out = np.zeros((count, PROFILE_FIELDS), np.uint8)
    for i, field in enumerate(SCHEMA.profile):
        out[:, i] = rng.integers(0, field.size, count)
    return out


def random_history(rng: np.random.Generator, lengths: list[int], profile_changes: float = 0.0) -> History:
    """Users with so many events each, in random arrival order; a user's profile changes with this chance an event."""
    user = rng.permutation(np.repeat(np.arange(len(lengths)), lengths)).astype(np.int32)
    order = np.argsort(user, kind="stable")
    bounds = np.searchsorted(user[order], np.arange(len(lengths) + 1))
    count = len(user)
    history_len = np.empty(count, np.int64)
    history_len[order] = np.arange(count) - bounds[user[order]]
    profile = random_profiles(rng, count)
    for low, high in pairwise(bounds):
        for before, after in zip(order[low:high], order[low + 1 : high], strict=False):
            if rng.random() >= profile_changes:
                profile[after] = profile[before]
    flags = np.ones(count, np.bool_)
    features = rng.normal(size=(count, WIDTH)).astype(np.float32)
    return History(
        features=features,
        code=random_codes(rng, count),
        history_len=history_len,
        user=user,
        profile=profile,
        kept=flags,
        late=~flags,
        order=order,
        bounds=bounds,
        users=np.arange(len(lengths), dtype=np.uint64),
        states=np.zeros(len(lengths), np.uint8).view(np.dtype([("unused", "u1")])),
        seller=np.zeros((count, len(RISK_NAMES)), np.float32),
    )


def make_model(config: ModelConfig = CONFIG, vocabulary: Vocabulary | None = None, seed: int = 0) -> PantherModel:
    """Random weights; a vocabulary that leaves some combinations out."""
    if vocabulary is None:
        vocabulary, _ = fit_vocabulary(SCHEMA, random_codes(np.random.default_rng(seed), 300).view(CODE), top_k=40)
    torch.manual_seed(seed)
    return PantherModel(config, SCHEMA, vocabulary).eval()


@pytest.fixture(scope="session")
def model() -> PantherModel:
    return make_model()
