"""The decision engine: the order in which a batch of events goes through states and models.

`decide` is a generator that does no I/O: it yields what it needs and is sent the answer, so that the asynchronous
worker, the synchronous replay and the tests run the very same code:

    EncodeRequest  -> send an EncodeResponse, or None when no scorer answered in time
    ScoreRequest   -> send a ScoreResponse, or None
    ExplainRequest -> send an ExplainResponse, or None: for the alerts among the rows just scored
    Decided        -> publish these decisions; send None (alerts come after the others of their wave)

When it returns, `states` holds what is to be stored. The caller makes the decisions durable before it stores the
states: a stored state answers a redelivery with the decision it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from panther_core.data.schema import AttributeSchema
from panther_core.decide.decisions import LiveModel, give_reasons, make_decisions, recall, to_explain
from panther_core.decide.scoring import (
    EncodeRequest,
    EncodeResponse,
    ExplainRequest,
    ExplainResponse,
    ScoreRequest,
    ScoreResponse,
)
from panther_core.state.features import context_features
from panther_core.state.record import DECISIONS, put_rows, take_rows
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

    `repeated`: they were made earlier and are published again as they were.
    """

    event: NDArray[np.intp]
    decision: NDArray[np.void]
    repeated: bool


@dataclass(frozen=True)
class Prefetch:
    """A hint: the request after the next one will be this one.

    An asynchronous caller may send it now, and has both answers sooner. A caller may ignore the hint.
    """

    request: EncodeRequest


Answer = ScoreResponse | ExplainResponse | EncodeResponse | None
Steps = Generator[ScoreRequest | ExplainRequest | EncodeRequest | Decided | Prefetch, Answer, None]


def decide(
    states: States,
    rows: NDArray[np.intp],
    events: Events,
    schema: AttributeSchema,
    model: LiveModel,
    clock: Callable[[], int],
    received_ms: NDArray[np.int64],
    published: Mapping[int, np.void] = MappingProxyType({}),
) -> Steps:
    """Decide and apply a batch; `rows[i]` is the row in `states` (changed in place) of event i's user.

    `clock` gives epoch ms; `received_ms[i]` is when event i reached the platform, for the latency. `published[i]` is
    the decision (DECISION) that event i was given before a crash: event i gets that decision again.
    """
    for wave in waves(rows):
        repeat, found = _seen(states, rows[wave], events[wave])
        if found.any():
            known = wave[found]
            yield Decided(known, _stored(take_rows(states, rows[known]), events[known]), repeated=True)
        wave = wave[~repeat]
        if len(wave):
            at = rows[wave]
            part = take_rows(states, at)
            given = {k: published[i] for k, i in enumerate(wave.tolist()) if i in published}
            yield from _decide_wave(part, wave, events[wave], schema, model, clock, received_ms[wave], given)
            put_rows(states, at, part)


def _seen(states: States, at: NDArray[np.intp], events: Events) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks: events that need no decision of their own, and those of them whose stored decision is published again.

    An event that was applied at its offset needs no answer, because decisions are durable before states. (Its decision
    could not be found here either: the same transaction may have come again at a later offset and have been given
    another decision.) A transaction that comes again at a new offset gets the decision that is held for its id.
    """
    applied = events["offset"] <= states["last_offset"][at]
    held = states["decisions"]["transaction"][at]
    again = (held == events["transaction"][:, None]).any(axis=1) & (states["n_decisions"][at] > 0) & ~applied
    return applied | again, again


def _stored(states: States, events: Events) -> NDArray[np.void]:
    place = np.argmax(states["decisions"]["transaction"] == events["transaction"][:, None], axis=1)
    stored: NDArray[np.void] = states["decisions"][np.arange(len(states)), place]
    return stored


def _decide_wave(
    states: States,
    wave: NDArray[np.intp],
    events: Events,
    schema: AttributeSchema,
    model: LiveModel,
    clock: Callable[[], int],
    received_ms: NDArray[np.int64],
    published: Mapping[int, np.void],
) -> Steps:
    known = states["n"] > 0
    # users whose outputs are of another model version, or miss events since an encoder outage, are encoded first
    behind = known & ((states["model_version"] != model.version) | (states["cached_n"] != states["n"]))
    if behind.any():
        yield from _encode(states, np.flatnonzero(behind), events["user"], model.version)

    events = complete(states, events, schema)
    features = context_features(states, events)
    usable = ~known | (states["model_version"] == model.version)
    request = _score_request(states, events, features)
    scored: ScoreResponse | None = None
    if usable.any():
        answer = yield request
        assert answer is None or isinstance(answer, ScoreResponse)
        scored = answer
    decision = make_decisions(
        events,
        features,
        model,
        scored,
        # a score that is no number comes from a broken model, and JSON cannot carry it: it counts as no answer
        live=usable & np.isfinite(scored.score) if scored is not None else np.zeros(len(wave), np.bool_),
        current=states["cached_n"] == states["n"],
        history_len=states["n"],
        late=late_events(states, events),
        expected=states["expected"],
    )
    alerts = to_explain(decision)
    others = np.setdiff1d(np.arange(len(wave)), alerts)
    if len(others):  # published at once: only alerts wait for their reasons
        yield _decided(wave, decision, others, clock, received_ms, published)
    append(states, events)
    encode = encode_request(states, events["user"])
    if len(alerts):
        yield Prefetch(encode)
        why = yield ExplainRequest.of(request, alerts)
        assert why is None or isinstance(why, ExplainResponse)
        give_reasons(decision, alerts, why)
        yield _decided(wave, decision, alerts, clock, received_ms, published)

    slot = states["n_decisions"] % DECISIONS
    states["decisions"][np.arange(len(states)), slot] = decision
    states["n_decisions"] += 1
    _encoded(states, (yield encode), model.version)


def _decided(
    wave: NDArray[np.intp],
    decision: NDArray[np.void],
    rows: NDArray[np.intp],
    clock: Callable[[], int],
    received_ms: NDArray[np.int64],
    published: Mapping[int, np.void],
) -> Decided:
    """Set the clock fields of these rows, and give decisions from before a crash again: these rows can be published."""
    now_ms = clock()
    decision["scored_at"][rows] = now_ms
    decision["latency_ms"][rows] = np.clip(now_ms - received_ms[rows], 0, 2**31 - 1)
    for k in published.keys() & set(rows.tolist()):
        recall(decision[k], published[k])
    return Decided(wave[rows], decision[rows], repeated=False)


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
    take_outputs(states, answer, version)


def take_outputs(states: States, answer: EncodeResponse, version: int) -> None:
    """Keep the outputs of model `version` in the states, in place; the outputs have seen every event so far."""
    states["cached"], states["expected"] = answer.cached, code_array(answer.expected)
    states["cached_n"], states["model_version"] = states["n"], version
