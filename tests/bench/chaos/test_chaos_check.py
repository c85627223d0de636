"""The chaos checker on honest books, made by the engine itself, and on books that were doctored: each must be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord

from bench.chaos.check import check
from bench.chaos.evidence import ChaosEvidence, Records
from bench.chaos.inputs import EPOCH, Cut
from bench.chaos.offline_run import InputRecord, run_offline
from bench.chaos.traffic import with_labels
from panther_core.data.decision import ALERT, Decision
from panther_core.data.events import Label
from panther_core.data.merchant_events import MerchantEvent
from panther_core.data.table import TransactionTable
from panther_core.data.topics import ALERTS, DEAD_LETTERS, LABELS, SCORES, TRANSACTIONS
from panther_core.decide.engine import decide
from panther_core.decide.known import HeldDecision
from panther_core.decide.records import alert_of, decisions_of, to_json
from panther_core.kafka.answers import headers_of
from panther_core.model.serving import PantherModel
from panther_core.serving_model import ServingModel, load_serving_model
from stream.merchants.history import take_in
from stream.worker.intake import read_batch
from stream.worker.label_reader import _told
from stream.worker.merchant_log import payment_events
from stream.worker.paid import key_of, paid_pairs, read_paid
from tests.steps import asking, decided

Books = tuple[ChaosEvidence, ServingModel, PantherModel]
_BATCH = 64
_SAID = {"label": 0, "label_time": 0, "source": "s"}


def kafka_record(offset: int, key: bytes | None, value: bytes, headers: Any = (), topic: str = "topic") -> Any:
    return ConsumerRecord(topic, 0, offset, 1_750_000_000_000, 0, key, value, None, 0, 0, headers)


@pytest.fixture(scope="module")
def books(log: TransactionTable, artifact_folder: Path) -> Books:
    """What a worker without any trouble would leave behind."""
    sent = [*with_labels(log.take(slice(0, 1500)), seed=1)]
    inputs = [(key, value) for topic, key, value in sent if topic == TRANSACTIONS]
    labels = [(key, value) for topic, key, value in sent if topic == LABELS]
    return books_of(*([kafka_record(i, *r) for i, r in enumerate(part)] for part in (inputs, labels)), artifact_folder)


def books_of(inputs: Records, labels: Records, artifact_folder: Path) -> Books:
    """What a worker leaves behind that decides these inputs, and what merchants are told; offsets as in
    bench.chaos.inputs."""
    serving, model = load_serving_model(artifact_folder), PantherModel.load(artifact_folder)
    scores = run_offline(inputs, serving, model, {}, []).replayed.decision["score"]
    floor = replace(serving.live, threshold=float(np.quantile(scores, 0.7)))  # many alerts
    serving = replace(serving, live=floor)
    intake = read_batch(
        [InputRecord(r.key, r.value, r.offset, 0, 1.75e9) for r in inputs], serving.schema, serving.risk
    )
    users, rows = np.unique(intake.events["user"], return_inverse=True)
    states, decisions, alerts = serving.codec.fresh(len(users)), list[Any](), list[Any]()
    epochs = np.array([record.offset // EPOCH for record in intake.records])
    cuts: list[Cut] = []
    told: list[MerchantEvent] = []
    kept: dict[tuple[int, int], HeldDecision] = {}
    for part in _batches(epochs):
        if epochs[part.start] > len(cuts):
            dead = sum(letter.record.offset < EPOCH for letter in intake.dead)
            cuts.append({(SCORES, 0): len(decisions), (ALERTS, 0): len(alerts), (DEAD_LETTERS, 0): dead})
        events = intake.events[part]
        held = {i: kept[name] for i, name in enumerate(map(_name, events)) if name in kept}
        received_ms = intake.received_ms[part]
        steps = decide(states, rows[part], events, serving.schema, serving.live, lambda: 7, received_ms, held)
        for need in decided(steps, asking(model)):
            if not need.repeated:
                new = part.start + need.event
                paid = [intake.transactions[i] for i in new.tolist()]
                records = [intake.records[i] for i in new.tolist()]
                told += payment_events(paid, intake.events[new], records, need.ratio, need.deviation)
            for i, row in zip((part.start + need.event).tolist(), need.decision, strict=True):
                transaction, at = intake.transactions[i], intake.records[i].offset % EPOCH
                kept.setdefault(_name(intake.events[i]), HeldDecision(row, int(intake.events["offset"][i]), same=True))
                (decision,) = decisions_of(
                    np.array([row]),
                    [transaction.transaction_id],
                    [transaction.user_id],
                    [int(intake.events["time_ms"][i])],
                )
                headers = headers_of("app", 0, at)
                decisions.append(kafka_record(len(decisions), b"", to_json(decision), headers, SCORES))
                if row["flags"] & ALERT:
                    content = int(intake.events["content"][i])
                    alert = alert_of(row, decision, transaction, serving.schema, serving.tokenizer_version, content)
                    alerts.append(kafka_record(len(alerts), b"", to_json(alert), headers, ALERTS))
    dead_letters = [
        kafka_record(i, d.record.key, d.record.value or b"", _dead_headers(d), DEAD_LETTERS)
        for i, d in enumerate(intake.dead)
    ]
    names = {int(e["user"]): t.user_id.encode() for e, t in zip(intake.events, intake.transactions, strict=True)}
    states["last_offset"] %= EPOCH
    values = serving.codec.encode(states)
    stored = {names[int(user)]: value for user, value in zip(users, values, strict=True)}
    changelog = [kafka_record(i, key, value) for i, (key, value) in enumerate(stored.items())]
    evidence = ChaosEvidence(inputs, decisions, alerts, dead_letters, changelog, [stored], cuts=tuple(cuts))
    merchants = merchants_told([*told, *label_events(told, labels, intake)])
    of_merchants = [kafka_record(i, key, value) for i, (key, value) in enumerate(merchants.items())]
    evidence = replace(evidence, labels=labels, merchants=of_merchants, merchant_stores=[merchants])
    return evidence, serving, model


def label_events(told: list[MerchantEvent], labels: Records, intake: Any) -> list[MerchantEvent]:
    """What a worker that has kept these payments tells of the labels."""
    user = {transaction.transaction_id: transaction.user_id for transaction in intake.transactions}
    paid = {}
    for event in told:
        one = np.array([event.event_time])
        key = key_of(Label(transaction_id=event.transaction_id, user_id=user[event.transaction_id], **_SAID))
        ((_, value),) = paid_pairs([key], [event.merchant_id], one, one, np.array([event.ratio], np.float32))
        paid[key] = read_paid(value)
    out = []
    for record in labels:
        label = msgspec.json.decode(record.value or b"", type=Label)
        if key_of(label) in paid and (event := _told(paid[key_of(label)], label, record)) is not None:
            out.append(event)
    return out


def merchants_told(events: list[MerchantEvent]) -> dict[bytes, bytes]:
    """Merchants' states after these events, by name."""
    store: dict[bytes, bytes] = {}
    store.update(take_in([*enumerate(events)], lambda keys: [store.get(key) for key in keys]).stored)
    return {key: value for key, value in store.items() if b"\0" not in key}


