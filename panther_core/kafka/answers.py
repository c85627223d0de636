"""Headers by which a published record names the transaction that it answers, and decoders of published values."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from panther_core.data.decision import Alert, Decision
from panther_core.data.events import ModelUpdate
from panther_core.kafka.reading import KafkaRecord

Position: TypeAlias = tuple[int, int]
"""Partition and offset of a transaction."""

NOWHERE: Position = (-1, -1)

# Each decoder takes a record's value, and raises msgspec.DecodeError.
decode_decision = msgspec.json.Decoder(Decision).decode
decode_alert = msgspec.json.Decoder(Alert).decode
decode_update = msgspec.json.Decoder(ModelUpdate).decode


def headers_of(app_id: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    """Headers of a decision or an alert: `source`, position of its transaction; `app`, the application that decided."""
    return [("source", f"{partition}:{offset}".encode()), ("app", app_id.encode())]


def app_of(record: KafkaRecord) -> bytes:
    """Id of the application that published a decision or an alert; empty where the record has no `app` header."""
    app: bytes = dict(record.headers).get("app", b"")
    return app


def position_of(record: KafkaRecord) -> Position:
    """Position of the transaction that a decision, an alert or a dead letter answers; NOWHERE without such a header."""
    place, _, offset = dict(record.headers).get("source", b"").decode().rpartition(":")
    partition = place.rpartition(":")[2]
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else NOWHERE
