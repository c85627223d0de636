"""What a batch does to merchants: each event counts once, whatever part of an earlier try was stored."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from panther_core.base.errors import InvalidEvent
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.events import MAX_TIME_MS
from panther_core.data.merchant_events import (
    MerchantAlert,
    MerchantEvent,
    ReportedPayment,
    Source,
    decode_merchant_event,
)
from panther_core.data.schema import hash64
from panther_core.decide.merchant_alert import merchant_alert
from panther_core.decide.records import to_json
from panther_core.entities.merchant_history import PAYMENT, MerchantHistory
from panther_core.entities.merchants import MERCHANT, advance, decode_merchants
from stream.merchants.history import take_in
from stream.merchants.sources import is_old

_T0 = 1_600_000_000_000
THRESHOLD = -3.0  # log odds of an episode; here many merchants are alerts


def events(count: int, seed: int = 0) -> list[MerchantEvent]:
    """Payments at few merchants over 90 days, a third of them labelled later, some labels corrected."""
    rng, out = np.random.default_rng(seed), []
    for i in range(count):
        paid = _T0 + int(rng.integers(0, 90 * DAY_MS))
        payment = {
            "merchant_id": f"m{rng.integers(0, 7)}",
            "transaction_id": f"t{i}",
            "event_time": paid,
            "ratio": float(rng.gamma(2, 1)),
        }
        out.append(MerchantEvent(**payment, source=Source(i % 3, i)))  # type: ignore[arg-type]
        if rng.random() < 0.3:
            told = {"label": int(rng.integers(0, 2)), "label_time": paid + int(rng.integers(0, 40 * DAY_MS))}
            out.append(MerchantEvent(**payment, **told, source=Source(i % 3, 3 * i)))  # type: ignore[arg-type]
            if rng.random() < 0.5:
                other = told | {"label": 1 - told["label"], "label_before": told["label"]}
                out.append(MerchantEvent(**payment, **other, source=Source(i % 3, 3 * i + 1)))  # type: ignore[arg-type]
    return out


class Log:
    """Events in the order in which workers wrote them, and a store that a batch's outcome is written to."""

    def __init__(self, written: list[MerchantEvent]) -> None:
        self.events = list(enumerate(written))
        self.store: dict[bytes, bytes] = {}
        self.alerts: set[bytes] = set()

    def take(self, begin: int, end: int, stored: int | None = None) -> int:
        """Take in events, and store the first `stored` values of the outcome (all, if not given)."""
        outcome = take_in(
            self.events[begin:end], lambda keys: [self.store.get(key) for key in keys], threshold=THRESHOLD
        )
        self.alerts |= {to_json(alert) for alert in outcome.alerts}
        self.store.update(outcome.stored[:stored])
        return outcome.repeated

    def states(self, day: int) -> NDArray[np.void]:
        states = decode_merchants(value for key, value in sorted(self.store.items()) if key[:1] == b"m")
        advance(states, day)
        return states


def same(one: NDArray[np.void], other: NDArray[np.void], without: tuple[str, ...] = ()) -> bool:
    return all(bool((one[n] == other[n]).all()) for n in MERCHANT.names or () if n not in without)


@pytest.fixture(scope="module")
def written() -> list[MerchantEvent]:
    return sorted(events(600), key=lambda event: event.time_ms)


@pytest.fixture(scope="module")
def plain(written: list[MerchantEvent]) -> Log:
    log = Log(written)
    log.take(0, len(written))
    return log


_LAST_DAY = _T0 // DAY_MS + 130


def test_the_order_does_not_matter(written: list[MerchantEvent], plain: Log) -> None:
    rng = np.random.default_rng(1)
    shuffled = Log([written[i] for i in rng.permutation(len(written))])
    for begin in range(0, len(written), 50):
        shuffled.take(begin, begin + 50)
    assert same(shuffled.states(_LAST_DAY), plain.states(_LAST_DAY), ("last_offset", "alerted"))


def test_alerts_do_not_depend_on_how_events_come_in_batches(written: list[MerchantEvent], plain: Log) -> None:
    assert len(plain.alerts) > 5
    log = Log(written)
    for begin in range(0, len(written), 37):
        log.take(begin, begin + 37)
        log.take(begin + 20, begin + 37)  # a part of it comes again
    assert log.alerts == plain.alerts


