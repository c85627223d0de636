"""What the engine asks of a model, and the interface every scorer implements: `ask(request, version)`.

A request's class says all that a caller needs to know of the model step behind it: the step's name, the class of its
response, and whether decisions wait for it. A request's fields are the step's inputs, a response's fields are its
outputs; the same arrays travel to Triton as tensors of the same names, so an in-process scorer and Triton are one
contract. Adding a step: one request class and one response class here, an adapter in triton_models, a method in
panther_core.model.serving.

Shapes: B rows of a micro-batch (unique users), L context length, F context features, A attributes, K cached floats,
G kinds of reasons (panther_core.decide.reasons.KINDS).
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

#: attributes whose surprise is reported, in the order of `ScoreResponse.surprise`
SURPRISE = ("amount", "channel", "category", "risk", "gap", "hour")
R = TypeVar("R")


@dataclass(frozen=True)
class ScoreResponse:
    """Calibrated fraud probability, and how surprising each attribute was."""

    score: NDArray[np.float32]  # [B] in 0..1
    surprise: NDArray[np.float32]  # [B, A] -log p of each attribute's code, nats
    # in process only: no caller of Triton reads these two, so they do not travel
    log_p: NDArray[np.float32] | None = None  # [B] log probability of the new behaviour
    z: NDArray[np.float32] | None = None  # [B] Delta of paper 4.1.3: (p - mu) / sigma


@dataclass(frozen=True)
class ExplainResponse:
    """Why each row has its score: contribution.sum(axis=1) + base == logit, to float rounding (1e-4)."""

    contribution: NDArray[np.float32]  # [B, G] additive terms of the calibrated logit, nats; negative = against fraud
    base: NDArray[np.float32]  # [B] logit of an average transaction of a user of whom nothing is known
    logit: NDArray[np.float32]  # [B] log(score / (1 - score))
    prototype: NDArray[np.uint16]  # [B, 3] number, from 1, of the behaviour patterns nearest to the user; 0 = none
    similarity: NDArray[np.float32]  # [B, 3] cosine between the user's state and what that pattern adds to a state


@dataclass(frozen=True)
class EncodeResponse:
    """Model outputs after the newest event."""

    cached: NDArray[np.float32]  # [B, K]
    expected: NDArray[np.uint64]  # [B, 3] CODEs (gap, hour, flags 0) of the likeliest next behaviours


class Request(Generic[R]):
    """A question to one step of a model version, answered by an R."""

    step: ClassVar[str]
    """Name of the step: Triton's model is `panther_` and this name, metrics and logs use it."""
    response: ClassVar[type[Any]]
    """R."""
    urgent: ClassVar[bool]
    """Whether decisions wait for the answer: which of a scorer's two deadlines holds."""

    @property
    def model(self) -> str:
        """Triton's name of the model."""
        return f"panther_{self.step}"


@dataclass(frozen=True)
class NewEvents:
    """B new events and what is known of their users: what both scoring and explaining take."""

    features: NDArray[np.float32]  # [B, F] context features of the new event
    code: NDArray[np.uint64]  # [B] CODE of the new event, viewed as uint64
    recent: NDArray[np.uint64]  # [B, RECENT] CODEs before it, oldest first, 0 = none
    profile: NDArray[np.uint8]  # [B, 8]
    cached: NDArray[np.float32]  # [B, K] outputs of `encode` after the event before, zeros for cold users
    history_len: NDArray[np.int32]  # [B] events known before this one; 0 = cold


class ScoreRequest(NewEvents, Request[ScoreResponse]):
    """Score new events against the cached outputs of their users."""

    step, response, urgent = "score", ScoreResponse, True


class ExplainRequest(NewEvents, Request[ExplainResponse]):
    """Explain the scores of these events; asked for alerts only."""

    step, response, urgent = "explain", ExplainResponse, True

    @classmethod
    def of(cls, scored: ScoreRequest, rows: Any = slice(None)) -> ExplainRequest:
        """For these rows (an index or a slice) of what was scored."""
        return cls(*(getattr(scored, name)[rows] for name in tensors(cls)))


@dataclass(frozen=True)
class EncodeRequest(Request[EncodeResponse]):
    """Encode B users' context windows."""

    step, response, urgent = "encode", EncodeResponse, False

    user: NDArray[np.uint64]  # [B] user hash: the server's cache key
    codes: NDArray[np.uint64]  # [B, L] CODEs of the window, oldest first, padded with 0 on the right
    length: NDArray[np.int32]  # [B] events in the window
    window_hash: NDArray[np.uint64]  # [B] hash over codes[:length] (panther_core.state.transition.hash_codes)
    profile: NDArray[np.uint8]  # [B, 8]


def tensors(kind: type[Any]) -> tuple[str, ...]:
    """Names of the arrays of a request or response class that travel: its fields without a default."""
    return tuple(field.name for field in fields(kind) if field.default is MISSING)


class Scorer(Protocol):
    """A model, somewhere."""

    async def ask(self, request: Request[R], version: int) -> R:
        """Answer a request with model `version`.

        Raises ScorerUnavailable when no answer came within the scorer's deadline. Calls may be repeated, and never
        change anything the caller can see. Row order of answers is row order of requests; rows do not influence each
        other beyond float rounding (1e-5).
        """
        ...
