"""Continuing equals recomputing: any mix of fresh, partial, full and just-fallen windows, evictions included."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.decide.scoring import EncodeRequest
from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.kernels.layer_kernel import layer_step, layer_weights
from panther_core.model.kernels.pool import SlabPool
from panther_core.model.kernels.precision import BFLOAT, Precision, decode_table, half_bits
from panther_core.model.layers import Layer
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.transition import _MIX, _SHIFT, hash_codes
from panther_core.state.window import window_start
from tests.panther_core.model.conftest import CONFIG, LENGTH, make_model, random_codes, random_profiles

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


def follow(encoder: IncrementalEncoder, users: Users, turns: int) -> None:
    """Each turn some users have some new events, or none, or another profile: always equal to full recompute."""
    count = len(users.n)
    for _ in range(turns):
        chosen = users.rng.permutation(count)[: users.rng.integers(1, count + 1)]
        for user in chosen.tolist():
            users.grow(user, int(users.rng.choice([0, 1, 1, 1, 2, 5, 20])))
            if users.rng.random() < 0.05:
                users.profile[user] = random_profiles(users.rng, 1)[0]
        assert largest_error(encoder, encoder.model, users.request(chosen)) < 1e-5


@pytest.mark.parametrize("name", MODELS)
@given(seed=st.integers(0, 2**32 - 1), slots=st.integers(1, 12), turns=st.integers(1, 12))
@once
def test_equal_to_full_recompute(name: str, seed: int, slots: int, turns: int) -> None:
    model, users = MODELS[name], Users(8, seed)
    budget = slots * IncrementalEncoder(model, ENOUGH).pool.slot_bytes
    encoder = IncrementalEncoder(model, budget)
    follow(encoder, users, turns)
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


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_forged_window_serves_no_true_request(model: PantherModel, ahead: int) -> None:
    """Somebody plants events of their own under a victim's user and true hash, then the victim's request comes.

    `ahead`: events that the victim has had since.
    """
    victim, encoder, only = Users(1, 2), IncrementalEncoder(model, ENOUGH), np.zeros(1, np.int64)
    victim.n[:] = 6
    true = victim.request(only)
    codes = random_codes(victim.rng, LENGTH)[None] * (true.codes > 0)
    # the last event is chosen so that even the hash of the forged window is the true one
    forged = np.where(np.arange(LENGTH) == 5, solve_last(codes, true.window_hash, true.profile, 5), codes)
    assert (hash_codes(forged, true.length, true.profile) == true.window_hash).all()
    for planted in (codes, forged):
        encoder.encode(EncodeRequest(true.user, codes, true.length, true.window_hash, true.profile))
        # put there by hand, since an event with such codes is in no schema and would be refused
        encoder.pool.codes_UL[encoder.pool.slots(true.user)] = planted
        victim.n[:] = 6 + ahead
        assert largest_error(encoder, model, victim.request(only)) < 1e-5
        assert encoder.pool.stats.hits == 0
        encoder.pool.forget()


def solve_last(
    codes: NDArray[np.uint64], wanted: NDArray[np.uint64], profile: NDArray[np.uint8], at: int
) -> NDArray[np.uint64]:
    """The code at place `at` that gives the window of at + 1 events the hash `wanted`: a step of the hash is undone."""
    before = hash_codes(codes, np.array([at], np.int32), profile)
    mixed = wanted.copy()
    for _ in range(64):  # x ^ (x >> s) is undone by repeating it
        mixed = wanted ^ (mixed >> _SHIFT)
    return (mixed * np.uint64(pow(int(_MIX), -1, 2**64))) ^ before


@pytest.mark.parametrize("length", [-1, 0, LENGTH + 1])
def test_a_length_beyond_the_window_is_refused(model: PantherModel, length: int) -> None:
    users, encoder, only = Users(1, 2), IncrementalEncoder(model, ENOUGH), np.zeros(1, np.int64)
    users.n[:] = LENGTH - 1
    good = users.request(only)
    encoder.encode(good)
    wide = np.pad(good.codes, ((0, 0), (0, 8)), mode="edge")
    for codes in (good.codes, wide):
        bad = EncodeRequest(good.user, codes, np.full(1, length, np.int32), good.window_hash, good.profile)
        with pytest.raises(BadInput, match="lengths"):
            encoder.encode(bad)
    assert largest_error(encoder, model, good) < 1e-5


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
@pytest.mark.parametrize("sprm", [True, False])
def test_the_layer_kernel_equals_the_plain_layer(precision: Precision, sprm: bool) -> None:
    torch.manual_seed(0)
    layer, positions, rows = Layer(ModelConfig(d=24, heads=3, prototypes=5, sprm=sprm)).eval(), 12, 19
    pool = SlabPool(ModelConfig(length=positions, d=24, heads=3, layers=1), 4, 1 << 20, precision)
    at, slots = np.arange(rows) % positions, np.random.default_rng(0).permutation(pool.capacity)[:rows]
    x_BTD = torch.randn(rows, positions, 24)
    with torch.inference_mode():
        want, u_BTD = layer(x_BTD), layer.norm(x_BTD)
        _, k_BHTK, v_BHTK = layer.attend(u_BTD)
        for b, slot in enumerate(slots):
            before = slice(0, at[b])
            pool.keys[0][slot, :, before] = k_BHTK[b, :, before].to(pool.dtype)
            pool.values[0][slot, :, before] = v_BHTK[b, :, before].to(pool.dtype)
            for t in range(max(0, at[b] - 4), at[b]):
                pool.ring_NURD[0, slot, t % pool.ring_NURD.shape[2]] = u_BTD[b, t]
        weights, newest = layer_weights(layer), (np.arange(rows), at)
        x_BD = x_BTD[newest].numpy().copy()
        decode = None if precision == "float32" else decode_table(pool.dtype)
        layer_step(x_BD, (slots, at), pool.arrays()[0], weights, decode, BFLOAT[precision])
    exact = precision == "float32"
    assert np.abs(x_BD - want[newest].numpy()).max() < (2e-6 if exact else 2e-2)
    stored = pool.keys[0][slots, :, at].float()
    assert torch.allclose(stored, k_BHTK[newest[0], :, newest[1]].to(pool.dtype).float(), atol=1e-6 if exact else 1e-2)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_16_bit_patterns_are_rounded_as_torch_rounds(precision: Precision) -> None:
    rng = np.random.default_rng(0)
    scale = 2.0 ** rng.integers(-30, 20, 20_000)
    floats = np.concatenate([rng.normal(size=20_000) * scale, [0.0, -0.0, 65504, 65519.9, 65520, 1e9, -np.inf]])
    floats = floats.astype(np.float32)
    halfway = ((floats.view(np.uint32) & ~np.uint32(0x1FFF)) | np.uint32(0x1000)).view(np.float32)  # ties go to even
    dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}[precision]
    for values in (floats, halfway[np.isfinite(halfway)]):
        want = torch.from_numpy(values).to(dtype).view(torch.uint16).numpy()
        got = [half_bits(bits, BFLOAT[precision]) for bits in values.view(np.uint32)]
        assert np.array_equal(np.array(got, np.uint16), want)
