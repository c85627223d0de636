"""What a stream has published: decisions and alerts by the place of the transaction that they answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from panther_core.events import Alert, Decision
from stream.replay.topic import Record

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
    #: redeliveries, long after, of a transaction that had come a second time and was decided anew: they get that answer
    answered_by_later: int = 0
    unplaced: int = 0  # of this application, but saying nothing of their transaction
    _alert_values: dict[Place, bytes] = field(default_factory=dict)
    _others: dict[Place, set[bytes]] = field(default_factory=dict)  # decisions at a place that are not its first

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
        out._excuse_later_answers()
        return out

    def _excuse_later_answers(self) -> None:
        """The state knows decisions by transaction id, not by place: see `answered_by_later`."""
        later = {self.decisions[place].transaction_id: set[bytes]() for place in self._others}
        for place, decision in self.decisions.items():
            if decision.transaction_id in later:
                later[decision.transaction_id].add(self.values[place])
        for place, values in self._others.items():
            first = self.decisions[place]
            if values <= later[first.transaction_id]:
                self.answered_by_later += 1
                self.altered.pop(place, None)
                if place in self.alerts and self.alerts[place].scored_at != first.scored_at:
                    del self.alerts[place]  # it came with the later answer

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
            if kind == "decision":
                self._others.setdefault(place, set()).add(value)
        return False
