"""`panther bench incremental`: events a second of incremental encoding against recomputing the whole window.

Medians of one run with the same model: throughput in process at several window lengths, then time by length of the
past. (triton.py adds encode and score through a real Triton.) Weights are random, because speed does not depend on
them; the largest difference from full recompute is reported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.base.console import say
from panther_core.data.schema import CODE, PROFILE_FIELDS, AttributeSchema, fit_schema
from panther_core.data.vocabulary import fit_vocabulary
from panther_core.decide.rows import take
from panther_core.decide.scoring import EncodeRequest
from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.transition import hash_codes
from panther_core.state.window import window_length

_BATCH = 64  # events a call, each of another user


def make_model(length: int, seed: int = 0) -> tuple[PantherModel, AttributeSchema]:
    """The default shape (d = 64, 4 layers, 2 heads, 64 prototypes), random weights, some 2,000 tokens."""
    rng = np.random.default_rng(seed)
    words = [f"c{i}" for i in range(20)]
    schema = fit_schema(rng.lognormal(3, 1, 10_000), words, ["chip", "online", "contactless", "atm", "transfer"])
    codes = random_codes(rng, schema, 20_000)
    torch.manual_seed(seed)
    return PantherModel(ModelConfig(length=length), schema, fit_vocabulary(schema, codes, 2000)[0]).eval(), schema


def random_codes(rng: np.random.Generator, schema: AttributeSchema, count: int) -> NDArray[np.void]:
    """`count` random CODE records within the schema's ranges."""
    codes = np.zeros(count, CODE)
    for name, size in schema.sizes.items():
        codes[name] = rng.integers(1 if name == "amount" else 0, size, count)
    return codes


def windows(rng: np.random.Generator, schema: AttributeSchema, users: int, filled: int, length: int) -> EncodeRequest:
    """A request of `users` users whose windows hold `filled` random events each."""
    codes = np.zeros((users, length), np.uint64)
    codes[:, :filled] = random_codes(rng, schema, users * filled).view(np.uint64).reshape(users, filled)
    lengths, profile = np.full(users, filled, np.int32), np.zeros((users, PROFILE_FIELDS), np.uint8)
    return EncodeRequest(
        np.arange(1, users + 1, dtype=np.uint64), codes, lengths, hash_codes(codes, lengths, profile), profile
    )


def median_s(call: Callable[[], object], runs: int) -> float:
    """Median seconds of a call, after an uncounted one."""
    call()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def compare(events: int, batch: int = _BATCH, users: int = 1024) -> dict[str, Any]:
    """Incremental encoding against full recompute, for windows of `events` events of which only the newest is new."""
    model, schema = make_model(events + 2)
    rng = np.random.default_rng(1)
    before = windows(rng, schema, users, events - 1, events + 2)
    encoder = IncrementalEncoder(model, 4 << 30)
    for start in range(0, users, batch):
        encoder.encode(take(before, slice(start, start + batch)))
    after = appended(before, rng, schema)
    parts = [take(after, slice(start, start + batch)) for start in range(0, users, batch)]
    times, error = [], 0.0
    for part in parts:
        started = time.perf_counter()
        got = encoder.encode(part)
        times.append(time.perf_counter() - started)
        if len(times) % 8 == 1:
            full = model.encode(part.codes, part.length, part.profile)
            error = max(error, float(np.abs(got.cached - full.cached).max()))
    part = parts[0]
    full_s = median_s(lambda: model.encode(part.codes, part.length, part.profile), 5)
    plain_s = median_s(_plain_transformer(events, batch), 5)
    incremental_s = float(np.median(times[1:]))
    return {
        "events": events,
        "batch": batch,
        "incremental_tps": round(batch / incremental_s),
        "full_tps": round(batch / full_s),
        "plain_transformer_tps": round(batch / plain_s),
        "ratio": round(full_s / incremental_s, 1),
        "max_abs_error": error,
    }


def flatness(pasts: tuple[int, ...] = (64, 1000, 100_000), length: int = 256, rounds: int = 5) -> list[dict[str, Any]]:
    """Median microseconds an event, by the number of past events, over the next L events including window falls.

    The batches of users advance in turn, event by event, so that a slow minute of the machine affects all of them.
    """
    model, schema = make_model(length)
    spent = []
    for _ in range(rounds):
        steps = list(zip(*(_seconds_by_event(model, schema, past) for past in pasts), strict=True))
        spent.append(np.sum(steps, axis=0) / (length * _BATCH))
    return [
        {"past_events": past, "next_events": length, "us_per_event": round(1e6 * float(np.median(times)), 2)}
        for past, times in zip(pasts, zip(*spent, strict=True), strict=True)
    ]


def _seconds_by_event(model: PantherModel, schema: AttributeSchema, past: int) -> Iterator[float]:
    """Seconds of each of the next L events of a batch of users with `past` events."""
    rng, length = np.random.default_rng(2), model.config.length
    encoder = IncrementalEncoder(model, 1 << 28)
    stream = random_codes(rng, schema, _BATCH * length).view(np.uint64).reshape(_BATCH, -1)
    request = windows(rng, schema, _BATCH, int(window_length(past, length)), length)
    encoder.encode(request)
    for i in range(length):
        request = _step(request, stream[:, i], int(window_length(past + 1 + i, length)))
        began = time.perf_counter()
        encoder.encode(request)
        yield time.perf_counter() - began


def _step(request: EncodeRequest, new: NDArray[np.uint64], length: int) -> EncodeRequest:
    """The same users one event later. If `length` is not larger than before, the window falls to its newest events."""
    filled = int(request.length[0])
    codes = request.codes.copy()
    if length <= filled:
        kept = codes[:, filled - length + 1 : filled].copy()
        codes[:] = 0
        codes[:, : length - 1] = kept
    codes[:, length - 1] = new
    lengths = np.full(len(codes), length, np.int32)
    return EncodeRequest(request.user, codes, lengths, hash_codes(codes, lengths, request.profile), request.profile)


def appended(request: EncodeRequest, rng: np.random.Generator, schema: AttributeSchema) -> EncodeRequest:
    """The same users one random event later."""
    new = random_codes(rng, schema, len(request.user)).view(np.uint64)
    return _step(request, new, int(request.length[0]) + 1)


def _plain_transformer(events: int, batch: int) -> Callable[[], object]:
    """A call of an unmodified torch.nn.TransformerEncoder of the same size, which recomputes everything."""
    layer = torch.nn.TransformerEncoderLayer(64, 2, 256, activation="gelu", batch_first=True, norm_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval()
    mask = torch.nn.Transformer.generate_square_subsequent_mask(events)
    x = torch.randn(batch, events, 64)

    @torch.inference_mode()
    def run() -> object:
        return encoder(x, mask=mask, is_causal=True)

    return run


def run_incremental(lengths: tuple[int, ...] = (128, 256, 512)) -> dict[str, Any]:
    """All figures of the command but those of Triton."""
    results = []
    for events in lengths:
        results.append(compare(events))
        say(f"  {results[-1]}")
    return {"results": results, "flatness": flatness(), "torch_threads": torch.get_num_threads()}


def run_apart() -> dict[str, Any]:
    """`run_incremental` in a process of its own: with the cores to itself it may let waiting threads spin, which the
    `panther` command does not."""
    environment = os.environ | {"OMP_WAIT_POLICY": "ACTIVE"}
    argv = [sys.executable, "-m", "bench.speed.incremental"]
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_incremental()))
