"""Whatever Triton answers: a row is the model's, or counts as unanswered; nothing else comes out of the scorer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

from infra.local.triton import TritonPorts, TritonServer
from panther_core.base.errors import ScorerUnavailable
from panther_core.data.schema import CODE
from panther_core.decide.reasons import KINDS, expected_of
from panther_core.decide.scoring import EncodeRequest, ExplainRequest, Request
from panther_core.serving_model import load_serving_model
from stream.scorer.triton_control import TritonControl
from stream.scorer.triton_scorer import TritonScorer
from tests import ROOT
from tests.stream.scorer.test_triton_scorer import request as score_request

ROWS, WIDTH = 3, 8  # WIDTH: K of `score_request`
NAN = np.float32(np.nan)


def encode_request() -> EncodeRequest:
    codes = np.ones((ROWS, 4), np.uint64)
    one = np.ones(ROWS, np.uint64)
    return EncodeRequest(one, codes, np.ones(ROWS, np.int32), one, np.zeros((ROWS, 8), np.uint8))


REQUESTS: dict[str, Request[Any]] = {
    "score": score_request(ROWS),
    "explain": ExplainRequest.of(score_request(ROWS)),
    "encode": encode_request(),
}


def right(step: str) -> dict[str, np.ndarray]:
    """An answer as a model gives it."""
    half, reasons = np.full(ROWS, 0.5, np.float32), np.ones((ROWS, len(KINDS)), np.float32)
    return {
        "score": {"score": half, "surprise": np.ones((ROWS, 6), np.float32)},
        "explain": {
            "contribution": reasons,
            "base": half,
            "logit": half,
            "prototype": np.ones((ROWS, 3), np.uint16),
            "similarity": np.ones((ROWS, 3), np.float32),
        },
        "encode": {"cached": np.ones((ROWS, WIDTH), np.float32), "expected": np.ones((ROWS, 3), np.uint64)},
    }[step]


class Liar(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers every inference of a model with the reply that is set for it."""

    def __init__(self) -> None:
        self.replies: dict[str, service_pb2.ModelInferResponse] = {}

    def ModelInfer(self, request: Any, context: Any) -> service_pb2.ModelInferResponse:
        return self.replies[request.model_name]


def reply_of(outputs: dict[str, np.ndarray]) -> service_pb2.ModelInferResponse:
    """As Triton puts arrays on the wire."""
    reply = service_pb2.ModelInferResponse(model_name="m", model_version="1")
    for name, values in outputs.items():
        reply.outputs.add(name=name, datatype=np_to_triton_dtype(values.dtype), shape=values.shape)
        reply.raw_output_contents.append(values.tobytes())
    return reply


@pytest.fixture(scope="module")
def liar() -> Iterator[tuple[Liar, str]]:
    server, servicer = grpc.server(ThreadPoolExecutor(1)), Liar()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(0)


def ask(url: str, *requests: Request[Any], version: int = 1) -> Any:
    """The answer to the last of these requests."""

    async def go() -> Any:
        scorer = TritonScorer(url, 5, 5)
        try:
            for request in requests:
                answer = await scorer.ask(request, version)
            return answer
        finally:
            await scorer.close()

    return asyncio.run(go())


def told(liar: tuple[Liar, str], step: str, reply: service_pb2.ModelInferResponse) -> Any:
    """What the scorer makes of a reply."""
    liar[0].replies[f"panther_{step}"] = reply
    return ask(liar[1], REQUESTS[step])


@pytest.mark.parametrize("step", REQUESTS)
def test_an_answer_of_another_form_is_no_answer(liar: tuple[Liar, str], step: str) -> None:
    good = right(step)
    told(liar, step, reply_of(good))
    for name, values in good.items():
        place = [*good].index(name)
        for bad in (
            values[:-1],  # a row too few
            np.concatenate([values, values]),
            values.reshape(*values.shape, 1),
            values.astype(np.float64),
            values.astype(np.int64),
            np.zeros((0, *values.shape[1:]), values.dtype),
        ):
            with pytest.raises(ScorerUnavailable, match=f"panther_{step}.*{name}"):
                told(liar, step, reply_of(good | {name: bad}))
        if values.ndim == 2 and name != "cached":
            with pytest.raises(ScorerUnavailable, match=name):
                told(liar, step, reply_of(good | {name: np.tile(values, 2)}))
        with pytest.raises(ScorerUnavailable, match=name):  # it lacks one output
            told(liar, step, reply_of({n: v for n, v in good.items() if n != name}))
        for cut in (0, 1, -1):  # the bytes are not those of the shape
            reply = reply_of(good)
            reply.raw_output_contents[place] = reply.raw_output_contents[place][:cut]
            with pytest.raises(ScorerUnavailable, match=name):
                told(liar, step, reply)
        for datatype in ("NONSENSE", "BYTES", "BF16"):
            reply = reply_of(good)
            reply.outputs[place].datatype = datatype
            with pytest.raises(ScorerUnavailable, match=name):
                told(liar, step, reply)
    with pytest.raises(ScorerUnavailable):
        told(liar, step, service_pb2.ModelInferResponse())