def test_what_workers_write_again_counts_once(written: list[MerchantEvent], plain: Log) -> None:
    log = Log(written + written[100:400] + written[50:70])
    assert sum(log.take(begin, begin + 97) for begin in range(0, len(log.events), 97)) == 320
    assert same(log.states(_LAST_DAY), plain.states(_LAST_DAY))


@pytest.mark.parametrize("seed", range(12))
def test_a_batch_that_was_stored_in_part_counts_once(seed: int, written: list[MerchantEvent], plain: Log) -> None:
    """As a crash leaves it: the changelog holds the first values of a batch, and the batch comes again, cut otherwise,
    with events in it that a worker wrote twice."""
    rng = np.random.default_rng(seed)
    log = Log(written[:300] + written[250:300] + written[300:])
    begin = 0
    while begin < len(log.events):
        end = begin + int(rng.integers(1, 120))
        if rng.random() < 0.6:
            log.take(begin, end, stored=int(rng.integers(0, 12)))
            end = begin + int(rng.integers(1, 120))
        log.take(begin, end)
        begin = end
    assert same(log.states(_LAST_DAY), plain.states(_LAST_DAY), ("last_offset",))
    assert log.alerts == plain.alerts
    assert len(plain.alerts) > 5
    assert int(log.states(_LAST_DAY)["n"].sum()) == len(written)


def test_a_correction_takes_back_what_was_known() -> None:
    one = next(e for e in events(50) if e.label == 1)
    honest = MerchantEvent(**{name: getattr(one, name) for name in one.__struct_fields__} | {"label": 0})
    corrected = MerchantEvent(
        **{name: getattr(one, name) for name in one.__struct_fields__}
        | {"label": 0, "label_before": 1, "source": Source(0, 999)}
    )
    twice, once = Log([one, corrected]), Log([honest])
    twice.take(0, 2)
    once.take(0, 1)
    day = one.time_ms // DAY_MS
    counts = ("n", "last_offset", "told", "told_frauds", "alerted")  # a correction is an arrival too
    assert same(twice.states(day), once.states(day), counts)