def _name(event: Any) -> tuple[int, int]:
    """What a copy has in common with its original; no id stands for two payments here."""
    return int(event["user"]), int(event["transaction"])


def _batches(epochs: Any) -> Iterator[slice]:
    """Micro-batches of the rows; none holds rows of two epochs."""
    for epoch in np.unique(epochs):
        first, last = np.flatnonzero(epochs == epoch)[[0, -1]]
        for low in range(first, last + 1, _BATCH):
            yield slice(low, min(low + _BATCH, last + 1))


def _dead_headers(dead: Any) -> list[tuple[str, bytes]]:
    return [("code", dead.code.encode()), ("source", f"transactions:0:{dead.record.offset % EPOCH}".encode())]


def test_honest_books_are_in_order(books: Books) -> None:
    verdict = check(*books)
    assert verdict["ok"], verdict["wrong"]
    assert verdict["alerts"] > 10
    assert verdict["dead_letters"] > 5
    assert verdict["late"]
    assert verdict["valid"] > verdict["distinct"]
    assert verdict["merchants"] > 10
    assert verdict["labels"] > 300


def changed(record: Any, **changes: Any) -> Any:
    """A decision's record that says something else."""
    decision = msgspec.structs.replace(msgspec.json.decode(record.value, type=Decision), **changes)
    return kafka_record(10**6, b"", to_json(decision), record.headers)


