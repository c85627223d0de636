"""The checker of `panther chaos` and `panther bench fuzz`: compares what a run left behind with an offline run.

The offline run takes the records of the `transactions` topic in the order of their offsets through the worker's own
intake and through replay. It tells which records are valid, which repeat an earlier record, what each user's state is
in the end, and what a healthy model decides. The decisions, the alerts, the dead letters, the newest states on the
changelog and the stores on disk must agree with it. A decision made without the model is allowed if it says so in
`degraded`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec
import numpy as np

from bench.chaos.evidence import ChaosEvidence, Records
from bench.chaos.findings import Findings
from bench.chaos.inputs import EPOCH
from bench.chaos.merchants import check_merchants
from bench.chaos.offline_run import OfflineRun, as_consumed, run_offline
from panther_core.data.decision import Alert, Decision, Degraded, values_of
from panther_core.data.schema import hash64
from panther_core.kafka.answers import Position, decode_alert, decode_decision, header_of
from panther_core.kafka.reading import KafkaRecord
from panther_core.model.serving import PantherModel
from panther_core.serving_model import ServingModel
from panther_core.state.record import events_applied
from stream.tools.ledger import SCORE_TOLERANCE
from stream.worker.intake import Intake, read_batch

#: Fields of a state that depend on whether the model answered; all other fields must equal the offline run's.
_OF_THE_MODEL = ("model_version", "cached_n", "cached", "expected")
_CACHED_TOLERANCE = 1e-4


def conserved(evidence: ChaosEvidence, serving: ServingModel) -> dict[str, Any]:
    """Verdict on outcomes alone: every record must have a decision or a dead letter. For records of any kind."""
    wrong = Findings()
    intake = read_batch(as_consumed(evidence.inputs), serving.schema, serving.risk)
    _check_dead(intake, evidence, wrong)
    answered, valid = set(_by_position(evidence, evidence.decisions)), {(r.partition, r.offset) for r in intake.records}
    for at in valid - answered:
        wrong.add("lost", at)
    for at in answered - valid:
        wrong.add("decision_of_nothing", at)
    return {
        "ok": not wrong.count.total(),
        "inputs": len(evidence.inputs),
        "valid": len(valid),
        "dead_letters": len(intake.dead),
        "wrong": dict(wrong.count),
        "examples": dict(wrong.examples),
    }


def check(evidence: ChaosEvidence, serving: ServingModel, model: PantherModel) -> dict[str, Any]:
    """The full verdict as JSON: `ok`, counts, and `wrong` with examples; docs/chaos.md describes each kind."""
    offline, wrong = run_offline(evidence.inputs, serving, model, evidence.sellers(), evidence.risk), Findings()
    answers = _by_position(evidence, evidence.decisions)
    decisions = _check_decisions(offline, answers, wrong)
    _check_alerts(offline, decisions, _by_position(evidence, evidence.alerts), wrong)
    _check_dead(offline.intake, evidence, wrong)
    newest = _newest(evidence.changelog)
    behind, apart = _check_states(offline, newest, serving, wrong)
    _check_stores(newest, evidence.stores, wrong)
    newest = _newest(evidence.merchants)
    labels = check_merchants(offline, newest, evidence.labels, wrong)
    _check_stores(newest, evidence.merchant_stores, wrong)
    if evidence.counted_trimmed < len(evidence.trimmed):  # more: the next owner of a partition may count them again
        wrong.add("trimmed_uncounted", f"{len(evidence.trimmed)} deleted, {evidence.counted_trimmed} counted")
    kept = int(offline.replayed.kept.sum())
    return {
        "ok": not wrong.count.total(),
        "inputs": len(evidence.inputs),
        "valid": len(offline.intake.records),
        "distinct": kept,
        "late": sum(d.late for d in decisions.values()),
        "dead_letters": len(offline.intake.dead),
        "decision_records": len(evidence.decisions),
        "redelivered": len(evidence.decisions) - len(offline.intake.records),
        "alerts": sum(d.alert for d in decisions.values()),
        "degraded": dict(Counter(d.degraded for d in decisions.values() if d.degraded)),
        "users": len(offline.states),
        "merchants": len(newest),
        "labels": labels,
        "merchants_wrong": wrong.count["merchant"] + wrong.count["merchant_missing"],
        "states_behind": behind,
        "cached_apart": apart,
        "not_identical": wrong.not_identical,
        "trimmed": len(evidence.trimmed),
        "trimmed_counted": evidence.counted_trimmed,
        "lost": wrong.count["lost"],
        "contradicted": wrong.count["contradicted"],
        "somebody_elses": wrong.count["wrong_transaction"] + wrong.count["decision_of_nothing"],
        "states_wrong": wrong.count["state"] + wrong.count["state_missing"],
        "wrong": dict(wrong.count),
        "examples": dict(wrong.examples),
    }


def _newest(changelog: Records) -> dict[bytes, bytes]:
    """The newest state of each user, chosen as recovery does (stream.faust_parts.restore.newest)."""
    out: dict[bytes, bytes] = {}
    for record in changelog:
        if record.key and record.key[:1] != b"\0" and record.value is not None:
            before = out.get(record.key)
            if before is None or events_applied(record.value) >= events_applied(before):
                out[record.key] = record.value
    return out


def _by_position(evidence: ChaosEvidence, records: Records) -> dict[Position, list[bytes]]:
    out: dict[Position, list[bytes]] = defaultdict(list)
    for record in records:
        out[evidence.position(record)].append(record.value or b"")
    return out


def _check_decisions(
    offline: OfflineRun, answers: dict[Position, list[bytes]], wrong: Findings
) -> dict[Position, Decision]:
    """Every valid record needs a decision, equal in all copies, and equal to the offline one unless degraded."""
    decisions: dict[Position, Decision] = {}
    valid = set()
    for row, first in enumerate(offline.first):
        at = offline.position(row)
        valid.add(at)
        if not answers.get(at):
            wrong.add("lost", (at, f"sent {offline.intake.received_ms[row]}"))
            continue
        given = [decode_decision(value) for value in answers[at]]
        original = decisions.setdefault(offline.position(first), given[0])
        for decision in given:
            if decision != original:
                if _contradicts(original, decision):
                    wrong.add("contradicted", (at, _facts_of(original), _facts_of(decision)))
                else:
                    wrong.not_identical += 1
        if first == row:
            _check_decision(offline, row, original, wrong)
    for at in answers.keys() - valid:
        wrong.add("decision_of_nothing", at)
    return decisions


def _contradicts(a: Decision | Alert, b: Decision | Alert) -> bool:
    """Whether two records of one outcome differ in more than the clock and a rounding of the score."""
    aligned = msgspec.structs.replace(b, scored_at=a.scored_at, latency_ms=a.latency_ms, score=a.score)
    return aligned != a or abs(a.score - b.score) > SCORE_TOLERANCE


def _facts_of(decision: Decision) -> tuple[Any, ...]:
    return decision.score, decision.alert, decision.degraded, decision.model.version, decision.history_len


def _check_decision(offline: OfflineRun, row: int, decision: Decision, wrong: Findings) -> None:
    expected, at = values_of(offline.replayed.decision[row]), offline.position(row)
    transaction = offline.intake.transactions[row]
    if (decision.transaction_id, decision.user_id) != (transaction.transaction_id, transaction.user_id):
        wrong.add("wrong_transaction", at)
    told = {name: getattr(decision, name) for name in ("history_len", "cold_start", "late", "id_reused")}
    if wanted := {name: expected[name] for name, value in told.items() if expected[name] != value}:
        wrong.add("wrong_history", (at, told, wanted))
    if decision.degraded is None and abs(decision.score - expected["score"]) > SCORE_TOLERANCE:
        wrong.add("wrong_score", (at, decision.score, expected["score"]))
    if (decision.degraded == Degraded.RULES.word) != (decision.model.version == 0):
        wrong.add("degraded_unsaid", (at, decision.degraded, decision.model.version))


def _check_alerts(
    offline: OfflineRun, decisions: dict[Position, Decision], alerts: dict[Position, list[bytes]], wrong: Findings
) -> None:
    """Every decision with `alert` needs an alert, equal in all copies, and no other decision may have one."""
    first = {offline.position(row): f for row, f in enumerate(offline.first)}
    told: dict[Position, Alert] = {}
    for at, values in alerts.items():
        for alert in map(decode_alert, values):
            original = offline.position(first[at]) if at in first else at
            decision = decisions.get(original)
            if decision is None or not decision.alert:
                wrong.add("alert_without_decision", at)
                continue
            if told.setdefault(original, alert) != alert:
                if _contradicts(told[original], alert):
                    wrong.add("alert_contradicted", at)
                wrong.not_identical += 1
            agree = alert.model == decision.model and alert.alert_id == offline.alert_id(first[at])
            if not agree or abs(alert.score - decision.score) > SCORE_TOLERANCE:
                wrong.add("alert_unlike_decision", at)
    for at, decision in decisions.items():
        if decision.alert and at not in told:
            wrong.add("decision_without_alert", at)


def _check_dead(intake: Intake, evidence: ChaosEvidence, wrong: Findings) -> None:
    """Every record that intake refuses needs a dead letter with its code and bytes; no other record may have one."""
    expected = {(d.record.partition, d.record.offset): d for d in intake.dead}
    found = set()
    for record in evidence.dead:
        at, code = evidence.position(record), header_of(record, "code").decode(errors="replace")
        found.add(at)
        if at not in expected:
            wrong.add("dead_letter_of_a_good_record", (at, code))
        elif code != expected[at].code or (record.value or b"") != (expected[at].record.value or b""):
            wrong.add("dead_letter_wrong", (at, code, expected[at].code))
    for at in expected.keys() - found:
        wrong.add("dead_letter_missing", (at, expected[at].code))


def _check_states(
    offline: OfflineRun,
    newest: dict[bytes, bytes],
    serving: ServingModel,
    wrong: Findings,
) -> tuple[int, float]:
    """The changelog's newest states must equal the offline ones.

    Returns how many states lack the live model's outputs, and the largest difference of the outputs of the others.
    """
    decoded = serving.codec.decode(list(newest.values()))
    decoded["last_offset"] %= EPOCH
    states = dict(zip(map(hash64, map(bytes.decode, newest)), decoded, strict=True))
    behind, apart = 0, 0.0
    for user, expected in offline.states.items():
        state = states.get(user)
        if state is None:
            wrong.add("state_missing", f"n={int(expected['n'])}")
            continue
        for name in expected.dtype.names or ():
            if name not in _OF_THE_MODEL and not _same(state[name], expected[name]):
                wrong.add("state", (name, f"n={int(state['n'])}", f"expected n={int(expected['n'])}"))
                break
        if state["cached_n"] != state["n"] or state["model_version"] != serving.live.version:
            behind += 1
        else:
            apart = max(apart, float(np.abs(state["cached"] - offline.cached[user]).max()))
    if apart > _CACHED_TOLERANCE:
        wrong.add("cached_outputs", apart)
    for user in states.keys() - offline.states.keys():
        wrong.add("state_of_nobody", f"n={int(states[user]['n'])}")
    return behind, apart


def _same(a: Any, b: Any) -> bool:
    if np.issubdtype(np.asarray(a).dtype, np.floating):
        return bool(np.allclose(a, b, rtol=1e-9, atol=1e-12))  # vectorised and scalar logarithms may round differently
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _check_stores(newest: dict[bytes, bytes], stores: list[dict[bytes, bytes]], wrong: Findings) -> None:
    """Each newest state must be in the owner's store; the stores of former owners may hold older ones."""
    for key, value in newest.items():
        if not any(store.get(key) == value for store in stores):
            wrong.add("store_unlike_changelog", f"{len(value)} bytes")


def is_live(record: KafkaRecord) -> bool:
    """Whether the decision in this record was made by the live model."""
    return decode_decision(record.value or b"").degraded is None
