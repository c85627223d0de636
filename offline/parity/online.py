"""What a stream has published: decisions and alerts by the place of the transaction that they answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from offline.replay.topic import Record
from panther_core.data.events import Alert, Decision

Place = tuple[int, int]  # partition and offset of a transaction

_decision = msgspec.json.Decoder(Decision).decode
_alert = msgspec.json.Decoder(Alert).decode


@dataclass
class Online:
    """The first record of each place stands; those that came again are counted, and kept where they differ."""

    decisions: dict[Place, Decision] = field(default_factory=dict)
    alerts: dict[Place, Alert] = field(default_factory=dict)
    values: dict[Place, bytes] = field(default_factory=dict)  # of decisions
    repeated: int = 0
    altered: dict[Place, str] = field(default_factory=dict)  # place -> "decision" or "alert"
    unplaced: int = 0  # of this application, but saying nothing of their transaction
    _alert_values: dict[Place, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, app_id: str, scores: Iterable[Record], alerts: Iterable[Record]) -> Online:
        """From the records of both topics, each partition in its order; those of other applications are left out."""
        out = cls()
        for record in scores:
            place = out._place(record, app_id)
            if place and out._first("decision", out.values, place, record.value or b""):
                out.decisions[place] = _decision(record.value or b"")
        for record in alerts:
            place = out._place(record, app_id)
            if place and out._first("alert", out._alert_values, place, record.value or b""):
                out.alerts[place] = _alert(record.value or b"")
        return out

    def _place(self, record: Record, app_id: str) -> Place | None:
        headers = dict(record.headers)
        if headers.get("app") != app_id.encode():
            return None
        partition, _, offset = headers.get("source", b"").decode().rpartition(":")
        if not (partition.isdigit() and offset.isdigit()):
            self.unplaced += 1
            return None
        return int(partition), int(offset)

    def _first(self, kind: str, values: dict[Place, bytes], place: Place, value: bytes) -> bool:
        if place not in values:
            values[place] = value
            return True
        self.repeated += kind == "decision"
        if values[place] != value:
            self.altered.setdefault(place, kind)
        return False