def test_the_width_of_outputs_is_that_of_the_states(liar: tuple[Liar, str]) -> None:
    wide = right("encode") | {"cached": np.ones((ROWS, WIDTH + 1), np.float32)}
    liar[0].replies = {"panther_score": reply_of(right("score")), "panther_encode": reply_of(wide)}
    with pytest.raises(ScorerUnavailable, match="cached"):
        ask(liar[1], REQUESTS["score"], REQUESTS["encode"])


@pytest.mark.parametrize("bad", [NAN, np.float32(np.inf), np.float32(-np.inf), np.float32(3e38)])
def test_a_number_that_no_model_gives_costs_its_row_alone(liar: tuple[Liar, str], bad: np.float32) -> None:
    for name, values in right("score").items():
        values = values.copy()
        values[1] = bad
        score = told(liar, "score", reply_of(right("score") | {name: values})).score
        assert np.isfinite(score).tolist() == [True, False, True], name
    for name, values in right("explain").items():
        if values.dtype == np.float32:
            values = values.copy()
            values[1] = bad
            got = told(liar, "explain", reply_of(right("explain") | {name: values}))
            assert all(np.isfinite(getattr(got, n)).all() for n in right("explain"))
            assert got.contribution.any(axis=1).tolist() == [True, False, True], name
            assert got.prototype.any(axis=1).tolist() == [True, False, True], name
    cached = right("encode")["cached"].copy()
    cached[1, 3] = bad
    with pytest.raises(ScorerUnavailable, match=r"in 1 of them"):
        told(liar, "encode", reply_of(right("encode") | {"cached": cached}))


class Babbler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every call with the same bytes."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply

    def service(self, _: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.reply)


@pytest.mark.parametrize("reply", [b"", b"\xff\xff\xff\xff", b"\x0a\x03abc", b"HTTP/1.1 200 OK"])
def test_bytes_that_are_no_message_are_no_answer(reply: bytes) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((Babbler(reply),))
    url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    async def go() -> None:
        control = TritonControl(url)
        assert await control.canary(5) == "the canary answered other bytes than it was sent"
        assert await control.states("panther_score") == {}
        await control.close()

    try:
        for request in REQUESTS.values():
            with pytest.raises(ScorerUnavailable):
                ask(url, request)
        asyncio.run(go())
    finally:
        server.stop(0)


@pytest.mark.parametrize("score", [-0.01, 1.01])
def test_a_score_beyond_0_and_1_is_no_score(liar: tuple[Liar, str], score: float) -> None:
    values = np.array([0.5, score, 0.5], np.float32)
    got = told(liar, "score", reply_of(right("score") | {"score": values})).score
    assert np.isnan(got).tolist() == [False, True, False]


def test_behaviours_that_the_schema_does_not_know_are_left_out(artifact_folder: Path) -> None:
    schema = load_serving_model(artifact_folder).schema
    codes = np.zeros(3, CODE)
    codes["amount"], codes["category"], codes["channel"] = [1, 255, 1], [1, 1, 255], [255, 1, 1]
    assert [(e.category, e.channel) for e in expected_of(codes, schema)] == [
        (schema.categories[0], "unknown"),
        ("unknown", schema.channels[0]),
    ]


_MODEL = """
import numpy as np, torch, triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        out = []
        for request in requests:
            mode = int(torch.utils.dlpack.from_dlpack(
                pb_utils.get_input_tensor_by_name(request, "history_len").to_dlpack())[0])
            rows = 3
            score, surprise = torch.full((rows,), 0.5), torch.ones(rows, 6)
            if mode == 1: score[1] = float("nan")
            if mode == 2: score = score[:2].clone()
            if mode == 3: surprise = surprise[:, :5].contiguous()
            tensors = [pb_utils.Tensor.from_dlpack("score", score), pb_utils.Tensor.from_dlpack("surprise", surprise)]
            if mode == 4: tensors.pop()
            if mode == 5: tensors[0] = pb_utils.Tensor("score", np.full(rows, 0.5, np.float32))
            if mode == 6: tensors[0] = pb_utils.Tensor.from_dlpack("score", torch.zeros(rows, dtype=torch.float64))
            out.append(pb_utils.InferenceResponse(tensors))
        return out
"""


def test_a_real_server_whose_model_answers_badly(tmp_path: Path) -> None:
    home = tmp_path / "models" / "panther_score"
    (home / "1").mkdir(parents=True)
    (home / "config.pbtxt").write_bytes((ROOT / "triton_models/panther_score/config.pbtxt").read_bytes())
    (home / "1" / "model.py").write_text(_MODEL)
    with TritonServer(tmp_path / "models", tmp_path, TritonPorts.free()) as server:

        def score(mode: int) -> Any:
            request = score_request(ROWS)
            request.history_len[0] = mode
            return ask(server.grpc_url, request).score

        assert score(0).tolist() == [0.5, 0.5, 0.5]
        assert np.isnan(score(1)).tolist() == [False, True, False]
        for mode in (2, 3, 4, 5, 6):
            with pytest.raises(ScorerUnavailable):
                score(mode)
