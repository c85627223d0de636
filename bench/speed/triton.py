"""The part of `panther bench incremental` that goes through Triton: events encoded and scored a second, and latency."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
from safetensors.torch import save_file

from bench.speed.incremental import appended, make_model, windows
from infra.local.triton import TritonPorts, TritonServer
from panther_core import artifact
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import PROFILE_FIELDS, AttributeSchema
from panther_core.data.vocabulary import Vocabulary
from panther_core.decide.rows import take
from panther_core.decide.rules import RuleModel
from panther_core.decide.scoring import SURPRISE, EncodeRequest, ScoreRequest
from panther_core.model.blend import (
    BOOSTING,
    BOOSTING_PANTHER,
    DCN,
    DCN_CONTEXT,
    RULES,
    BlendConfig,
    Member,
)
from panther_core.model.head import ContextHead
from panther_core.model.outputs import cached_width
from panther_core.model.serving import PantherModel
from panther_core.state.features import NAMES, WIDTH
from panther_core.state.window import RECENT
from stream.scorer.triton_scorer import TritonScorer
from trainer.heads.boosting import PARAMETERS, ROUNDS
from trainer.rollout.deploy import export, load

_LENGTH, _FILLED, _USERS, _BATCH, _ROUNDS = 256, 192, 2048, 64, 4


def run_triton(threads: int = 1) -> dict[str, Any]:
    """Figures through a real Triton, with the client's cost included.

    `encode_score_tps`: events encoded and scored a second with two micro-batches in flight; `score_ms`: latency of one
    score request alone, by a blend of all heads. `threads` a model is 1, as in the local stack: waking a second thread
    costs more than it saves on 64 rows.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, schema = make_model(_LENGTH)
        manifest = _artifact(folder / "artifact", model, schema)
        environment = {"PANTHER_TORCH_THREADS": str(threads), "PANTHER_CACHE_BYTES": str(2 << 30)}
        with TritonServer(folder / "models", folder, TritonPorts.free(), env=environment) as server:
            export(folder / "artifact", folder / "models")
            load(server.grpc_url, manifest)
            return asyncio.run(_measure(server.grpc_url, schema))


async def _measure(url: str, schema: AttributeSchema) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    scorer = TritonScorer(url, score_deadline_s=10, encode_deadline_s=60)
    request = windows(rng, schema, _USERS, _FILLED, _LENGTH)
    cached = [(await scorer.ask(part, 1)).cached for part in _parts(request)]
    tps = []
    for _ in range(_ROUNDS):
        request = appended(request, rng, schema)
        pending = list(zip(_parts(request), cached, strict=True))
        started = time.perf_counter()

        async def work(queue: list[Any] = pending) -> None:
            while queue:
                part, before = queue.pop()
                await scorer.ask(_score_request(part, before, rng), 1)
                await scorer.ask(part, 1)

        await asyncio.gather(work(), work())
        tps.append(_USERS / (time.perf_counter() - started))
    one, before = _parts(request)[0], cached[0]
    asked, times = _score_request(one, before, rng), []
    for _ in range(5000):
        started = time.perf_counter()
        await scorer.ask(asked, 1)
        times.append(1000 * (time.perf_counter() - started))
    await scorer.close()
    p50, p99 = np.percentile(times[20:], [50, 99])
    return {
        "encode_score_tps": round(float(np.median(tps))),
        "score_ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2)},
        "batch": _BATCH,
        "events": _FILLED,
    }


def _parts(request: EncodeRequest) -> list[EncodeRequest]:
    return [take(request, slice(low, low + _BATCH)) for low in range(0, _USERS, _BATCH)]


def _score_request(part: EncodeRequest, cached: np.ndarray[Any, Any], rng: np.random.Generator) -> ScoreRequest:
    newest = int(part.length[0]) - 1
    return ScoreRequest(
        features=rng.normal(size=(len(part.user), WIDTH)).astype(np.float32),
        code=part.codes[:, newest].copy(),
        recent=part.codes[:, newest - RECENT : newest].copy(),
        profile=np.zeros((len(part.user), PROFILE_FIELDS), np.uint8),
        cached=cached,
        history_len=np.full(len(part.user), newest, np.int32),
    )


def _write_blend(folder: Path, model: PantherModel) -> None:
    """All heads that a blend may have, each with a part: boosting of ROUNDS trees that tell nothing."""
    wide, rng = len(model.head.mean) + model.config.user_dim, np.random.default_rng(0)
    for name, columns in ((BOOSTING, WIDTH), (BOOSTING_PANTHER, wide)):
        x, label = rng.normal(size=(10_000, columns)), rng.integers(0, 2, 10_000)
        booster = lightgbm.train(PARAMETERS | {"num_threads": 1}, lightgbm.Dataset(x, label), ROUNDS)
        (folder / artifact.BOOSTED[name]).write_text(booster.model_to_string())
    members = tuple(Member(name, 0.2, 1, 0) for name in (DCN, DCN_CONTEXT, BOOSTING, BOOSTING_PANTHER, RULES))
    soft = (0.0,) * WIDTH + (0.05,) * (wide - WIDTH)  # as a training sets them
    config = BlendConfig(members, (0.0, 1.0), (0.0, 1.0), soft)
    (folder / artifact.BLEND).write_bytes(msgspec.json.encode(config))


def _artifact(folder: Path, model: PantherModel, schema: AttributeSchema) -> artifact.Manifest:
    folder.mkdir(parents=True)
    model.context = ContextHead(model.config, WIDTH)
    _write_blend(folder, model)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, folder / artifact.WEIGHTS)
    tokeniser = model.panther.tokeniser
    vocabulary = Vocabulary(keys=tuple(tokeniser.keys[:-1].tolist()), radix=tokeniser.radix)
    none = np.zeros(0)
    manifest = artifact.Manifest(
        name="panther",
        version=1,
        created_at=0,
        config=model.config,
        context_length=model.config.length,
        cached_width=cached_width(model.config),
        feature_names=NAMES,
        typical_surprise=(0.0,) * len(SURPRISE),
        threshold=0.5,
        alert_budget=0.01,
        schema_fingerprint=schema.fingerprint,
        tokenizer_version="random",
        vocabulary_size=vocabulary.size,
        coverage=1.0,
        metrics={},
        data_window=(0, 0),
        seed=0,
        code_version="benchmark",
    )
    zero = np.zeros(WIDTH, np.float32)
    rules = RuleModel(zero, zero + 1, zero, 0.0)
    risk = MerchantRisk(none.astype(np.uint64), none.astype(np.uint8), none.astype(np.float32))
    return artifact.save(folder, manifest, schema, vocabulary, rules, risk)
