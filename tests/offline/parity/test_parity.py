"""Parity finds nothing where nothing differs, and names whatever does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from offline.parity.compare import LogComparison, compare
from offline.parity.decided import ReplayedLog, decide_log
from offline.parity.inputs import Cause, first_cause
from offline.parity.log import StreamLog, from_table
from offline.replay import Replayer
from panther_core.base.times import DAY_MS
from panther_core.data.decision import Alert, Decision
from panther_core.data.events import Transaction
from panther_core.data.generator import PROFILE
from panther_core.data.table import TransactionTable
from panther_core.data.table_rows import as_arrived
from panther_core.kafka.answers import headers_of
from tests.offline.parity.streamed import APP, Published, Streamed, Version, load, stream
from trainer.fit.train_config import preset
from trainer.training import train

_EVENTS = 1200
_OUTAGE, _SWAP = 500, 700


@pytest.fixture(scope="module")
def folders(log: TransactionTable, artifact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions of one schema whose weights, thresholds and merchants' risks differ."""
    other = tmp_path_factory.mktemp("second") / "2"
    relabelled = replace(log, label=np.roll(log.label, 7))
    config = msgspec.structs.replace(preset("tiny"), epochs=0)
    train(
        relabelled,
        other,
        config=config,
        version=2,
        label_delay_ms=DAY_MS,
        seed=1,
        continue_from=artifact_folder,
        profile=PROFILE,
    )
    return [artifact_folder, other]


def replayers(folders: list[Path]) -> list[Replayer]:
    """Both versions, with thresholds that many events are above."""
    out = [load(folder) for folder in folders]
    for replayer, floor in zip(out, (0.02, 0.01), strict=True):
        replayer.serving = replace(replayer.serving, live=replace(replayer.serving.live, threshold=floor))
    risk = out[1].serving.risk  # a swap that changes merchants' levels is the harder case
    out[1].serving = replace(out[1].serving, risk=replace(risk, levels=risk.levels % 4 + 1))
    return out


def troubled(log: TransactionTable) -> list[Transaction]:
    """Late events, redeliveries near and far, a profile that changes."""
    rows = np.arange(_EVENTS)
    rows[50:60] = rows[50:60][::-1]
    rows = np.insert(rows, [200, 900, 901], [195, 896, 100])
    out = list(log.take(rows).rows())
    for i in range(800, len(out)):
        out[i] = msgspec.structs.replace(out[i], profile=None if i % 3 else {**(out[i].profile or {}), "age": 99})
    return out


@pytest.fixture(scope="module")
def streamed(log: TransactionTable, folders: list[Path]) -> tuple[list[Transaction], Streamed]:
    transactions, (one, two) = troubled(log), replayers(folders)
    assert one.serving.schema.fingerprint == two.serving.schema.fingerprint
    versions = [
        Version(0, one.serving, one._model),
        Version(_OUTAGE, one.serving, one._model, rules=True),
        Version(_OUTAGE + 80, one.serving, one._model),
        Version(_SWAP, two.serving, two._model),
    ]
    return transactions, stream(transactions, versions)


def told(
    folders: list[Path], transactions: list[Transaction], streamed: Streamed
) -> tuple[LogComparison, StreamLog, ReplayedLog]:
    log = StreamLog(as_arrived(transactions).with_unknown_merchants(), [(0, i) for i in range(len(transactions))])
    online = streamed.online()
    decided = decide_log(log, online, replayers(folders))
    return compare(log, online, decided, 1e-5), log, decided


def cause_of(folders: list[Path], transactions: list[Transaction], streamed: Streamed) -> Cause:
    """The first cause of the first mismatch."""
    found, log, decided = told(folders, transactions, streamed)
    first = found.mismatches[0]
    serving = replayers(folders)[int(decided.version[first.row]) - 1].serving
    user = transactions[first.row].user_id
    return first_cause(first, log, decided, serving, streamed.states.get(user, []), 1e-5)


def test_nothing_differs_through_a_swap_an_outage_redeliveries_and_late_events(
    folders: list[Path], streamed: tuple[list[Transaction], Streamed]
) -> None:
    transactions, published = streamed
    found, _, decided = told(folders, transactions, published)
    assert found.mismatches == []
    assert found.missing == found.extra == []
    assert found.max_abs_error < 1e-5
    assert found.compared == len(transactions) - found.repeated
    assert found.repeated >= 2
    assert found.degraded["rules"] > 20
    assert found.versions[1] > 100
    assert found.versions[2] > 100
    assert found.alerts_online == found.alerts_replayed > 10
    assert (decided.decision["flags"] & 4).any(), "late events"


