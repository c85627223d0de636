"""What the engine asks of a model, and the interface every scorer implements.

Shapes: B rows of a micro-batch (unique users), L context length, F context features, A attributes, K cached floats,
G kinds of reasons (panther_core.decide.reasons.KINDS).
The same arrays travel to Triton as tensors of the same names, so an in-process scorer and Triton are one contract.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

#: attributes whose surprise is reported, in the order of `ScoreResponse.surprise`
SURPRISE = ("amount", "channel", "category", "risk", "gap", "hour")


@dataclass(frozen=True)
class ScoreRequest:
    """Score B new events against the cached outputs of their users."""

    features: NDArray[np.float32]  # [B, F] context features of the new event
    code: NDArray[np.uint64]  # [B] CODE of the new event, viewed as uint64
    recent: NDArray[np.uint64]  # [B, RECENT] CODEs before it, oldest first, 0 = none
    profile: NDArray[np.uint8]  # [B, 8]
    cached: NDArray[np.float32]  # [B, K] outputs of `encode` after the event before, zeros for cold users
    history_len: NDArray[np.int32]  # [B] events known before this one; 0 = cold

    def take(self, rows: NDArray[np.intp]) -> ScoreRequest:
        """Some of the rows."""
        return ScoreRequest(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class ScoreResponse:
    """Calibrated fraud probability, and how surprising each attribute was."""

    score: NDArray[np.float32]  # [B] in 0..1
    log_p: NDArray[np.float32]  # [B] log probability of the new behaviour
    z: NDArray[np.float32]  # [B] Delta of paper 4.1.3: (p - mu) / sigma
    surprise: NDArray[np.float32]  # [B, A] -log p of each attribute's code, nats


@dataclass(frozen=True)
class ExplainRequest:
    """Explain the scores of rows that were asked before; on the wire it is their ScoreRequest."""

    scored: ScoreRequest


@dataclass(frozen=True)
class ExplainResponse:
    """Why each row has its score: contribution.sum(axis=1) + base == logit, to float rounding (1e-4)."""

    contribution: NDArray[np.float32]  # [B, G] additive terms of the calibrated logit, nats; negative = against fraud
    base: NDArray[np.float32]  # [B] logit of an average transaction of a user of whom nothing is known
    logit: NDArray[np.float32]  # [B] log(score / (1 - score))
    prototype: NDArray[np.uint16]  # [B, 3] number, from 1, of the behaviour patterns nearest to the user; 0 = none
    similarity: NDArray[np.float32]  # [B, 3] cosine between the user's state and what that pattern adds to a state


@dataclass(frozen=True)
class EncodeRequest:
    """Encode B users' context windows."""

    user: NDArray[np.uint64]  # [B] user hash: the server's cache key
    codes: NDArray[np.uint64]  # [B, L] CODEs of the window, oldest first, padded with 0 on the right
    length: NDArray[np.int32]  # [B] events in the window
    window_hash: NDArray[np.uint64]  # [B] hash over codes[:length] (panther_core.decide.engine.hash_codes)
    profile: NDArray[np.uint8]  # [B, 8]


@dataclass(frozen=True)
class EncodeResponse:
    """Model outputs after the newest event."""

    cached: NDArray[np.float32]  # [B, K]
    expected: NDArray[np.uint64]  # [B, 3] CODEs (gap, hour, flags 0) of the likeliest next behaviours


class Scorer(Protocol):
    """A model, somewhere.

    All calls raise ScorerUnavailable when no answer came within the scorer's deadline; they may be retried, and
    never change anything the caller can see. Row order of answers is row order of requests; rows do not influence
    each other beyond float rounding (1e-5).
    """

    async def score(self, request: ScoreRequest, version: int) -> ScoreResponse:
        """Score new events with model `version`."""
        ...

    async def explain(self, request: ScoreRequest, version: int) -> ExplainResponse:
        """Why `score` answers this request as it does; for alerts only, within the deadline of `score`."""
        ...

    async def encode(self, request: EncodeRequest, version: int) -> EncodeResponse:
        """Encode context windows with model `version`."""
        ...
