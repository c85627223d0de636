import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panther_core.data.decision import DECISION, LATE, REUSED, Degraded
from panther_core.data.schema import AttributeSchema
from panther_core.data.table import TransactionTable
from panther_core.decide.decisions import LiveModel
from panther_core.decide.known import HeldDecision
from panther_core.decide.scoring import EncodeRequest, ExplainRequest, ScoreRequest, ScoreResponse
from panther_core.state.history import prepare
from panther_core.state.transition import context, hash_codes
from panther_core.state.waves import waves
from tests.panther_core.conftest import LENGTH, MODEL, Stream, score

anything = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.lists(st.integers(0, 5), max_size=40))
def test_waves_have_unique_users_and_keep_each_users_order(users: list[int]) -> None:
    rows = np.array(users, np.intp)
    seen: dict[int, list[int]] = {}
    count = 0
    for wave in waves(rows):
        assert len(set(rows[wave].tolist())) == len(wave)
        count += len(wave)
        for i in wave.tolist():
            seen.setdefault(int(rows[i]), []).append(i)
    assert count == len(users)
    assert all(order == sorted(order) for order in seen.values())


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.randoms(use_true_random=False))
@anything
def test_any_split_into_batches_gives_the_same_decisions_and_states(
    table: TransactionTable, schema: AttributeSchema, sizes: list[int], rng: object
) -> None:
    events = table.events(schema, None)[:300]
    one, many = Stream(schema), Stream(schema)
    for i in range(len(events)):
        one.feed(events[i : i + 1])
    at, turn = 0, 0
    while at < len(events):
        size = sizes[turn % len(sizes)]
        many.feed(events[at : at + size])
        at, turn = at + size, turn + 1
    assert one.decisions.keys() == many.decisions.keys()
    for key, row in one.decisions.items():
        other = many.decisions[key]
        assert row["score"] == pytest.approx(other["score"], abs=1e-6)
        assert [row[n] for n in ("flags", "history_len", "degraded")] == [
            other[n] for n in ("flags", "history_len", "degraded")
        ]
    for user in one.states:
        a, b = one.state(user), many.state(user)
        for name in ("n", "ring", "window_hash", "merchants", "last_time_ms", "last_offset", "expected"):
            assert np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes(), name
        for name in ("counts", "sums", "amount_mean", "amount_var", "cached"):
            assert np.asarray(a[name]) == pytest.approx(np.asarray(b[name]), rel=1e-6), name


