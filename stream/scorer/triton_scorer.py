"""Calls the models in Triton over gRPC, without torch: a tensor has the name of its field in
panther_core.decide.scoring.

What comes back is foreign: a broken model or another program at that address may answer anything. An answer of another
form than was asked for, and numbers that no model gives, count as no answer.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.reasons import KINDS
from panther_core.decide.scoring import (
    SURPRISE,
    EncodeResponse,
    ExplainResponse,
    R,
    Request,
    ScoreRequest,
    ScoreResponse,
    tensors,
)

# a restarted server is found within a second; gRPC's default back-off grows to two minutes
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]

# Dtype and columns of every output, by response class; () for one number a row. -1: as many as the states have.
_FORM: dict[type[Any], dict[str, tuple[type[np.generic], tuple[int, ...]]]] = {
    ScoreResponse: {"score": (np.float32, ()), "surprise": (np.float32, (len(SURPRISE),))},
    ExplainResponse: {
        "contribution": (np.float32, (len(KINDS),)),
        "base": (np.float32, ()),
        "logit": (np.float32, ()),
        "prototype": (np.uint16, (3,)),
        "similarity": (np.float32, (3,)),
    },
    EncodeResponse: {"cached": (np.float32, (-1,)), "expected": (np.uint64, (3,))},
}
_TOO_LARGE = 1e6  # no output of a model comes near; sums of a few numbers below it stay finite in float32


class TritonScorer:
    """Implements scoring.Scorer. After a lost connection calls fail at once, until one of them has connected anew."""

    def __init__(self, url: str, score_deadline_s: float = 0.5, encode_deadline_s: float = 5.0) -> None:
        """`url` is host:port. The first call connects; calls must come from one event loop."""
        self._url = url
        self._score_deadline_s, self._encode_deadline_s = score_deadline_s, encode_deadline_s
        self._client: InferenceServerClient | None = None
        self._width: int | None = None  # K: cached floats of the states that scores were asked for

    async def ask(self, request: Request[R], version: int) -> R:
        """Answer a request with model `version`.

        A score row that holds a number that no model gives has the score NaN, which the engine decides by rules. Such
        an explain row is all zeros, so that the decision keeps its own reasons and the rows beside it their
        explanations. An encoded row goes into a state, which has no place for "no answer" in one row: such an answer
        is refused as a whole.
        """
        deadline_s = self._score_deadline_s if request.urgent else self._encode_deadline_s
        if self._client is None:
            self._client = InferenceServerClient(self._url, channel_args=CHANNEL)
        if isinstance(request, ScoreRequest):
            self._width = request.cached.shape[1]
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
        rows = len(getattr(request, tensors(type(request))[0]))
        try:
            response = request.response(**_outputs(answer, request.response, rows, self._width))
            return cast(R, _plausible(response))
        except ValueError as error:
            raise ScorerUnavailable(
                f"expected of {request.model} version {version} at {self._url} an answer of {rows} rows, {error}: "
                "is the model of this release loaded there?"
            ) from None

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()
            self._client = None


def _outputs(answer: Any, kind: type[Any], rows: int, width: int | None) -> dict[str, NDArray[Any]]:
    """The outputs of a response class, by name. Raises ValueError for a missing one, another dtype or another shape."""
    out = {}
    for name, (dtype, columns) in _FORM[kind].items():
        try:
            got = answer.as_numpy(name)
        except Exception as error:  # the client's parser raises whatever the bytes lead it to
            raise ValueError(f"got an output {name!r} that cannot be read ({error!r})") from None
        shape = (rows, *(n if n >= 0 else width for n in columns))
        same = got is not None and got.ndim == len(shape)
        if not same or got.dtype != dtype or any(b not in (a, None) for a, b in zip(got.shape, shape, strict=True)):
            found = "no such output" if got is None else f"{got.dtype}{list(got.shape)}"
            raise ValueError(f"with {np.dtype(dtype)}{list(shape)} as {name!r}, got {found}")
        out[name] = got
    return out


def _plausible(response: Any) -> Any:
    """`response` without numbers that no model gives: see TritonScorer.ask. Raises ValueError."""
    rows = [_sane(getattr(response, name)) for name, (dtype, _) in _FORM[type(response)].items() if dtype == np.float32]
    well = np.logical_and.reduce(rows)
    if isinstance(response, ScoreResponse):
        well &= (response.score >= 0) & (response.score <= 1)
    if well.all():
        return response
    if isinstance(response, ScoreResponse):
        return dataclasses.replace(response, score=np.where(well, response.score, np.float32(np.nan)))
    if isinstance(response, ExplainResponse):
        bad = {name: getattr(response, name).copy() for name in tensors(ExplainResponse)}
        for values in bad.values():
            values[~well] = 0
        return ExplainResponse(**bad)
    raise ValueError(f"got numbers that are not finite, or beyond {_TOO_LARGE:g}, in {int((~well).sum())} of them")


def _sane(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[B] rows all of whose numbers are finite and of a size that a model gives; a comparison with NaN is false."""
    columns = np.abs(values).reshape(len(values), -1)
    within: NDArray[np.bool_] = np.all(columns < _TOO_LARGE, axis=1)
    return within
