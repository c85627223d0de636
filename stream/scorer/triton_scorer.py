"""Calls the models in Triton over gRPC, without torch: a tensor has the name of its field in
panther_core.decide.scoring."""

from __future__ import annotations

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.scoring import R, Request, tensors

# a restarted server is found within a second; gRPC's default back-off grows to two minutes
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


class TritonScorer:
    """Implements scoring.Scorer. After a lost connection calls fail at once, until one of them has connected anew."""

    def __init__(self, url: str, score_deadline_s: float = 0.5, encode_deadline_s: float = 5.0) -> None:
        """`url` is host:port. The first call connects; calls must come from one event loop."""
        self._url = url
        self._score_deadline_s, self._encode_deadline_s = score_deadline_s, encode_deadline_s
        self._client: InferenceServerClient | None = None

    async def ask(self, request: Request[R], version: int) -> R:
        """Answer a request with model `version`."""
        deadline_s = self._score_deadline_s if request.urgent else self._encode_deadline_s
        if self._client is None:
            self._client = InferenceServerClient(self._url, channel_args=CHANNEL)
        inputs = []
        for name in tensors(type(request)):
            tensor = np.ascontiguousarray(getattr(request, name))
            inputs.append(InferInput(name, tensor.shape, np_to_triton_dtype(tensor.dtype)))
            inputs[-1].set_data_from_numpy(tensor)
        try:
            answer = await self._client.infer(
                request.model, inputs, model_version=str(version), client_timeout=deadline_s
            )
        except (InferenceServerException, grpc.RpcError, OSError) as error:
            raise ScorerUnavailable(
                f"expected an answer of {request.model} version {version} at {self._url} within {deadline_s} s, "
                f"got {error}: is the server up, and this version loaded?"
            ) from None
        response: R = request.response(*(answer.as_numpy(name) for name in tensors(request.response)))
        return response

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()
            self._client = None
