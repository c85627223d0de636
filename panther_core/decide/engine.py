"""The decision engine: the order in which a batch of events goes through states and models.

`decide` is a generator that does no I/O: it yields what it needs and is sent the answer, so that the asynchronous
worker, the synchronous replay and the tests run the very same code:

    EncodeRequest  -> send an EncodeResponse, or None when no scorer answered in time
    ScoreRequest   -> send a ScoreResponse, or None
    ExplainRequest -> send an ExplainResponse, or None: for the alerts among the rows just scored
    Decided        -> publish these decisions; send None (alerts come after the others of their wave)

When it returns, `states` holds what is to be stored. The caller makes the decisions durable before it stores the
states: an event that a stored state has seen needs no further answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panther_core.data.decision import DECISION, Usual
from panther_core.data.schema import AttributeSchema
from panther_core.decide.decisions import LiveModel, deviations, give_reasons, make_decisions, recall, to_explain
from panther_core.decide.habits import usual_of
from panther_core.decide.known import HeldDecision, KnownEvents
from panther_core.decide.rows import concatenated
from panther_core.decide.scoring import (
    EncodeRequest,
    EncodeResponse,
    ExplainRequest,
    ExplainResponse,
    ScoreRequest,
    ScoreResponse,
)
from panther_core.state.features import against_usual, context_features
from panther_core.state.record import put_rows, take_rows
from panther_core.state.transition import (
    Events,
    States,
    append,
    code_array,
    complete,
    context,
    late_events,
    packed,
    recent,
)
from panther_core.state.waves import waves


@dataclass(frozen=True)
class Decided:
    """`decision[i]` (DECISION) is of event `event[i]` of the batch.

    `repeated`: they were made earlier and are published again as they were. `ratio[i]`: amount over what is usual for
    the payer; `deviation[i]`: how much more surprising than usual it was to the model, in nats (NaN where no model
    answered). Both are not of repeated ones, which are no payments of their own. `usual[i]`: of alerts, for the payer.
    """

    event: NDArray[np.intp]
    decision: NDArray[np.void]
    repeated: bool
    ratio: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    deviation: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    usual: Sequence[Usual | None] = ()


@dataclass(frozen=True)
class Prefetch:
    """A hint, which may be ignored: the request after the next one will be this one. Sent now, both come sooner."""

    request: EncodeRequest


Answer = ScoreResponse | ExplainResponse | EncodeResponse | None
Need = ScoreRequest | ExplainRequest | EncodeRequest | Decided | Prefetch
Steps = Generator[Need, Answer, None]


def decide(
    states: States,
    rows: NDArray[np.intp],
    events: Events,
    schema: AttributeSchema,
    model: LiveModel,
    clock: Callable[[], int],
    received_ms: NDArray[np.int64],
    held: Mapping[int, HeldDecision] = MappingProxyType({}),
    together: bool = False,
) -> Steps:
    """Decide and apply a batch; `rows[i]` is the row in `states` (changed in place) of event i's user.

    `clock` gives epoch ms; `received_ms[i]` is when event i reached the platform, for the latency. `held[i]` is what
    was decided when event i's user last used its transaction id. `together`: the events of one user are scored in one
    call, all but the first on model outputs that have not seen the ones before (`degraded` cached); else each waits for
    the outputs after the one before it.
    """
    parts = waves(rows)
    known = KnownEvents.of(states, rows, events, held, one_each=len(parts) < 2)
    if known.repeated:
        yield Decided(np.array([*known.repeated], np.intp), np.array([*known.repeated.values()], DECISION), True)
    parts = [left for wave in parts if len(left := wave[known.new[wave]])]
    made: dict[int, np.void] = {}
    for rounds in [parts] if together and parts else [[wave] for wave in parts]:
        wave, decision = yield from _decide_rounds(
            states, rows, rounds, events, schema, model, clock, received_ms, known
        )
        if known.copied:
            made |= zip(wave.tolist(), decision, strict=True)
    for copy, original in known.copied.items():
        yield Decided(np.array([copy]), np.array([made[original]], DECISION), repeated=True)


@dataclass(frozen=True)
class _Round:
    """Events of distinct users, with what their states said before they were applied."""

    wave: NDArray[np.intp]
    at: NDArray[np.intp]  # rows of their users
    events: Events  # completed
    features: NDArray[np.float32]
    request: ScoreRequest
    usable: NDArray[np.bool_]  # the outputs are of the live version, or there is no history
    current: NDArray[np.bool_]  # the outputs have seen every event
    history_len: NDArray[np.int64]
    late: NDArray[np.bool_]
    expected: NDArray[np.void]

    @classmethod
    def of(
        cls, states: States, at: NDArray[np.intp], wave: NDArray[np.intp], events: Events, schema: AttributeSchema,
        version: int,
    ) -> _Round:  # fmt: skip
        """Look at the states before these events; nothing is changed."""
        own = take_rows(states, at)
        completed = complete(own, events[wave], schema)
        features = context_features(own, completed)
        return cls(
            wave,
            at,
            completed,
            features,
            _score_request(own, completed, features),
            usable=(own["n"] == 0) | (own["model_version"] == version),
            current=own["cached_n"] == own["n"],
            history_len=own["n"].copy(),
            late=late_events(own, completed),
            expected=own["expected"],
        )

    def apply(self, states: States) -> None:
        """Append the events to their users' states, in place."""
        own = take_rows(states, self.at)
        append(own, self.events)
        put_rows(states, self.at, own)


