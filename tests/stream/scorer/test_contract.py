"""The contract of scoring.Scorer, over every implementation: the models in process, and behind a real Triton."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from panther_core.artifact import MANIFEST, load_manifest
from panther_core.base.errors import ScorerUnavailable
from panther_core.data.schema import CODE
from panther_core.decide.reasons import KINDS
from panther_core.decide.rows import take
from panther_core.decide.scoring import (
    EncodeRequest,
    EncodeResponse,
    ExplainRequest,
    ExplainResponse,
    Scorer,
    ScoreRequest,
    ScoreResponse,
    tensors,
)
from panther_core.model.serving import PantherModel
from panther_core.state.features import WIDTH
from panther_core.state.transition import hash_codes
from stream.scorer.triton_scorer import TritonScorer
from tests.in_process import InProcessScorer
from trainer.rollout.deploy import export, load, unload


@dataclass
class Subject:
    """One implementation, serving versions 1 and 2, and the same model in process to compare with."""

    make: Callable[[], Scorer]
    model: PantherModel

    def run(self, call: Callable[[Scorer], Coroutine[Any, Any, Any]]) -> Any:
        async def go() -> Any:
            scorer = self.make()
            try:
                return await call(scorer)
            finally:
                if isinstance(scorer, TritonScorer):
                    await scorer.close()

        return asyncio.run(go())


@pytest.fixture(scope="module", params=["in_process", "triton"])
def subject(request: pytest.FixtureRequest, artifact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = PantherModel.load(artifact_folder)
    if request.param == "in_process":
        scorer = InProcessScorer({1: model, 2: model})
        yield Subject(lambda: scorer, model)
        return
    triton = request.getfixturevalue("triton")
    if triton.model_repository is None:
        pytest.skip("TRITON_URL names a server whose model repository is not ours")
    second = tmp_path_factory.mktemp("second") / "2"
    second.mkdir()
    for file in artifact_folder.iterdir():
        (second / file.name).write_bytes(file.read_bytes())
    manifest = msgspec.structs.replace(load_manifest(artifact_folder), version=2)
    (second / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    for folder in (artifact_folder, second):
        export(folder, triton.model_repository)
        load(triton.grpc_url, load_manifest(folder), triton.headers)
    yield Subject(lambda: TritonScorer(triton.grpc_url, 5, 20), model)
    for version in (1, 2):
        unload(triton.grpc_url, triton.model_repository, version, triton.headers)


def encode_request(model: PantherModel, rows: int, seed: int = 0) -> EncodeRequest:
    rng = np.random.default_rng(seed)
    size = model.config.length
    length = rng.integers(1, size, rows).astype(np.int32)
    codes = np.zeros((rows, size), CODE)
    for name, top in (("amount", 5), ("channel", 3), ("category", 4), ("risk", 3), ("gap", 5), ("hour", 168)):
        codes[name] = rng.integers(1, top, codes.shape)
    packed = np.where(np.arange(size) < length[:, None], codes.view(np.uint64), np.uint64(0))
    profile = rng.integers(0, 3, (rows, 8)).astype(np.uint8)
    user = rng.integers(0, 2**64, rows, dtype=np.uint64)
    return EncodeRequest(user, packed, length, hash_codes(packed, length, profile), profile)


def score_request(model: PantherModel, rows: int, seed: int = 0) -> ScoreRequest:
    rng = np.random.default_rng(seed)
    windows = encode_request(model, rows, seed)
    encoded = model.encode(windows.codes, windows.length, windows.profile)
    return ScoreRequest(
        features=rng.normal(size=(rows, WIDTH)).astype(np.float32),
        code=windows.codes[:, 0].copy(),
        recent=np.ascontiguousarray(windows.codes[:, :3]),
        profile=windows.profile,
        cached=encoded.cached,
        history_len=np.where(np.arange(rows) % 5 == 0, 0, windows.length).astype(np.int32),
    )


def assert_same(got: Any, want: Any) -> None:
    for name in tensors(type(want)):
        a, b = getattr(got, name), getattr(want, name)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_encode_gives_the_model_s_outputs_in_row_order(subject: Subject, rows: int) -> None:
    request = encode_request(subject.model, rows)
    answer = subject.run(lambda s: s.ask(request, 1))
    assert isinstance(answer, EncodeResponse)
    assert_same(answer, subject.model.encode(request.codes, request.length, request.profile))


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_score_gives_the_model_s_answers_in_row_order(subject: Subject, rows: int) -> None:
    request = score_request(subject.model, rows)
    answer = subject.run(lambda s: s.ask(request, 1))
    assert isinstance(answer, ScoreResponse)
    assert answer.surprise.shape == (rows, 6)
    assert_same(answer, subject.model.score(request))


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_explain_adds_up_to_the_score_it_explains(subject: Subject, rows: int) -> None:
    request = score_request(subject.model, rows)
    answer = subject.run(lambda s: s.ask(ExplainRequest.of(request), 1))
    assert isinstance(answer, ExplainResponse)
    assert answer.contribution.shape == (rows, len(KINDS))
    assert_same(answer, subject.model.explain(request))
    np.testing.assert_allclose(answer.contribution.sum(axis=1) + answer.base, answer.logit, atol=1e-4)
    score = subject.run(lambda s: s.ask(request, 1)).score
    np.testing.assert_allclose(1 / (1 + np.exp(-answer.logit)), score, atol=1e-5)


def test_rows_do_not_influence_each_other(subject: Subject) -> None:
    request = score_request(subject.model, 9)
    part = take(request, slice(4, 6))
    whole, alone = subject.run(lambda s: s.ask(request, 1)), subject.run(lambda s: s.ask(part, 1))
    np.testing.assert_allclose(whole.score[4:6], alone.score, atol=1e-5)
    whole, alone = (
        subject.run(lambda s: s.ask(ExplainRequest.of(request), 1)),
        subject.run(lambda s: s.ask(ExplainRequest.of(part), 1)),
    )
    np.testing.assert_allclose(whole.contribution[4:6], alone.contribution, atol=1e-5)


def test_calls_may_overlap_and_be_repeated(subject: Subject) -> None:
    requests = [score_request(subject.model, 5, seed) for seed in range(6)]

    async def calls(scorer: Scorer) -> list[ScoreResponse]:
        return await asyncio.gather(*(scorer.ask(r, 1) for r in requests * 2))

    answers = subject.run(calls)
    for answer, request in zip(answers, requests * 2, strict=True):
        assert_same(answer, subject.model.score(request))


def test_versions_are_served_beside_each_other(subject: Subject) -> None:
    request = score_request(subject.model, 3)
    for version in (1, 2):
        assert_same(subject.run(lambda s, v=version: s.ask(request, v)), subject.model.score(request))
        assert_same(
            subject.run(lambda s, v=version: s.ask(ExplainRequest.of(request), v)),
            subject.model.explain(request),
        )


def test_a_version_that_is_not_served_is_unavailable(subject: Subject) -> None:
    with pytest.raises(ScorerUnavailable, match="99"):
        subject.run(lambda s: s.ask(score_request(subject.model, 1), 99))
    with pytest.raises(ScorerUnavailable, match="99"):
        subject.run(lambda s: s.ask(ExplainRequest.of(score_request(subject.model, 1)), 99))
    with pytest.raises(ScorerUnavailable, match="99"):
        subject.run(lambda s: s.ask(encode_request(subject.model, 1), 99))