def test_redelivery_changes_nothing_and_needs_no_answer(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    """Decisions are durable before states: what a state has applied was answered."""
    events = table.events(schema, None)[:120]
    stream.feed(events)
    before = dict(stream.states)
    stream.feed(events[100:])  # the same offsets
    assert stream.states == before
    assert not stream.repeated


def test_a_redelivery_is_not_given_the_later_decision_of_its_transaction(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    """A transaction that comes again after more events than are held is decided anew, as another one."""
    events = table.events(schema, None)[:10].copy()
    events["user"] = events["user"][0]
    stream.feed(events)
    first = stream.decisions.pop(int(events["transaction"][0]))
    again = events[:1].copy()
    again["offset"] = len(events)
    stream.feed(again)
    assert stream.decisions[int(events["transaction"][0])].tobytes() != first.tobytes()
    stream.feed(events[:1])
    assert not stream.repeated


def test_a_duplicate_at_a_new_offset_is_found_by_its_transaction_id(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    events = table.events(schema, None)[:5].copy()
    twice = np.concatenate([events, events])
    twice["offset"] = np.arange(10)
    stream.feed(twice)
    assert len(stream.decisions) == len(stream.repeated) == 5
    for transaction, row in stream.repeated:
        assert row.tobytes() == stream.decisions[transaction].tobytes()
    assert sum(int(stream.state(u)["n"]) for u in stream.states) == 5


def test_window_hash_is_the_hash_of_the_window_whatever_happened(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    events = table.events(schema, None)[:600]
    events["profile"][300:, 0] = 1  # every position changes when the profile does
    for start in range(0, 600, 50):
        stream.feed(events[start : start + 50])
    lengths = set()
    for user in stream.states:
        state = stream.codec.decode([stream.states[user]])
        codes, length = context(state)
        lengths.add(int(length[0]))
        assert state["window_hash"] == hash_codes(codes, length, np.ascontiguousarray(state["profile"]))
    assert max(lengths) > LENGTH // 2


def test_late_events_are_scored_marked_and_appended_with_gap_zero(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    events = table.events(schema, None)[:2].copy()
    events["user"] = events["user"][0]
    events["time_ms"] = [2_000_000_000_000, 1_900_000_000_000]
    stream.feed(events)
    late = stream.decisions[int(events["transaction"][1])]
    assert late["flags"] & LATE
    state = stream.state(int(events["user"][0]))
    assert state["last_time_ms"] == 2_000_000_000_000
    assert state["ring"]["gap"][1] == 1


def test_degrade_ladder_and_catch_up(table: TransactionTable, schema: AttributeSchema, stream: Stream) -> None:
    events = table.events(schema, None)[:5].copy()
    events["user"] = 42
    stream.feed(events[:1])
    stream.down = {EncodeRequest}
    stream.feed(events[1:2])  # scored live, but the encoder is down afterwards
    stream.feed(events[2:3])  # outdated outputs
    stream.down = {EncodeRequest, ScoreRequest}
    stream.feed(events[3:4])
    stream.down = set()
    stream.feed(events[4:5])
    made = [int(stream.decisions[int(t)]["degraded"]) for t in events["transaction"]]
    assert made == [Degraded.LIVE, Degraded.LIVE, Degraded.CACHED, Degraded.RULES, Degraded.LIVE]
    assert [int(stream.decisions[int(t)]["model_version"]) for t in events["transaction"]] == [1, 1, 1, 0, 1]
    assert stream.state(42)["cached_n"] == 5


def test_a_score_that_is_no_number_is_no_answer(
    table: TransactionTable, schema: AttributeSchema, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: ScoreRequest) -> ScoreResponse:
        answer = score(request)
        return dataclasses.replace(answer, score=np.where(np.arange(len(answer.score)) % 2, np.nan, answer.score))

    monkeypatch.setattr("tests.panther_core.conftest.score", broken)
    events = table.events(schema, None)[:2].copy()
    events["user"] = 1, 2
    stream.feed(events)
    made = [stream.decisions[int(t)] for t in events["transaction"]]
    assert [int(row["degraded"]) for row in made] == [Degraded.LIVE, Degraded.RULES]
    assert np.isfinite([row["score"] for row in made]).all()


def test_a_new_version_never_scores_with_outputs_of_the_old_one(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    events = table.events(schema, None)[:3].copy()
    events["user"] = 42
    second = LiveModel(2, MODEL.threshold, MODEL.rules, MODEL.typical_surprise)
    stream.feed(events[:1])
    stream.requests.clear()
    stream.down = {EncodeRequest}
    stream.feed(events[1:2], second)  # cannot be moved: rules, rather than a mixture
    assert stream.decisions[int(events["transaction"][1])]["degraded"] == Degraded.RULES
    assert not any(isinstance(r, ScoreRequest) for r in stream.requests)
    stream.down = set()
    stream.requests.clear()
    stream.feed(events[2:3], second)
    asked = [type(r) for r in stream.requests if not isinstance(r, ExplainRequest)]
    assert asked == [EncodeRequest, ScoreRequest, EncodeRequest]
    assert stream.state(42)["model_version"] == 2


def test_history_equals_the_stream(table: TransactionTable, schema: AttributeSchema, stream: Stream) -> None:
    events = table.events(schema, None)[:500]
    events = np.concatenate([events, events[-3:]])  # with duplicates
    events["offset"] = np.arange(len(events))
    stream.feed(events)
    history = prepare(events, schema, LENGTH)
    assert history.kept.tolist() == [True] * 500 + [False] * 3
    for i in range(500):
        assert stream.decisions[int(events["transaction"][i])]["history_len"] == history.history_len[i]
    asked = {k: [] for k in ("code", "features")}
    for request in stream.requests:
        if isinstance(request, ScoreRequest):
            asked["code"] += request.code.tolist()
    assert sorted(asked["code"]) == sorted(history.code[history.kept].tolist())
    for u, user in enumerate(history.users.tolist()):
        for name in ("n", "ring", "window_hash", "counts", "merchants"):
            assert np.asarray(history.states[u][name]).tobytes() == np.asarray(stream.state(user)[name]).tobytes()


def test_what_is_held_answers_a_copy_a_half_done_record_and_an_id_used_again(
    table: TransactionTable, schema: AttributeSchema, stream: Stream
) -> None:
    events = table.events(schema, None)[:4].copy()
    events["offset"] = [10, 11, 12, 13]
    row = np.zeros(1, DECISION)[0]
    row["score"], row["model_version"] = 0.125, 7
    held = {
        0: HeldDecision(row, 10, same=True),  # published before the state was stored
        1: HeldDecision(row, 3, same=True),  # a copy of the record at offset 3
        2: HeldDecision(row, 3, same=False),  # another payment under the id
    }
    stream.feed(events, held=held)
    transaction = events["transaction"].tolist()
    assert stream.decisions[transaction[0]]["score"] == 0.125
    assert [t for t, _ in stream.repeated] == [transaction[1]]
    assert transaction[1] not in stream.decisions
    assert stream.decisions[transaction[2]]["flags"] & REUSED
    assert not stream.decisions[transaction[3]]["flags"] & REUSED
    assert sum(int(stream.state(u)["n"]) for u in stream.states) == 3


def test_events_decided_together_leave_the_states_that_events_one_by_one_leave(
    table: TransactionTable, schema: AttributeSchema
) -> None:
    events = table.events(schema, None)[:200].copy()
    events["user"][::3] = 42
    events["offset"] = np.arange(len(events))
    one, many = Stream(schema), Stream(schema)
    known = np.unique(events["user"], return_index=True)[1]
    later = np.setdiff1d(np.arange(len(events)), known)
    for stream in (one, many):
        stream.feed(events[known])  # a user without any model outputs is decided by rules
    one.feed(events[later])
    many.requests.clear()
    many.feed(events[later], together=True)
    assert sum(isinstance(request, ScoreRequest) for request in many.requests) == 1
    assert many.decisions.keys() == one.decisions.keys()
    for key, row in one.decisions.items():
        other = many.decisions[key]
        assert [row[n] for n in ("history_len", "transaction")] == [other[n] for n in ("history_len", "transaction")]
        first = row["history_len"] <= 1
        assert other["degraded"] == (Degraded.LIVE if first else Degraded.CACHED)
    for user in one.states:
        a, b = one.state(user), many.state(user)
        for name in ("n", "ring", "window_hash", "merchants", "last_time_ms", "last_offset", "expected", "cached_n"):
            assert np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes(), name
