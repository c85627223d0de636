"""A small stream with troubles, and a scorer that is a pure function of what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.schema import AttributeSchema, fit_schema
from panther_core.data.table import TransactionTable
from panther_core.decide.decisions import LiveModel
from panther_core.decide.engine import Answer, decide
from panther_core.decide.known import HeldDecision
from panther_core.decide.reasons import KINDS
from panther_core.decide.rules import RuleModel
from panther_core.decide.scoring import (
    SURPRISE,
    EncodeRequest,
    EncodeResponse,
    ExplainRequest,
    ExplainResponse,
    Request,
    ScoreRequest,
    ScoreResponse,
)
from panther_core.state.features import WIDTH
from panther_core.state.record import StateCodec
from tests.steps import decided

LENGTH, CACHED = 8, 4
RULES = RuleModel(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32), np.full(WIDTH, 0.1, np.float32), bias=-2.0)
MODEL = LiveModel(1, 0.6, RULES, np.zeros(len(SURPRISE), np.float32))


def encode(request: EncodeRequest) -> EncodeResponse:
    """Outputs that depend on every code of the window, on its order and on the profile."""
    weight = np.arange(1, request.codes.shape[1] + 1, dtype=np.uint64)
    inside = np.arange(request.codes.shape[1]) < request.length[:, None]
    mixed = (np.where(inside, request.codes, 0) * weight).sum(axis=1, dtype=np.uint64) + request.profile.sum(axis=1)
    cached = np.stack([(mixed >> np.uint64(8 * i)) % np.uint64(251) for i in range(CACHED)], axis=1) / 251
    return EncodeResponse(cached.astype(np.float32), request.codes[:, :3].copy())


def score(request: ScoreRequest) -> ScoreResponse:
    """A probability that depends on the cached outputs, the new code, the recent ones and the features."""
    mix = request.cached.sum(axis=1) + (request.code % 97 + request.recent.sum(axis=1) % 89).astype(np.float32) / 97
    p = 1 / (1 + np.exp(-(mix - 2.5 + np.tanh(request.features[:, 0]))))
    return ScoreResponse(p.astype(np.float32), np.ones((len(p), len(SURPRISE)), np.float32))


def explain(request: ExplainRequest) -> ExplainResponse:
    """Terms that depend on the new code alone, some of them negative, some equal."""
    shift = np.arange(len(KINDS), dtype=np.uint64)
    terms = ((request.code[:, None] >> shift) % np.uint64(7)).astype(np.float32) - 3
    rows = len(terms)
    nearest, cosine = np.tile(np.array([3, 1, 2], np.uint16), (rows, 1)), np.full((rows, 3), 0.5, np.float32)
    return ExplainResponse(terms, np.zeros(rows, np.float32), terms.sum(axis=1), nearest, cosine)


def answer_of(need: Request[Any]) -> Answer:
    """What the scorer answers."""
    if isinstance(need, ScoreRequest):
        return score(need)
    return explain(need) if isinstance(need, ExplainRequest) else encode(need)


class Stream:
    """Drives the engine over a table as a worker would, states by user in a dictionary."""

    def __init__(self, schema: AttributeSchema) -> None:
        self.schema, self.codec = schema, StateCodec(schema, LENGTH, CACHED)
        self.states: dict[int, bytes] = {}
        self.decisions: dict[int, np.void] = {}
        self.repeated: list[tuple[int, np.void]] = []
        self.requests: list[object] = []
        self.down: set[type] = set()

    def feed(
        self,
        events: NDArray[np.void],
        model: LiveModel = MODEL,
        held: Mapping[int, HeldDecision] = MappingProxyType({}),
        together: bool = False,
    ) -> None:
        """One micro-batch."""
        users, rows = np.unique(events["user"], return_inverse=True)
        states = self.codec.decode([self.states.get(int(u)) for u in users])
        steps = decide(states, rows, events, self.schema, model, lambda: 10**12, events["time_ms"], held, together)

        def ask(need: Request[Any]) -> Answer:
            self.requests.append(need)
            return None if type(need) in self.down else answer_of(need)

        for need in decided(steps, ask):
            for i, row in zip(need.event.tolist(), need.decision.copy(), strict=True):
                if need.repeated:
                    self.repeated.append((int(events["transaction"][i]), row))
                else:
                    assert int(events["transaction"][i]) not in self.decisions
                    self.decisions[int(events["transaction"][i])] = row
        for user, value in zip(users.tolist(), self.codec.encode(states), strict=True):
            self.states[user] = value

    def state(self, user: int) -> np.void:
        """The stored state of one user."""
        row: np.void = self.codec.decode([self.states[user]])[0]
        return row


@pytest.fixture(scope="session")
def table() -> TransactionTable:
    return generate(GeneratorConfig(users=30, days=25, merchants=40, seed=5))


@pytest.fixture(scope="session")
def schema(table: TransactionTable) -> AttributeSchema:
    return fit_schema(table.amount, table.category.words, table.channel.words)


@pytest.fixture
def stream(schema: AttributeSchema) -> Stream:
    return Stream(schema)
