"""The models behind Triton, over gRPC. No torch here: tensors travel under the field names of
panther_core.decide.scoring."""

from __future__ import annotations

import dataclasses
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.scoring import EncodeRequest, EncodeResponse, ExplainResponse, ScoreRequest, ScoreResponse

# gRPC's own back-off grows to two minutes: a restarted server must be found within a second
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


class TritonScorer:
    """Implements scoring.Scorer. A lost connection is made again by the next calls; calls in between fail at once."""

    def __init__(self, url: str, score_deadline_s: float = 0.5, encode_deadline_s: float = 5.0) -> None:
        """`url` is host:port. Nothing is connected yet; calls must come from one event loop."""
        self._url = url
        self._deadline_s = {
            "panther_score": score_deadline_s,
            "panther_explain": score_deadline_s,
            "panther_encode": encode_deadline_s,
        }
        self._client: InferenceServerClient | None = None

    async def score(self, request: ScoreRequest, version: int) -> ScoreResponse:
        """Score new events with model `version`."""
        return ScoreResponse(*await self._infer("panther_score", request, version, ScoreResponse))

    async def explain(self, request: ScoreRequest, version: int) -> ExplainResponse:
        """Why `score` answers this request as it does."""
        return ExplainResponse(*await self._infer("panther_explain", request, version, ExplainResponse))

    async def encode(self, request: EncodeRequest, version: int) -> EncodeResponse:
        """Encode context windows with model `version`."""
        return EncodeResponse(*await self._infer("panther_encode", request, version, EncodeResponse))

    async def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _infer(self, model: str, request: Any, version: int, response: type[Any]) -> list[Any]:
        deadline_s = self._deadline_s[model]
        if self._client is None:
            self._client = InferenceServerClient(self._url, channel_args=CHANNEL)
        inputs = []
        for field in dataclasses.fields(request):
            tensor = np.ascontiguousarray(getattr(request, field.name))
            inputs.append(InferInput(field.name, tensor.shape, np_to_triton_dtype(tensor.dtype)))
            inputs[-1].set_data_from_numpy(tensor)
        try:
            answer = await self._client.infer(model, inputs, model_version=str(version), client_timeout=deadline_s)
        except (InferenceServerException, grpc.RpcError, OSError) as error:
            raise ScorerUnavailable(
                f"expected an answer of {model} version {version} at {self._url} within {deadline_s} s, got {error}: "
                "is the server up, and this version loaded?"
            ) from None
        return [answer.as_numpy(field.name) for field in dataclasses.fields(response)]
