"""`python -m bench.speed.gpu --json`: events a second of scoring and incremental encoding on one GPU, in process.

For each batch size, precision and way of launching it measures events a second and p99 of whole calls (numpy in, numpy
out). Users are at all phases of their window, so the share of windows that fall and are recomputed is that of a stream
(2 in L). Then it measures the layers alone, as fractions of the bandwidth and the matrix products that the same GPU
reaches in the same run. Weights are random, because speed does not depend on them; the difference from full recompute
is reported too.

Shapes as in panther_core.decide.scoring; L context length.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import typer

from bench.speed.incremental import make_model, random_codes
from panther_core.base.console import emit, say
from panther_core.base.errors import BadInput, PantherError
from panther_core.data.schema import PROFILE_FIELDS, AttributeSchema
from panther_core.decide.scoring import EncodeRequest, ScoreRequest
from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.kernels.pool import SlabPool
from panther_core.model.kernels.precision import Precision
from panther_core.model.kernels.step import step_for
from panther_core.model.layers import TAPS
from panther_core.model.outputs import cached_width
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.features import WIDTH
from panther_core.state.transition import hash_codes
from panther_core.state.window import RECENT, window_length, window_start

BATCHES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
KINDS: tuple[tuple[Precision, bool], ...] = (
    ("float32", False),
    ("float32", True),
    ("bfloat16", False),
    ("bfloat16", True),
)
_LENGTH, _SEED, _UNCOUNTED = 256, 0, 8
_EVENTS = 1 << 19  # of all users of a case: making windows for a batch of 8,192 takes longer than encoding them


@dataclass(frozen=True)
class Case:
    """What one line of the result measures."""

    batch: int
    precision: Precision
    graphs: bool
    calls: int = 256


@dataclass(frozen=True)
class Ceilings:
    """The most that the device was measured to do."""

    copy_gb_s: float
    matmul_tflop_s: dict[str, float]


def seconds_of(work: Callable[[], object], device: torch.device, runs: int = 20) -> float:
    """Mean seconds of back-to-back runs after an uncounted one, waiting for work queued on a GPU."""
    wait: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    work()
    wait()
    started = time.perf_counter()
    for _ in range(runs):
        work()
    wait()
    return (time.perf_counter() - started) / runs


def ceilings(device: torch.device, copied_bytes: int = 1 << 30, size: int = 8192) -> Ceilings:
    """Bandwidth of a large copy (bytes read plus bytes written), and speed of square matrix products by type."""
    source = torch.empty(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = seconds_of(lambda: target.copy_(source), device)
    products = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        products[str(dtype).removeprefix("torch.")] = 2 * size**3 / seconds_of(partial(torch.mm, a, b), device) / 1e12
    return Ceilings(2 * copied_bytes / copy_s / 1e9, products)


def least_work(config: ModelConfig, positions: float, item_bytes: int) -> tuple[float, float]:
    """Bytes of slabs, and floating-point operations, that the layers and the running maximum need for an event.

    `positions`: events in the window. Weights and activations of a batch are not counted, because they are shared or
    stay in the cache.
    """
    d, m = config.d, config.prototypes * config.sprm
    attention_bytes = (positions + 1) * 2 * d * item_bytes
    ring_bytes = 4 * d * (len(TAPS) + 1) * config.sprm
    text_bytes = 4 * config.pooled * (min(positions, config.span) + 1)
    products = 2 * d * (3 * d + d + 2 * m + 8 * d) + 4 * positions * d
    return config.layers * (attention_bytes + ring_bytes) + text_bytes, config.layers * products


def traffic(schema: AttributeSchema, case: Case, length: int) -> Iterator[tuple[EncodeRequest, ScoreRequest]]:
    """Requests of the same users, one event later each time.

    Each pair has the window that ends with the event, and the score request of the event, whose `cached` is empty.
    """
    rng, batch = np.random.default_rng(_SEED), case.batch
    most = length + length // 2 + case.calls + 1
    codes = random_codes(rng, schema, batch * most).view(np.uint64).reshape(batch, most)
    profile, users = np.zeros((batch, PROFILE_FIELDS), np.uint8), np.arange(1, batch + 1, dtype=np.uint64)
    n = length + rng.integers(0, length // 2, batch)  # events known, the new one included
    row = np.arange(batch)[:, None]
    for _ in range(case.calls):
        filled = window_length(n, length).astype(np.int32)
        at = np.arange(length)
        place = np.minimum(window_start(n, length)[:, None] + at, most - 1)
        window = np.where(at < filled[:, None], codes[row, place], np.uint64(0))
        score = ScoreRequest(
            features=rng.normal(size=(batch, WIDTH)).astype(np.float32),
            code=codes[row[:, 0], n - 1],
            recent=codes[row, n[:, None] - 1 - np.arange(RECENT, 0, -1)],
            profile=profile,
            cached=np.zeros((batch, 0), np.float32),
            history_len=(n - 1).astype(np.int32),
        )
        yield EncodeRequest(users, window, filled, hash_codes(window, filled, profile), profile), score
        n = n + 1


def measure(model: PantherModel, schema: AttributeSchema, case: Case, known: Ceilings) -> dict[str, Any]:
    """Measure one case on the device of the model."""
    config = model.config
    slot_bytes = SlabPool(config, cached_width(config), 1 << 30, case.precision, "meta").slot_bytes
    make_step = partial(step_for, graphs=case.graphs)
    encoder = IncrementalEncoder(model, case.batch * slot_bytes, case.precision, make_step)
    encode_s, score_s = [], []
    cached = np.zeros((case.batch, cached_width(config)), np.float32)
    for encode, score in traffic(schema, case, config.length):
        asked = ScoreRequest(score.features, score.code, score.recent, score.profile, cached, score.history_len)
        began = time.perf_counter()
        model.score(asked)
        scored = time.perf_counter()
        cached = encoder.encode(encode).cached
        encode_s.append(time.perf_counter() - scored)
        score_s.append(scored - began)
    few = slice(0, 64)
    full = model.encode(encode.codes[few], encode.length[few], encode.profile[few])
    both_ms = 1000 * (np.array(encode_s) + np.array(score_s))[_UNCOUNTED:]
    encode_ms = 1000 * np.array(encode_s[_UNCOUNTED:])
    return {
        "batch": case.batch,
        "calls": case.calls - _UNCOUNTED,
        "precision": case.precision,
        "graphs": case.graphs,
        "encoded_per_s": round(1000 * case.batch / float(encode_ms.mean())),
        "scored_and_encoded_per_s": round(1000 * case.batch / float(both_ms.mean())),
        "encode_p99_ms": round(float(np.percentile(encode_ms, 99)), 3),
        "score_and_encode_p99_ms": round(float(np.percentile(both_ms, 99)), 3),
        "max_abs_error": float(np.abs(cached[few] - full.cached).max()),
        **_layers(encoder, encode, known),
    }


@torch.inference_mode()
def _layers(encoder: IncrementalEncoder, request: EncodeRequest, known: Ceilings) -> dict[str, float]:
    """Time of the layers' step on the device alone. It repeats the newest position, and so writes the same values."""
    config, device = encoder.config, encoder.device
    slot_B = torch.from_numpy(encoder.pool.slots(request.user)).to(device)
    at_B = torch.from_numpy(request.length.astype(np.int64) - 1).to(device)
    x_BD = torch.randn(len(slot_B), config.d, device=device)
    new_BP = torch.rand(len(slot_B), config.pooled, device=device)

    def step() -> None:
        encoder.step.advance(x_BD, slot_B, at_B)
        encoder.step.pooled(new_BP, slot_B, at_B)

    seconds = seconds_of(step, device)
    moved, products = least_work(config, float(request.length.mean()), encoder.pool.dtype.itemsize)
    peak = known.matmul_tflop_s["float32" if encoder.pool.dtype == torch.float32 else "bfloat16"]
    return {
        "step_ms": round(1000 * seconds, 4),
        "of_copy_ceiling": round(len(slot_B) * moved / seconds / 1e9 / known.copy_gb_s, 4),
        "of_matmul_ceiling": round(len(slot_B) * products / seconds / 1e12 / peak, 6),
    }


def run_gpu(batches: tuple[int, ...] = BATCHES) -> dict[str, Any]:
    """All cases on the current GPU. Raises BadInput where torch sees none."""
    if not torch.cuda.is_available():
        raise BadInput(
            "expected an NVIDIA GPU that torch can use, found none: run this on a GPU machine "
            "(docs/gpu.md); for the CPU there is `panther bench incremental`"
        )
    device = torch.device("cuda")
    known = ceilings(device)
    model, schema = make_model(_LENGTH, _SEED)
    model, results = model.to(device), []
    for batch in batches:
        calls = min(256, _EVENTS // batch)
        for precision, graphs in KINDS:
            results.append(measure(model, schema, Case(batch, precision, graphs, calls), known))
            say(f"  {results[-1]}")
    return {
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "length": _LENGTH,
        "seed": _SEED,
        "copy_gb_s": round(known.copy_gb_s),
        "matmul_tflop_s": {name: round(value, 1) for name, value in known.matmul_tflop_s.items()},
        "results": results,
    }


def main(as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False) -> None:
    """Events a second and p99 by batch size on one GPU, and how far from its ceilings the step is."""
    try:
        emit(run_gpu(), as_json)
    except PantherError as error:
        say(f"[bold red]error[/] {error}")
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
