"""Continuing equals recomputing: any mix of fresh, partial, full and just-fallen windows, evictions included."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panther_core.errors import BadInput
from panther_core.model import kernels
from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.pool import Precision, SlabPool, decode_table
from panther_core.model.serving import PantherModel
from panther_core.scoring import EncodeRequest
from panther_core.transition import hash_codes
from panther_core.window import window_start
from tests.model.conftest import CONFIG, LENGTH, make_model, random_codes, random_profiles

MODELS = {
    "panther": make_model(),
    "transformer": make_model(msgspec.structs.replace(CONFIG, sprm=False, profile="none")),
    "profile first": make_model(msgspec.structs.replace(CONFIG, profile="first", attribute_embedding=False)),
}
ENOUGH = 1 << 24
once = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])


class Users:
    """Histories that grow, and the requests a stream would make of them."""

    def __init__(self, count: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.codes = [random_codes(self.rng, 4 * LENGTH) for _ in range(count)]
        self.n = self.rng.integers(0, 3 * LENGTH, count)
        self.profile = random_profiles(self.rng, count)

    def grow(self, user: int, by: int) -> None:
        self.n[user] = min(self.n[user] + by, 4 * LENGTH)

    def request(self, users: NDArray[np.int64]) -> EncodeRequest:
        codes = np.zeros((len(users), LENGTH), np.uint64)
        length = np.zeros(len(users), np.int32)
        for i, user in enumerate(users):
            n = max(1, int(self.n[user]))
            window = self.codes[user][int(window_start(n, LENGTH)) : n]
            codes[i, : len(window)], length[i] = window, len(window)
        profile = self.profile[users]
        return EncodeRequest(users.astype(np.uint64) + 1, codes, length, hash_codes(codes, length, profile), profile)


def largest_error(encoder: IncrementalEncoder, model: PantherModel, request: EncodeRequest) -> float:
    got, full = encoder.encode(request), model.encode(request.codes, request.length, request.profile)
    return float(np.abs(got.cached - full.cached).max(initial=0))


@pytest.mark.parametrize("name", MODELS)
@given(seed=st.integers(0, 2**32 - 1), slots=st.integers(1, 12), turns=st.integers(1, 12))
@once
def test_equal_to_full_recompute(name: str, seed: int, slots: int, turns: int) -> None:
    model, users = MODELS[name], Users(8, seed)
    budget = slots * IncrementalEncoder(model, ENOUGH).pool.slot_bytes
    encoder = IncrementalEncoder(model, budget)
    for _ in range(turns):
        chosen = users.rng.permutation(8)[: users.rng.integers(1, 9)]
        for user in chosen.tolist():
            users.grow(user, int(users.rng.choice([0, 1, 1, 1, 2, 5, 20])))
            if users.rng.random() < 0.05:
                users.profile[user] = random_profiles(users.rng, 1)[0]
        assert largest_error(encoder, model, users.request(chosen)) < 1e-5
    stats = encoder.pool.stats
    assert stats.bytes <= budget
    assert len(encoder.pool._slot) <= slots


def test_one_new_event_is_one_position_of_work(model: PantherModel) -> None:
    users, encoder = Users(6, 1), IncrementalEncoder(model, ENOUGH)
    everyone = np.arange(6)
    users.n[:] = 5
    encoder.encode(users.request(everyone))
    users.n += 1
    encoder.encode(users.request(everyone))
    assert (encoder.pool.stats.misses, encoder.pool.stats.hits, encoder.pool.stats.suffix) == (6, 6, 6)
    encoder.encode(users.request(everyone))  # the very same windows again: answered from the slab
    assert (encoder.pool.stats.hits, encoder.pool.stats.suffix) == (12, 6)


def test_a_foreign_slab_is_recomputed_and_counted_stale(model: PantherModel) -> None:
    users, encoder = Users(1, 2), IncrementalEncoder(model, ENOUGH)
    users.n[:] = 6
    encoder.encode(users.request(np.zeros(1, np.int64)))
    users.codes[0] = random_codes(users.rng, 4 * LENGTH)  # another history under the same key
    users.n[:] = 7
    assert largest_error(encoder, model, users.request(np.zeros(1, np.int64))) < 1e-5
    assert encoder.pool.stats.stale == 1


def test_least_recently_used_goes_first(model: PantherModel) -> None:
    pool = SlabPool(CONFIG, 4, 3 * SlabPool(CONFIG, 4, ENOUGH).slot_bytes)
    pool.slots(np.array([1, 2, 3], np.uint64))
    pool.slots(np.array([1], np.uint64))
    pool.slots(np.array([4], np.uint64))
    assert list(pool._slot) == [3, 1, 4]
    assert pool.stats.evictions == 1


def test_memory_stays_within_the_budget_under_churn(model: PantherModel) -> None:
    encoder = IncrementalEncoder(model, 20 * IncrementalEncoder(model, ENOUGH).pool.slot_bytes)
    users = Users(200, 3)
    held = [t.data_ptr() for t in encoder.pool.keys]
    for start in range(0, 200, 25):
        assert largest_error(encoder, model, users.request(np.arange(start, start + 25))) < 1e-5
    assert [t.data_ptr() for t in encoder.pool.keys] == held
    assert encoder.pool.stats.evictions >= 180


def test_a_budget_for_no_one_is_refused(model: PantherModel) -> None:
    with pytest.raises(BadInput, match="PANTHER_CACHE_BYTES"):
        IncrementalEncoder(model, 100)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_slabs_are_close(model: PantherModel, precision: Precision) -> None:
    users, encoder = Users(8, 4), IncrementalEncoder(model, ENOUGH, precision)
    users.n[:] = 3
    for _ in range(10):
        users.n += 1
        assert largest_error(encoder, model, users.request(np.arange(8))) < 1e-2


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_attention_kernels_equal_plain_torch(precision: Precision) -> None:
    torch.manual_seed(0)
    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[precision]
    slabs = [torch.randn(5, 2, 12, 8).to(dtype) for _ in range(2)]
    q, k, v = (torch.randn(3, 2, 8) for _ in range(3))
    slot, at = np.array([4, 0, 2]), np.array([0, 7, 11])
    want = []
    for b in range(3):
        keys, values = (s[slot[b], :, : at[b] + 1].float().clone() for s in slabs)
        keys[:, -1], values[:, -1] = k[b].to(dtype).float(), v[b].to(dtype).float()
        weight = torch.softmax((keys @ q[b][:, :, None])[..., 0] * 8**-0.5, dim=1)
        want.append((weight[:, None] @ values)[:, 0])
    out = np.empty((3, 2, 8), np.float32)
    if precision == "float32":
        kernels.append_and_attend(*(s.numpy() for s in slabs), slot, at, torch.stack([q, k, v], 1).numpy(), out)
    else:
        qkv = torch.stack([q, k, v], 1)
        keys, values, bits = (t.to(dtype).view(torch.uint16).numpy() for t in (*slabs, qkv))
        kernels.append_and_attend_16(keys, values, slot, at, qkv.numpy(), bits, out, decode_table(dtype))
    assert np.abs(out - torch.stack(want).numpy()).max() < 1e-6
