"""What a stream has published: decisions and alerts by the place of the transaction that they answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from panther_core.data.decision import Alert, Decision
from panther_core.kafka.answers import (
    NOWHERE,
    Position,
    Unreadable,
    app_of,
    position_of,
    read_alert,
    read_decision,
    seller_of,
)
from panther_core.kafka.reading import KafkaRecord

T = TypeVar("T", Decision, Alert)


@dataclass
class Online:
    """What was published, by place of the transaction.

    Of several records of one place the first stands; the others are counted, and noted in `altered` where they differ.
    """

    decisions: dict[Position, Decision] = field(default_factory=dict)
    alerts: dict[Position, Alert] = field(default_factory=dict)
    values: dict[Position, bytes] = field(default_factory=dict)  # of decisions
    sellers: dict[Position, Position] = field(default_factory=dict)  # record of merchant.risk that each decision saw
    repeated: int = 0
    altered: dict[Position, str] = field(default_factory=dict)  # place -> "decision" or "alert"
    unplaced: int = 0  # records of this application that do not name their transaction
    unreadable: int = 0  # records of this application that are no decision or no alert
    _alert_values: dict[Position, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, app_id: str, scores: Iterable[KafkaRecord], alerts: Iterable[KafkaRecord]) -> Online:
        """From the records of both topics, each partition in its order; those of other applications are left out."""
        out = cls()
        for record in scores:
            place = out._place(record, app_id)
            decision = out._known(read_decision(record.value)) if place else None
            if place and decision and out._first("decision", out.values, place, record.value or b""):
                out.decisions[place], out.sellers[place] = decision, seller_of(record)
        for record in alerts:
            place = out._place(record, app_id)
            alert = out._known(read_alert(record.value)) if place else None
            if place and alert and out._first("alert", out._alert_values, place, record.value or b""):
                out.alerts[place] = alert
        return out

    def _known(self, found: T | Unreadable) -> T | None:
        """What a record holds; None, and counted, where that cannot be read."""
        if isinstance(found, Unreadable):
            self.unreadable += 1
            return None
        return found

    def _place(self, record: KafkaRecord, app_id: str) -> Position | None:
        if app_of(record) != app_id.encode():
            return None
        place = position_of(record)
        self.unplaced += place == NOWHERE
        return None if place == NOWHERE else place

    def _first(self, kind: str, values: dict[Position, bytes], place: Position, value: bytes) -> bool:
        if place not in values:
            values[place] = value
            return True
        self.repeated += kind == "decision"
        if values[place] != value:
            self.altered.setdefault(place, kind)
        return False