def test_a_threshold_that_moves_is_replayed_where_it_was_announced(
    log: TransactionTable, folders: list[Path], streamed: tuple[list[Transaction], Streamed]
) -> None:
    transactions = troubled(log)[:_OUTAGE]
    one = replayers(folders)[0]
    scores = [
        decision.score
        for decision in stream(transactions, [Version(0, one.serving, one._model)]).online().decisions.values()
    ]
    threshold = float(np.quantile(scores, 0.5))
    moved = replace(one.serving, live=replace(one.serving.live, threshold=threshold))
    published = stream(
        transactions,
        [Version(0, one.serving, one._model), Version(200, moved, one._model), Version(400, one.serving, one._model)],
    )
    log_of = StreamLog(as_arrived(transactions).with_unknown_merchants(), [(0, i) for i in range(len(transactions))])
    online = published.online()
    found = compare(log_of, online, decide_log(log_of, online, replayers(folders), {1: [threshold]}), 1e-5)
    assert (found.mismatches, found.missing, found.extra) == ([], [], [])
    assert found.alerts_online == found.alerts_replayed > 3
    unknown = compare(log_of, online, decide_log(log_of, online, replayers(folders)), 1e-5)
    assert {mismatch.field for mismatch in unknown.mismatches} >= {"threshold"}


def test_records_that_are_no_decisions_are_counted_and_change_nothing(
    folders: list[Path], streamed: tuple[list[Transaction], Streamed]
) -> None:
    transactions, published = streamed
    forged = [
        *(Published(value, headers_of(APP, 0, 0)) for value in (b"", b"{}", b"\xff", b"[" * 5000)),
        *(Published(b"{}", [("source", b"0:\xff"), ("app", APP.encode())]), Published(b"{}", [("app", None)])),
    ]  # type: ignore[list-item]
    foreign = Streamed([*forged, *published.scores], [*forged, *published.alerts], published.states)
    assert (foreign.online().unreadable, foreign.online().unplaced) == (8, 2)
    found, _, _ = told(folders, transactions, foreign)
    assert found.mismatches == []
    assert found.missing == found.extra == []


def test_the_file_that_was_sent_tells_the_same_as_the_topic(
    log: TransactionTable, folders: list[Path], streamed: tuple[list[Transaction], Streamed]
) -> None:
    transactions = troubled(log)[:_OUTAGE]
    one = replayers(folders)[0]
    published = stream(transactions, [Version(0, one.serving, one._model)])
    online = published.online()
    log_of = from_table(log.take(slice(0, _OUTAGE - 1)).with_unknown_merchants(), online)
    assert log_of.place == [(0, i) for i in range(_OUTAGE)]
    found = compare(log_of, online, decide_log(log_of, online, replayers(folders)), 1e-5)
    assert (found.mismatches, found.missing, found.extra) == ([], [], [])
    assert found.repeated == 1


def changed(streamed: Streamed, topic: str, wanted: Any, **changes: Any) -> Streamed:
    """The same stream with one published record changed: the first that `wanted` accepts."""
    out = copy.copy(streamed)
    records = list(getattr(streamed, topic))
    kind: Any = Decision if topic == "scores" else Alert
    for i, record in enumerate(records):
        value = msgspec.json.decode(record.value, type=kind)
        if wanted(value):
            new = {name: change(value) for name, change in changes.items()}
            records[i] = replace(record, value=msgspec.json.encode(msgspec.structs.replace(value, **new)))
            break
    setattr(out, topic, records)
    return out


def test_a_tampered_score_is_found_and_named(folders: list[Path], streamed: tuple[list[Transaction], Streamed]) -> None:
    transactions, published = streamed
    tampered = changed(
        published, "scores", lambda d: d.history_len == 5 and not d.alert, score=lambda d: d.score + 2e-5
    )
    found, _, _ = told(folders, transactions, tampered)
    assert [m.field for m in found.mismatches] == ["score"]
    assert found.max_abs_error == pytest.approx(2e-5, rel=0.2)
    cause = cause_of(folders, transactions, tampered)
    assert (cause.step, cause.name) == ("output", "score")