def test_a_record_says_from_which_hour_on_it_holds() -> None:
    event = events(1)[0]
    (record,) = take_in([(0, event)], lambda keys: [None] * len(keys)).risk
    assert record.as_of == (event.event_time // HOUR_MS + 1) * HOUR_MS
    assert record.features["count_1d"] == 1


def test_buckets_of_sources_are_forgotten_by_the_day_on_which_events_were_written() -> None:
    """Whenever they happened: a past that is played back has old events, and a worker writes them again today."""
    day = 30_000
    stored = dict(take_in([*enumerate(events(3)[:50])], lambda keys: [None] * len(keys), now_ms=day * DAY_MS).stored)
    buckets = {key: value for key, value in stored.items() if key.startswith(b"\0seen")}
    assert buckets
    assert not any(is_old(*pair, day) for pair in stored.items())
    assert [pair for pair in stored.items() if is_old(*pair, day + 1)] == [*buckets.items()]


def test_a_late_event_replaces_the_midnight_record_and_a_clock_ahead_moves_no_hour() -> None:
    event = events(1)[0]
    day = event.event_time // DAY_MS
    (late,) = take_in([(0, event)], lambda keys: [None] * len(keys), turned=day + 1).risk
    assert late.as_of == (day + 1) * DAY_MS
    assert late.features["count_7d"] == 1
    written_ms = event.event_time - 20 * HOUR_MS
    (ahead,) = take_in([(0, event)], lambda keys: [None] * len(keys), now_ms=written_ms).risk
    assert ahead.as_of == (written_ms // HOUR_MS + 1) * HOUR_MS


def test_a_replay_raises_the_same_alerts() -> None:
    """Payments in time order, each with one label: the agent, however its batches are cut, and the rule of the full
    hour that replay and training go by."""
    rng, payments = np.random.default_rng(5), []
    for i in range(900):
        bad = i % 9 < 2 and 200 < i < 600  # two merchants are compromised for a while
        paid = _T0 + i * 3 * HOUR_MS // 2 + int(rng.integers(0, HOUR_MS))
        label = int(rng.random() < (0.6 if bad else 0.03))
        payments.append((f"m{i % 9}", f"t{i}", paid, float(rng.gamma(2, 1)), label, paid + 5 * DAY_MS))
    rows = np.zeros(len(payments), PAYMENT)
    for i, (merchant, _, paid, ratio, label, told) in enumerate(payments):
        rows[i] = (hash64(merchant), i + 1, paid, paid, ratio, label, told)
    history = MerchantHistory(THRESHOLD)
    history.seen(rows)
    end = payments[-1][2] // HOUR_MS
    looks = history.take_looks()
    merchants = {hash64(f"m{i}"): f"m{i}" for i in range(9)}
    of = {i + 1: ReportedPayment(t, paid, told) for i, (_, t, paid, _, _, told) in enumerate(payments)}
    want = {
        to_json(
            merchant_alert(
                merchants[int(look["merchant"])],
                int(look["hour"]),
                look["seller"],
                THRESHOLD,
                [of[number] for number in look["payments"].tolist() if number],
            )
        )
        for look in looks[looks["alert"]]
    }
    assert len(want) > 5

    happened = []
    for i, (merchant, transaction, paid, ratio, label, told) in enumerate(payments):
        facts = {"merchant_id": merchant, "transaction_id": transaction, "event_time": paid, "ratio": ratio}
        happened.append(MerchantEvent(**facts, source=Source(0, i)))  # type: ignore[arg-type]
        happened.append(MerchantEvent(**facts, label=label, label_time=told, source=Source(1, i)))  # type: ignore[arg-type]
    log = Log(sorted((e for e in happened if e.time_ms // HOUR_MS <= end), key=lambda event: event.time_ms))
    for begin in range(0, len(log.events), 83):
        log.take(begin, begin + 83)
    assert log.alerts == want


def test_a_label_that_comes_late_counts_in_the_present_hour() -> None:
    start = _T0 // HOUR_MS + 1
    payments = [
        MerchantEvent(merchant_id=name, transaction_id="t", event_time=_T0, ratio=1, source=Source(0, i))
        for i, name in enumerate("abc")
    ]

    def told(event: MerchantEvent, at: int, hour: int) -> MerchantEvent:
        facts = {name: getattr(event, name) for name in event.__struct_fields__}
        return MerchantEvent(**facts | {"label": 1, "label_time": hour * HOUR_MS, "source": Source(9, at)})

    log = Log([*payments, told(payments[0], 0, start + 50), told(payments[1], 1, start + 20)])
    log.take(0, len(log.events))
    assert not log.alerts, "no later hour has come"
    log.events.append((len(log.events), told(payments[2], 2, start + 51)))
    log.take(len(log.events) - 1, len(log.events))
    alerts = [msgspec.json.decode(alert, type=MerchantAlert) for alert in log.alerts]
    assert {alert.as_of for alert in alerts} == {(start + 51) * HOUR_MS}
    assert {alert.merchant_id for alert in alerts} == {"a", "b"}


def test_only_what_has_changed_is_stored() -> None:
    told = [e for e in events(400) if e.label == 1]
    log = Log(sorted(told, key=lambda event: event.time_ms))
    log.take(0, len(log.events))
    (other,) = events(1, seed=9)
    fresh = MerchantEvent(**{n: getattr(other, n) for n in other.__struct_fields__} | {"merchant_id": "another"})
    outcome = take_in([(len(log.events), fresh)], lambda keys: [log.store.get(key) for key in keys])
    assert {key for key, _ in outcome.stored if not key.startswith(b"\0seen")} == {b"another"}


@pytest.mark.parametrize("name", ["\0look", "\0reportedm", "a\nb"])
def test_no_merchant_is_named_like_a_key_of_the_program(name: str) -> None:
    (event,) = events(1)
    odd = MerchantEvent(**{n: getattr(event, n) for n in event.__struct_fields__} | {"merchant_id": name})
    with pytest.raises(InvalidEvent, match="control characters"):
        decode_merchant_event(name.encode(), msgspec.json.encode(odd), MAX_TIME_MS)
