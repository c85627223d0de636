"""The GPU's step on whatever is here: its kernels equal their plain reference, its encoder equals full recompute.

Without a GPU the kernels run in the interpreter of Triton's language (tests/panther_core/model/conftest.py), and are
compiled for one all the same. Not covered without one: speed, CUDA graphs as such, results of the compiled kernels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.kernels import plain
from panther_core.model.kernels.graphs import GraphedStep
from panther_core.model.kernels.precision import Precision
from panther_core.model.kernels.step import TorchStep
from panther_core.model.serving import PantherModel
from tests.panther_core.model.conftest import LENGTH, make_model
from tests.panther_core.model.test_incremental import ENOUGH, MODELS, Users, follow, largest_error

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
few = settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def triton_kernels() -> ModuleType:
    pytest.importorskip("triton", reason="the package triton (language of the GPU kernels) is not installed")
    from panther_core.model.kernels import cuda as kernels_cuda

    return kernels_cuda


@pytest.fixture(scope="module", params=["plain", "triton"])
def operations(request: pytest.FixtureRequest) -> ModuleType:
    return plain if request.param == "plain" else request.getfixturevalue("triton_kernels")


def encoder_of(model: PantherModel, operations: ModuleType, precision: Precision = "float32") -> IncrementalEncoder:
    return IncrementalEncoder(model.to(DEVICE), ENOUGH, precision, lambda m, pool: TorchStep(m, pool, operations))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "width"), [(2, 32), (3, 12)])
def test_attention_in_place_equals_the_reference(
    triton_kernels: ModuleType, dtype: torch.dtype, heads: int, width: int
) -> None:
    torch.manual_seed(0)
    positions, at_B = 75, torch.tensor([0, 1, 31, 32, 33, 64, 74], device=DEVICE)
    slot_B = torch.randperm(9, device=DEVICE)[: len(at_B)]
    slabs = [torch.randn(9, heads, positions, width, device=DEVICE).to(dtype) for _ in range(2)]
    for slot, at in zip(slot_B, at_B, strict=True):
        for slab in slabs:
            slab[slot, :, at:] = torch.nan  # what nobody has written yet may be anything
    copies = [slab.clone() for slab in slabs]
    qkv_BE = 3 * torch.randn(len(at_B), 3 * heads * width, device=DEVICE)
    if dtype == torch.bfloat16:  # the interpreter cuts bits off where a GPU rounds; under autocast none are left over
        qkv_BE = qkv_BE.to(dtype).float()
    got = triton_kernels.append_attend(qkv_BE, tuple(slabs), slot_B, at_B)
    want = plain.append_attend(qkv_BE, tuple(copies), slot_B, at_B)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)
    for slab, copy in zip(slabs, copies, strict=True):  # the same bits, the new position included, nothing else
        assert torch.equal(slab.nan_to_num(7), copy.nan_to_num(7))
        assert torch.isfinite(slab[slot_B, :, at_B]).all()


def test_the_reference_is_softmax_attention() -> None:
    torch.manual_seed(1)
    slabs = torch.zeros(4, 2, 10, 8), torch.zeros(4, 2, 10, 8)
    q_1HTK, k_1HTK, v_1HTK = torch.randn(3, 1, 2, 10, 8)
    want = torch.nn.functional.scaled_dot_product_attention(q_1HTK, k_1HTK, v_1HTK, is_causal=True)
    for t in range(10):
        qkv = torch.stack([part[0, :, t] for part in (q_1HTK, k_1HTK, v_1HTK)]).reshape(1, -1)
        got = plain.append_attend(qkv, slabs, torch.tensor([2]), torch.tensor([t]))
        torch.testing.assert_close(got, want[0, :, t].reshape(1, -1))


def test_pooled_maximum_equals_the_reference(triton_kernels: ModuleType) -> None:
    torch.manual_seed(2)
    positions, filters = 80, 6
    at_B = torch.tensor([0, 3, 40, 79], device=DEVICE)
    slot_B, reach_P = torch.randperm(5, device=DEVICE)[:4], torch.tensor([0, 1, 2, 33, 60, 98], device=DEVICE)
    slab = torch.rand(5, positions, filters, device=DEVICE)
    new_BP, copy = torch.rand(4, filters, device=DEVICE), slab.clone()
    got = triton_kernels.pooled_maximum(slab, new_BP, slot_B, at_B, reach_P)
    assert torch.equal(got, plain.pooled_maximum(copy, new_BP, slot_B, at_B, reach_P))
    assert torch.equal(slab, copy)
    for b in range(4):
        for p, reach in enumerate(reach_P.tolist()):
            newest = slab[slot_B[b], max(0, int(at_B[b]) - reach + 1) : int(at_B[b]) + 1, p]
            assert got[b, p] == (newest.max() if reach else 0)


@pytest.mark.parametrize("name", MODELS)
@given(seed=st.integers(0, 2**32 - 1))
@few
def test_equal_to_full_recompute(operations: ModuleType, name: str, seed: int) -> None:
    follow(encoder_of(MODELS[name], operations), Users(3, seed), turns=3)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_close_however_the_window_was_reached(precision: Precision) -> None:
    model = make_model()
    users, stepped, fresh = Users(6, 4), encoder_of(model, plain, precision), encoder_of(model, plain, precision)
    users.n[:] = 3
    for _ in range(8):
        users.n += 1
        request = users.request(np.arange(6))
        assert largest_error(stepped, model, request) < 3e-2
        fresh.pool.forget()
        assert largest_error(fresh, model, request) < 3e-2
    assert stepped.pool.stats.suffix == 6 * 7
    assert fresh.pool.stats.suffix == 0


def copying(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """What a CUDA graph does, without one: fills the same output anew out of the same inputs."""
    out = work().clone()

    def replay() -> None:
        out.copy_(work())

    return replay, out


def test_batches_are_padded_to_few_sizes_and_nothing_else_changes() -> None:
    model, captured = make_model(), []

    def capture(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        captured.append(work)
        return copying(work)

    single = encoder_of(model, plain)
    graphed = IncrementalEncoder(model, ENOUGH, "float32", lambda m, p: GraphedStep(TorchStep(m, p, plain), capture))
    slabs = [[*e.pool.keys, *e.pool.values, e.pool.ring_NURD] for e in (single, graphed)]
    for slab in (*slabs[0], *slabs[1]):
        slab.zero_()
    users = Users(9, 5)
    users.n[:] = LENGTH // 2  # all windows fall at the eighth turn
    for rows in (9, 9, 8, 7, 5, 3, 1, 6, 9, 2):
        users.n += 1
        request = users.request(np.arange(rows))
        assert largest_error(graphed, model, request) < 1e-5
        single.encode(request)
    assert len(captured) == 5  # 16, 8, 4, 2, 1
    assert graphed.pool.stats.suffix > 0
    for one, other in zip(*slabs, strict=True):  # the added rows left no trace
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_cuda_graphs_give_what_single_launches_give(triton_kernels: ModuleType) -> None:
    model = make_model().to(DEVICE)
    encoder = IncrementalEncoder(model, ENOUGH, "float32", lambda m, p: GraphedStep(TorchStep(m, p, triton_kernels)))
    follow(encoder, Users(9, 6), turns=20)


def on_fake_gpu(model: PantherModel) -> PantherModel:
    """The model as if on a GPU, in FakeTensorMode; `Module.to` would ask for a real one."""
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, t in held.items():
                held[name] = None if t is None else torch.empty(t.shape, dtype=t.dtype, device="cuda")
    return model


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_on_the_models_device(name: str) -> None:
    """On made-up tensors that only know their shape and device: an operator that mixes devices raises."""
    config = MODELS[name].config
    with FakeTensorMode(), torch.inference_mode():
        model = on_fake_gpu(make_model(config))
        encoder = IncrementalEncoder(model, 1 << 20, "float32", lambda m, pool: TorchStep(m, pool, plain))
        at_B, codes_BT = torch.ones(3, dtype=torch.int64, device="cuda"), torch.ones(3, 5, dtype=torch.int64).to("cuda")
        x_BTD = model.panther.inputs(codes_BT, torch.zeros(3, 8, dtype=torch.uint8, device="cuda"))
        encoder._fill(x_BTD, at_B, at_B)
        h_BD = encoder.step.advance(x_BTD[:, 0], at_B, at_B)
        pooled_BP = encoder.step.pooled(model.head.text.every(codes_BT)[:, 0], at_B, at_B)
        outputs_BK, likely_B3 = model.outputs(h_BD, pooled_BP, encoder._table_DV)
    assert (outputs_BK.device.type, likely_B3.device.type) == ("cuda", "cuda")


_COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from panther_core.model.kernels import cuda as kernels

def compiles(kernel, types, fixed):
    full = {name: "constexpr" if name in fixed else types[name] for name in kernel.arg_names}
    compiled = triton.compile(ASTSource(kernel, full, fixed), target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__, len(compiled.asm["cubin"]) > 0)

types = {"slots": "*i64", "ats": "*i64", "reaches": "*i64", "active": "*fp32", "new": "*fp32", "scale": "fp32"}
types |= dict.fromkeys(("heads", "positions", "width", "filters"), "i32")
block = {"BLOCK": kernels._BLOCK}
for slab in ("fp32", "bf16", "fp16"):
    slabs = dict.fromkeys(("qkv", "keys", "values", "out"), "*" + slab)
    compiles(kernels._append_attend, types | slabs, block | {"WIDTH": 32})
# a launch compiles sizes of 1 as constants
compiles(kernels._append_attend, types | slabs, block | {"WIDTH": 1, "heads": 1, "width": 1})
compiles(kernels._pooled_maximum, types | {"out": "*fp32"}, block | {"FILTERS": 64})
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the other tests have compiled the kernels already")
def test_the_kernels_compile_for_an_h100(triton_kernels: ModuleType, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", _COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == 4 * ["_append_attend True"] + ["_pooled_maximum True"]