def with_state(books: Books, change: Callable[[Any], None]) -> ChaosEvidence:
    evidence, serving, _ = books
    states = serving.codec.decode([record.value for record in evidence.changelog])
    change(states)
    values = serving.codec.encode(states)
    records: Records = [kafka_record(r.offset, r.key, v) for r, v in zip(evidence.changelog, values, strict=True)]
    return replace(evidence, changelog=records, stores=[{r.key: r.value for r in records if r.key and r.value}])


def one_event_more(states: Any) -> None:
    states["n"][3] += 1


def another_amount(states: Any) -> None:
    states["amount_mean"][3] += 1e-6


def other_outputs(states: Any) -> None:
    states["cached"][3] += 0.01


@pytest.mark.parametrize(
    ("doctored", "kind"),
    [
        (lambda e: replace(e, decisions=e.decisions[1:]), "lost"),
        (lambda e: replace(e, decisions=[*e.decisions, changed(e.decisions[5], score=0.5)]), "contradicted"),
        (lambda e: replace(e, decisions=[*e.decisions, changed(e.decisions[5], degraded="rules")]), "contradicted"),
        (lambda e: replace(e, decisions=[changed(e.decisions[0], history_len=9), *e.decisions[1:]]), "wrong_history"),
        (lambda e: replace(e, decisions=[changed(e.decisions[0], score=0.7), *e.decisions[1:]]), "wrong_score"),
        (lambda e: replace(e, alerts=e.alerts[1:]), "decision_without_alert"),
        (lambda e: replace(e, alerts=[*e.alerts, *_moved(e)]), "alert_without_decision"),
        (lambda e: replace(e, dead=e.dead[1:]), "dead_letter_missing"),
        (lambda e: replace(e, dead=[kafka_record(0, b"", b"x", e.dead[0].headers), *e.dead[1:]]), "dead_letter_wrong"),
        (lambda e: replace(e, changelog=e.changelog[1:]), "state_missing"),
        (lambda e: replace(e, stores=[{}]), "store_unlike_changelog"),
        (lambda e: replace(e, merchants=e.merchants[1:]), "merchant_missing"),
        (lambda e: replace(e, merchants=[*e.merchants[:-1], _renamed(e.merchants[-1])]), "merchant_of_nobody"),
        (lambda e: replace(e, labels=e.labels[:-1]), "merchant"),
        (lambda e: replace(e, merchant_stores=[{}]), "store_unlike_changelog"),
    ],
)
def test_doctored_books_are_found_out(
    books: Books, doctored: Callable[[ChaosEvidence], ChaosEvidence], kind: str
) -> None:
    evidence, serving, model = books
    assert check(doctored(evidence), serving, model)["wrong"][kind] > 0


def _renamed(record: Any) -> Any:
    return kafka_record(record.offset, b"nobody", record.value)


def _moved(evidence: ChaosEvidence) -> list[Any]:
    """An alert of a transaction whose decision raised none."""
    quiet = next(r for r in evidence.decisions if not msgspec.json.decode(r.value, type=Decision).alert)
    return [kafka_record(10**6, b"", evidence.alerts[0].value, quiet.headers)]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (one_event_more, "state"),
        (another_amount, "state"),
        (other_outputs, "cached_outputs"),
    ],
)
def test_a_state_that_differs_is_found_out(books: Books, change: Callable[[Any], None], kind: str) -> None:
    assert check(with_state(books, change), *books[1:])["wrong"][kind] > 0


def test_a_repeat_may_differ_in_the_clock_alone(books: Books) -> None:
    evidence, serving, model = books
    again = changed(evidence.decisions[5], scored_at=99, latency_ms=1)
    verdict = check(replace(evidence, decisions=[*evidence.decisions, again]), serving, model)
    assert verdict["ok"]
    assert verdict["not_identical"] == 1
