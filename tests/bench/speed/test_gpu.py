"""The GPU benchmark: what it counts, that it runs (on the CPU, tiny), and what it says where there is no GPU."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
import torch

from bench.speed.gpu import Case, Ceilings, ceilings, least_work, measure, run_gpu, traffic
from bench.speed.incremental import make_model
from panther_core.base.errors import BadInput
from panther_core.model_config import ModelConfig
from panther_core.state.transition import extend_hash


def test_each_request_continues_the_one_before_it_or_falls() -> None:
    _, schema = make_model(16)
    fallen = 0
    for (before, _), (after, score) in pairwise(traffic(schema, Case(8, "float32", False, 17), 16)):
        newest = after.length - 1
        assert np.array_equal(after.codes[np.arange(8), newest], score.code)
        assert np.array_equal(after.codes[np.arange(8), newest - 1], score.recent[:, -1])
        grown = after.length == before.length + 1
        assert np.array_equal(extend_hash(before.window_hash, score.code)[grown], after.window_hash[grown])
        fallen += int((~grown).sum())
    assert fallen == 8 * 16 // 8  # every user once in L / 2 events


def test_a_case_is_measured() -> None:
    model, schema = make_model(16)
    result = measure(model, schema, Case(8, "float32", False, 24), Ceilings(1.0, {"float32": 1.0}))
    assert result["max_abs_error"] < 1e-5
    assert result["encoded_per_s"] > result["scored_and_encoded_per_s"] > 0
    assert result["score_and_encode_p99_ms"] > result["encode_p99_ms"] > 0
    assert result["of_copy_ceiling"] > 0


def test_the_least_work_of_an_event() -> None:
    config = ModelConfig(d=64, layers=4, heads=2, prototypes=64, length=256)
    moved, products = least_work(config, 200, 2)
    text = 4 * 48 * 101
    assert moved == 4 * (201 * 2 * 64 * 2 + 4 * 64 * 5) + text
    assert products == 4 * (2 * 64 * (4 * 64 + 2 * 64 + 8 * 64) + 4 * 200 * 64)
    plain = msgspec.structs.replace(config, sprm=False)
    assert least_work(plain, 200, 2)[0] == 4 * 201 * 2 * 64 * 2 + text


def test_ceilings_are_of_the_device() -> None:
    known = ceilings(torch.device("cpu"), copied_bytes=1 << 16, size=32)
    assert known.copy_gb_s > 0
    assert set(known.matmul_tflop_s) == {"float32", "bfloat16"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_it_needs() -> None:
    with pytest.raises(BadInput, match="expected an NVIDIA GPU"):
        run_gpu()
