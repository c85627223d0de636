"""Records of the topics that this project reads back, damaged and forged, through the functions that read them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka.structs import ConsumerRecord

from bench.chaos.mutations import chosen, mutated
from offline.parity.online import Online
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.decision import Decision
from panther_core.data.events import Label, ModelProgress, ModelUpdate
from panther_core.data.generator.malformed import valid
from panther_core.data.topics import ALERTS, DEAD_LETTERS, LABELS, MODELS, PROGRESS, SCORES, TRANSACTIONS
from panther_core.decide.records import decision_behind, row_of
from panther_core.kafka.answers import (
    NOWHERE,
    Skipped,
    Unreadable,
    app_of,
    header_of,
    position_of,
    read_alert,
    read_decision,
    read_progress,
    readable,
)
from panther_core.kafka.reading import KafkaRecord
from stream.tools.dlq import letter_of_record
from stream.tools.ledger import Ledger
from stream.worker.live_models import LiveModels
from trainer.rollout.announce import before_live
from trainer.rollout.kafka_log import labels_of, transactions_of

_NOW_MS = 1_760_000_000_000
_MODEL = {"name": "panther", "version": 1}
_DECISION: dict[str, Any] = {
    **{"transaction_id": "t", "user_id": "u", "event_time": _NOW_MS, "scored_at": _NOW_MS, "latency_ms": 9},
    **{"score": 0.5, "threshold": 0.4, "alert": True, "history_len": 3, "cold_start": False, "late": False},
    **{"degraded": None, "model": _MODEL, "schema_version": 1},
}
_ALERT = _DECISION | {
    **{"alert_id": "a", "merchant_id": "m", "risk_score": 50, "risk_level": "medium", "tokenizer_version": "v"},
    "reasons": [{"code": "NEW_MERCHANT", "description": "d", "contribution": 0.5}],
    "expected": [{"category": "c", "channel": "chip", "amount_from": 1.0, "amount_to": None}],
    "patterns": [{"prototype": 1, "similarity": 0.5}],
}
_HEADERS = (
    *(None, b"", b"\xff", b"0:1", b"transactions:3:17", "0:²".encode(), b"0:" + b"9" * 5000, b"-1:-1", b":", b"::"),
    *(b"0:1:2:3", b"0x1:2", b" 0:1", b"0:1\n", "٣:٤".encode(), b"1e3:1", b"\x00:\x00", b"panther", b"\x1b[2J"),
)


class RecordFuzz:
    """Turns through the topics; `run` reads one damaged record."""

    def __init__(self, artifact: Path, rng: np.random.Generator) -> None:
        update = ModelUpdate(name="panther", version=1, threshold=0.5, schema_fingerprint="", artifact=str(artifact))
        progress = ModelProgress(app_id="panther", partition=0, version=1, worker="w", moved_at=_NOW_MS)
        label = Label(transaction_id="t", user_id="u", label=1, label_time=_NOW_MS, source="s")
        self._good = {
            **{SCORES: _DECISION, ALERTS: _ALERT, MODELS: msgspec.to_builtins(update)},
            **{PROGRESS: msgspec.to_builtins(progress), LABELS: msgspec.to_builtins(label)},
            **{TRANSACTIONS: valid(1, rng), DEAD_LETTERS: {"any": "thing"}},
        }
        self._readers: dict[str, Callable[[KafkaRecord], object]] = {
            **{SCORES: _read_answer, ALERTS: _read_answer, DEAD_LETTERS: _read_letter, MODELS: self._read_update},
            **{PROGRESS: _read_progress, LABELS: _read_label, TRANSACTIONS: _read_transaction},
        }
        self._rng = rng

    def run(self) -> str:
        """Read one record; returns the topic. Raises what a reader raises, which is to be nothing."""
        topic = chosen(list(self._good), self._rng)
        kind = self._rng.random()
        value = None if kind < 0.02 else b"" if kind < 0.04 else mutated(self._good[topic], self._rng)
        names = ("source", "app", "code", "reason", "other")
        headers = [(name, chosen(_HEADERS, self._rng)) for name in names if self._rng.random() < 0.7]
        time_ms = chosen((_NOW_MS, -1, 0, 1_760_000_000, 4_070_908_800_000, 2**62), self._rng)
        key = chosen((None, b"u", b"user-1", b"\xff", b"__panther\x00application"), self._rng)
        record = ConsumerRecord(topic, 0, 7, time_ms, 0, key, value, None, 0, 0, headers)
        where = position_of(record)
        if where != NOWHERE and not all(0 <= number < 10**19 for number in where):
            raise ValueError(f"a position out of range: {where}")
        app_of(record), header_of(record, "code")
        self._readers[topic](record)
        return f"read: {topic}"

    def _read_update(self, record: KafkaRecord) -> None:
        models = LiveModels(KafkaSettings())
        models.note(record)
        if (update := models.wanted) is not None:
            asyncio.run(models.take(update))
            before_live([update, update], update.version)


def _read_answer(record: KafkaRecord) -> None:
    """A decision or an alert, as a worker, the ledger and `panther parity` read it."""
    decision = read_decision(record.value)
    alert = read_alert(record.value)
    if isinstance(decision, Decision):
        row_of(decision, None)
    if not isinstance(alert, Unreadable):
        row_of(decision_behind(alert), alert)
    Ledger().add(record)
    Online.of("panther", [record], [record])


def _read_letter(record: KafkaRecord) -> None:
    letter = letter_of_record(record)
    if not all(word.isprintable() for word in (letter.code, letter.reason, letter.source)):
        raise ValueError("a terminal would obey the words of a dead letter")
    letter.whole()
    Ledger().add(record)


def _read_progress(record: KafkaRecord) -> None:
    list(readable([record], read_progress, Skipped(PROGRESS)))


def _read_label(record: KafkaRecord) -> None:
    labels_of([record], _NOW_MS, Skipped(LABELS))


def _read_transaction(record: KafkaRecord) -> None:
    transactions_of([record], _NOW_MS, PantherSettings(), Skipped(TRANSACTIONS))