def _decide_rounds(
    states: States,
    rows: NDArray[np.intp],
    waves: list[NDArray[np.intp]],
    events: Events,
    schema: AttributeSchema,
    model: LiveModel,
    clock: Callable[[], int],
    received_ms: NDArray[np.int64],
    known: KnownEvents,
) -> Generator[Need, Answer, tuple[NDArray[np.intp], NDArray[np.void]]]:
    """Decide waves of events in one call of the scorer; returns the events, and their DECISION rows."""
    wave = waves[0] if len(waves) == 1 else np.concatenate(waves)
    users, first = (rows[wave], np.arange(len(wave))) if len(waves) == 1 else np.unique(rows[wave], return_index=True)
    user = events["user"][wave[first]]
    part = take_rows(states, users)
    # users whose outputs are of another model version, or miss events since an encoder outage, are encoded first
    behind = (part["n"] > 0) & ((part["model_version"] != model.version) | (part["cached_n"] != part["n"]))
    if behind.any():
        yield from _encode(part, np.flatnonzero(behind), user, model.version)

    rounds: list[_Round] = []
    for one in waves:
        if rounds:
            rounds[-1].apply(part)  # the next events are decided on a state that has seen these
        at = np.arange(len(one)) if len(waves) == 1 else np.searchsorted(users, rows[one])
        rounds.append(_Round.of(part, at, one, events, schema, model.version))
    whole = _joined(rounds)
    scored: ScoreResponse | None = None
    if whole.usable.any():
        answer = yield whole.request
        assert answer is None or isinstance(answer, ScoreResponse)
        scored = answer
    # a score that is no number comes from a broken model, and JSON cannot carry it: it counts as no answer
    live = whole.usable & np.isfinite(scored.score) if scored is not None else np.zeros(len(wave), np.bool_)
    decision = make_decisions(
        whole.events,
        whole.features,
        model,
        scored,
        live=live,
        current=whole.current,
        history_len=whole.history_len,
        late=whole.late,
        expected=whole.expected,
        reused=known.reused[wave],
    )
    given = {k: known.recalled[i] for k, i in enumerate(wave.tolist()) if i in known.recalled}
    received_ms = received_ms[wave]
    alerts, told = to_explain(decision), _Told(against_usual(whole.features), deviations(scored, model, live))
    others = np.setdiff1d(np.arange(len(wave)), alerts)
    if len(others):  # published at once: only alerts wait for their reasons
        yield _decided(wave, decision, others, clock, received_ms, given, told)
    rounds[-1].apply(part)
    encode = encode_request(part, user)
    if len(alerts):
        yield Prefetch(encode)
        why = yield ExplainRequest.of(whole.request, alerts)
        assert why is None or isinstance(why, ExplainResponse)
        give_reasons(decision, alerts, why)
        usual = usual_of(part[whole.at[alerts]], whole.history_len[alerts], schema)
        yield replace(_decided(wave, decision, alerts, clock, received_ms, given, told), usual=usual)
    _encoded(part, (yield encode), model.version)
    put_rows(states, users, part)
    return wave, decision


def _joined(rounds: list[_Round]) -> _Round:
    if len(rounds) == 1:
        return rounds[0]
    parts = {field.name: [getattr(one, field.name) for one in rounds] for field in fields(_Round)}
    return _Round(**parts | {n: np.concatenate(p) for n, p in parts.items() if n != "request"} | {
        "request": concatenated(parts["request"])
    })  # fmt: skip


class _Told(NamedTuple):
    """What merchants are told of payments [B] beside the payments themselves (Decided)."""

    ratio: NDArray[np.float32]
    deviation: NDArray[np.float32]


def _decided(
    wave: NDArray[np.intp],
    decision: NDArray[np.void],
    rows: NDArray[np.intp],
    clock: Callable[[], int],
    received_ms: NDArray[np.int64],
    given: Mapping[int, np.void],
    told: _Told,
) -> Decided:
    """Set the clock fields of these rows, and give decisions from before a crash again: these rows can be published."""
    now_ms = clock()
    decision["scored_at"][rows] = now_ms
    decision["latency_ms"][rows] = np.clip(now_ms - received_ms[rows], 0, 2**31 - 1)
    for k in given.keys() & set(rows.tolist()):
        recall(decision[k], given[k])
    return Decided(wave[rows], decision[rows], False, told.ratio[rows], told.deviation[rows])


def _score_request(states: States, events: Events, features: NDArray[np.float32]) -> ScoreRequest:
    return ScoreRequest(
        features=features,
        code=packed(events["code"]),
        recent=recent(states),
        profile=np.ascontiguousarray(events["profile"]),
        # copied: a single row of a record array counts as contiguous, but has strides that torch refuses
        cached=states["cached"].copy(),
        history_len=states["n"].astype(np.int32),
    )


def encode_request(states: States, user: NDArray[np.uint64]) -> EncodeRequest:
    """The request that encodes these users as their states stand; `user` are their hashes [B]."""
    codes, length = context(states)
    return EncodeRequest(user, codes, length, states["window_hash"].copy(), states["profile"].copy())


def _encode(states: States, at: NDArray[np.intp], user: NDArray[np.uint64], version: int) -> Steps:
    part = take_rows(states, at)
    _encoded(part, (yield encode_request(part, user[at])), version)
    put_rows(states, at, part)


def _encoded(states: States, answer: Answer, version: int) -> None:
    if answer is None:
        return  # `cached_n` stays behind `n`, so the next event of the user asks the encoder again
    assert isinstance(answer, EncodeResponse)
    if answer.cached.shape == states["cached"].shape:  # a scorer knows the width from its first score on
        take_outputs(states, answer, version)


def take_outputs(states: States, answer: EncodeResponse, version: int) -> None:
    """Keep the outputs of model `version` in the states, in place; the outputs have seen every event so far."""
    states["cached"], states["expected"] = answer.cached, code_array(answer.expected)
    states["cached_n"], states["model_version"] = states["n"], version