def test_a_missing_alert_is_found_and_named(folders: list[Path], streamed: tuple[list[Transaction], Streamed]) -> None:
    transactions, published = streamed
    without = replace(published, alerts=published.alerts[1:])
    found, _, _ = told(folders, transactions, without)
    (mismatch,) = found.mismatches
    assert (mismatch.field, mismatch.online, mismatch.replayed) == ("alert record", False, True)
    assert found.alerts_replayed == found.alerts_online + 1


def test_a_changed_reason_is_found_and_named(folders: list[Path], streamed: tuple[list[Transaction], Streamed]) -> None:
    transactions, published = streamed

    def other(alert: Alert) -> Any:
        first = alert.reasons[0]
        return [msgspec.structs.replace(first, code="NEW_DEVICE"), *alert.reasons[1:]]

    for change in (other, lambda a: [msgspec.structs.replace(a.reasons[0], contribution=99.0), *a.reasons[1:]]):
        tampered = changed(
            published, "alerts", lambda a: a.reasons and a.reasons[0].code != "NEW_DEVICE", reasons=change
        )
        found, _, _ = told(folders, transactions, tampered)
        assert [m.field for m in found.mismatches] == ["reasons"]
        assert cause_of(folders, transactions, tampered).name == "reasons"


def test_a_changed_model_version_is_found_and_named(
    folders: list[Path], streamed: tuple[list[Transaction], Streamed]
) -> None:
    transactions, published = streamed

    def early(decision: Decision) -> bool:
        return decision.model.version == 1 and decision.history_len == 8 and not decision.alert

    for version in (2, 7):
        tampered = changed(
            published, "scores", early, model=lambda d, v=version: msgspec.structs.replace(d.model, version=v)
        )
        cause = cause_of(folders, transactions, tampered)
        assert cause.step == "model version", cause
        tampered.states = {}  # as if the changelog were compacted
        cause = cause_of(folders, transactions, tampered)
        assert cause.step == "model version", cause


def test_the_first_differing_input_is_the_earliest_on_the_way_to_the_score(
    folders: list[Path], streamed: tuple[list[Transaction], Streamed]
) -> None:
    transactions, published = streamed
    tampered = changed(
        published, "scores", lambda d: d.history_len == 5 and not d.alert, score=lambda d: d.score + 2e-5
    )
    found, _, _ = told(folders, transactions, tampered)
    user = transactions[found.mismatches[0].row].user_id
    before = next(i for i, s in enumerate(published.states[user]) if s["n"] == 5)

    def cause(name: str, change: Any, at: int) -> Cause:
        states = copy.deepcopy(published.states)
        change(states[user][at])
        cause = cause_of(folders, transactions, replace(tampered, states=states))
        assert cause.name == name
        return cause

    def mean(state: Any) -> None:
        state["amount_mean"] += 1

    def window(state: Any) -> None:
        state["window_hash"] += np.uint64(1)

    def risk(state: Any) -> None:
        state["ring"]["risk"][5] ^= 1

    assert cause("window_hash", window, before).step == "state"
    assert cause("amount_z", mean, before).step == "feature"
    assert cause("risk", risk, before + 1).step == "token"


def test_repeats_that_differ_and_what_is_missing_or_too_much_are_counted(
    folders: list[Path], streamed: tuple[list[Transaction], Streamed]
) -> None:
    transactions, published = streamed
    again = [*published.scores, published.scores[3]]
    found, _, _ = told(folders, transactions, replace(published, scores=again))
    clean, _, _ = told(folders, transactions, published)
    assert found.mismatches == []
    assert found.repeated == clean.repeated + 1
    altered = replace(published.scores[3], value=published.scores[3].value.replace(b'"scored_at":0', b'"scored_at":1'))
    found, _, _ = told(folders, transactions, replace(published, scores=[*published.scores, altered]))
    assert [m.field for m in found.mismatches] == ["repeated decision"]

    offsets = {dict(record.headers)["source"]: i for i, record in enumerate(published.scores)}
    shorter = published.scores[:]
    del shorter[offsets[b"0:17"]]
    found, _, _ = told(folders, transactions, replace(published, scores=shorter))
    assert found.missing == [(0, 17)]
    headers = [("source", b"0:99999"), ("app", APP.encode())]
    stray = replace(published.scores[0], headers=headers)
    others = replace(published.scores[0], headers=[("source", b"0:99998"), ("app", b"another")])
    found, _, _ = told(folders, transactions, replace(published, scores=[*published.scores, stray, others]))
    assert found.extra == [(0, 99999)]
