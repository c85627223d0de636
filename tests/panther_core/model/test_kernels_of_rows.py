"""The fused CPU kernels around the layers give what the torch modules give: scores, step inputs, outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from panther_core.decide.scoring import ScoreRequest, ScoreResponse
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.kernels.encode_kernel import EncodeKernel
from panther_core.model.kernels.score_kernel import ScoreKernel
from panther_core.model.outputs import cached_width
from panther_core.model.serving import PantherModel
from panther_core.state.features import WIDTH
from panther_core.state.window import RECENT
from tests.panther_core.model.conftest import random_codes, random_profiles
from tests.panther_core.model.test_incremental import MODELS

NAMES = list(MODELS)


def requested(model: PantherModel, rows: int, seed: int) -> ScoreRequest:
    """Rows of users with no history, too little for every convolution window, and enough."""
    rng = np.random.default_rng(seed)
    length = rng.integers(0, 6, rows).astype(np.int32)
    recent = random_codes(rng, rows * RECENT).reshape(rows, RECENT)
    recent[np.arange(RECENT)[None, :] < RECENT - length[:, None]] = 0
    recent[rng.random(recent.shape) < 0.1] = 0  # not of a stream, but the same for both all the same
    cached = rng.normal(size=(rows, cached_width(model.config))).astype(np.float32)
    cached[:, model.config.d + model.config.user_dim :] = np.abs(cached[:, model.config.d + model.config.user_dim :])
    cached[:, -3] += 9  # log Z, so that p is below 1
    # mu is 0 or above 1: where z = (p - mu) / sigma cancels, the last bit of p decides every digit of z
    cached[:, -2] = np.where(rng.random(rows) < 0.5, 0, 1 + cached[:, -2])
    cached[rng.random(rows) < 0.1, -1] = 0  # a prediction without any spread
    features = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    return ScoreRequest(features, random_codes(rng, rows), recent, random_profiles(rng, rows), cached, length)


def test_products_stay_on_the_thread_of_their_kernel() -> None:
    """OpenBLAS divides even the products of 64 rows, and its threads spin: a core lost (docs/log.md)."""
    threadpool_limits(limits=2, user_api="blas")
    model = next(iter(MODELS.values()))
    ScoreKernel(model.panther, model.head).score(requested(model, 64, 0), requested(model, 64, 0).cached)
    libraries = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert libraries
    assert set(libraries.values()) == {1}, libraries


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32 - 1), rows=st.sampled_from([1, 2, 31, 32, 33, 70]))
@settings(max_examples=15, deadline=None)
def test_scores(name: str, seed: int, rows: int) -> None:
    model, request = MODELS[name], requested(MODELS[name], rows, seed)
    model._kernel = None
    wanted = model.score(request)
    model._kernel = ScoreKernel(model.panther, model.head)
    got = model.score(request)
    model._kernel = None
    for field in ScoreResponse.__dataclass_fields__:
        np.testing.assert_allclose(getattr(got, field), getattr(wanted, field), rtol=2e-5, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32 - 1), rows=st.sampled_from([1, 7, 40]))
@settings(max_examples=15, deadline=None)
@torch.inference_mode()
def test_inputs_and_outputs_of_the_step(name: str, seed: int, rows: int) -> None:
    model, rng = MODELS[name], np.random.default_rng(seed)
    kernel = EncodeKernel(model.panther, model.head)
    codes = random_codes(rng, rows * (RECENT + 1)).reshape(rows, RECENT + 1)
    codes[:, :RECENT][np.arange(RECENT)[None, :] < rng.integers(0, RECENT + 1, rows)[:, None]] = 0
    at, profile = rng.integers(0, model.config.length, rows), random_profiles(rng, rows)
    parts = attributes(as_tensor(codes, torch.device("cpu")))
    wanted = model.panther.embed_parts(parts[:, -1:], torch.from_numpy(at)[:, None])[:, 0]
    if model.config.profile == "positional":
        wanted = wanted + model.panther.profile_vector(torch.from_numpy(profile))
    x_BD, new_BP = kernel.inputs(codes, at, profile)
    np.testing.assert_allclose(x_BD, wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(new_BP, model.head.text.activations_of(parts)[:, 0].numpy(), atol=1e-5)

    last = torch.from_numpy(rng.normal(size=x_BD.shape).astype(np.float32))
    pooled = torch.from_numpy(np.abs(new_BP))
    outputs, likely = model.outputs(model.panther.norm(last), pooled, model.panther.token_table())
    cached, codes_of = kernel.outputs(last.numpy(), pooled.numpy())
    np.testing.assert_allclose(cached, outputs.numpy(), atol=1e-5)
    assert (codes_of == likely.numpy().view(np.uint64)).all()


@pytest.mark.parametrize("name", NAMES[:1])
def test_a_code_outside_of_the_schema_is_refused(name: str) -> None:
    model = MODELS[name]
    request = requested(model, 3, 0)
    request.code[1] = np.uint64(2**64 - 1)
    with pytest.raises(ValueError, match="schema"):
        ScoreKernel(model.panther, model.head).score(request, request.cached)
    codes, profile = np.full((1, RECENT + 1), 2**64 - 1, np.uint64), np.zeros((1, 8), np.uint8)
    kernel = EncodeKernel(model.panther, model.head)
    with pytest.raises(ValueError, match="schema"):
        kernel.inputs(codes, np.zeros(1, np.int64), profile)


def test_a_model_that_trains_on_is_scored_by_its_new_weights(artifact_folder: Path) -> None:
    model = PantherModel.load(artifact_folder)
    request = requested(model, 5, 1)
    model.score(request)
    model.train()
    model.eval()
    before = model.score(request).score
    model.train()
    with torch.no_grad():
        model.head.bias += 1
    model.eval()
    assert (model.score(request).score > before).all()
