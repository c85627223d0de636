"""A decision and its fields, defined once: the record on the topics, and the row of fixed size that a worker holds.

`FIELDS` says of each field of a `Decision` where it lies in a row (DECISION) and of which type it is there and in a
replay's Parquet file. All translations follow from that table (panther_core.decide.records, offline.replay.columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.data.events import SCHEMA_VERSION
from panther_core.data.schema import CODE

MODEL_NAME = "panther"
#: number of reasons, of expected behaviours and of nearest behaviour patterns kept with a decision
REASONS, EXPECTED, PROTOTYPES = 3, 3, 3
ALERT, COLD, LATE, REUSED = 1, 2, 4, 8  # bits of a row's `flags`


class Degraded(IntEnum):
    """How a decision was made: the steps of the degrade ladder, best first. The number is stored, `word` published."""

    LIVE = 0  # by the model
    CACHED = 1  # by the model, on outputs that have not seen the user's newest events (the encoder was down)
    RULES = 2  # by the rules on context features (no model answered)

    @property
    def word(self) -> str | None:
        """The step as records name it; None for an undegraded decision."""
        return None if self is Degraded.LIVE else self.name.lower()


class ModelRef(msgspec.Struct, frozen=True):
    """The model a decision came from; version 0 is the rule fallback."""

    name: str
    version: int


class Reason(msgspec.Struct, frozen=True):
    """Why an alert was raised: a stable code, a sentence for the analyst, its contribution in nats of the logit, and
    the numbers that the sentence tells, by name."""

    code: str
    description: str
    contribution: float
    numbers: dict[str, float] = {}


class Expected(msgspec.Struct, frozen=True):
    """One behaviour that was likely for this user; amounts in the log's currency unit."""

    category: str
    channel: str
    amount_from: float
    amount_to: float | None  # None = no upper bound


class Usual(msgspec.Struct, frozen=True):
    """What most of a user's newest payments were like; `payments`: how many were looked at. Hours are of UTC, the last
    one included; amounts in the log's currency unit, None for no upper bound; categories and channels by frequency."""

    payments: int
    amount_from: float
    amount_to: float | None
    hour_from: int
    hour_to: int
    categories: list[str]
    channels: list[str]


class Decision(msgspec.Struct):
    """What was decided for one transaction, topic `fraud.scores`, key = `user_id`. Times in epoch ms."""

    transaction_id: str
    user_id: str
    event_time: int
    scored_at: int
    latency_ms: int
    score: float
    threshold: float
    alert: bool
    history_len: int
    cold_start: bool
    late: bool
    degraded: str | None
    model: ModelRef
    id_reused: bool = False
    """The user has used the transaction's id before, for another payment."""
    schema_version: int = SCHEMA_VERSION


class Alert(Decision, kw_only=True):
    """A decision above the threshold, topic `fraud.alerts`, with reasons an analyst can read."""

    alert: bool = True
    alert_id: str
    merchant_id: str
    risk_score: int
    risk_level: str
    reasons: list[Reason]
    expected: list[Expected]
    tokenizer_version: str
    amount: float | None = None
    """What was paid, and how, as it came; None in alerts of earlier releases, and where it was not given."""
    currency: str | None = None
    merchant_category: str | None = None
    channel: str | None = None
    country: str | None = None
    device: str | None = None
    usual_amount: float | None = None
    """What is usual for the user, in the log's currency unit; None for a user of whom nothing is known."""
    usual: Usual | None = None
    """Usual amounts, hours and places; None for a user of few payments."""


@dataclass(frozen=True)
class Field:
    """One field of a decision that a row of DECISION holds."""

    name: str
    """Name of the field in the record."""
    stored: str = ""
    """numpy type in the row; empty for a flag."""
    parquet: str = ""
    """Arrow type in a replay's Parquet file; empty for wall-clock fields, which a replay does not measure."""
    column: str = ""
    """Name of the field in the row and the Parquet file, if it differs from the name in the record."""
    flag: int = 0
    """Bit of the row's `flags`."""
    words: tuple[str | None, ...] = ()
    """What stored numbers stand for, where a word is published."""

    @property
    def place(self) -> str:
        """Name of the field of DECISION that holds this field."""
        return "flags" if self.flag else self.column or self.name

    def array(self, rows: NDArray[np.void]) -> NDArray[Any]:
        """Column [B] of DECISION rows: bool for a flag, else as stored."""
        held: NDArray[Any] = rows[self.place]
        return (held & self.flag) > 0 if self.flag else held

    def values(self, rows: NDArray[np.void]) -> list[Any]:
        """Values [B] as the record has them. The column is read at once; row by row takes ten times as long."""
        held: list[Any] = self.array(rows).tolist()
        if self.words:
            return [self.words[code] for code in held]
        if self.name == "model":
            models = {version: ModelRef(MODEL_NAME if version else "rules", version) for version in set(held)}
            return [models[version] for version in held]
        return held

    def put(self, rows: NDArray[np.void], values: Sequence[Any]) -> None:
        """Write the records' values into rows [B], in place."""
        if self.flag:
            rows["flags"] |= np.array(values, np.bool_) * np.uint8(self.flag)
        elif self.words:
            rows[self.place] = [self.words.index(value) for value in values]
        elif self.name == "model":
            rows[self.place] = [value.version for value in values]
        else:
            rows[self.place] = values


#: in the order of Decision, after the fields that come from the transaction (transaction_id, user_id, event_time)
FIELDS = (
    Field("scored_at", "i8"),
    Field("latency_ms", "i4"),
    Field("score", "f8", "float64"),
    Field("threshold", "f8", "float64"),
    Field("alert", parquet="bool", flag=ALERT),
    Field("history_len", "i4", "int32"),
    Field("cold_start", parquet="bool", flag=COLD),
    Field("late", parquet="bool", flag=LATE),
    Field("degraded", "u1", "string", words=tuple(step.word for step in Degraded)),
    Field("model", "u4", "int32", column="model_version"),
    Field("id_reused", parquet="bool", flag=REUSED),
)
#: fields of a row that hold the explanation of an alert
EXPLAINED = ("reason", "contribution", "prototype", "similarity")

#: the row. Stored in states: the order of its fields never changes within a state layout
DECISION = np.dtype(
    [
        ("transaction", "u8"),  # hash of the transaction id
        *((field.place, field.stored) for field in FIELDS if field.stored and not field.words),
        ("flags", "u1"),
        *((field.place, field.stored) for field in FIELDS if field.words),
        ("reason", "u1", REASONS),  # panther_core.decide.reasons, 0 = none
        ("contribution", "f4", REASONS),
        ("expected", CODE, EXPECTED),
        ("prototype", "u2", PROTOTYPES),
        ("similarity", "f4", PROTOTYPES),
    ]
)
#: names of the fields of a row that hold FIELDS
PLACES = tuple(dict.fromkeys(field.place for field in FIELDS))


def values_of(row: np.void) -> dict[str, Any]:
    """FIELDS of one row by name, as the record has them."""
    rows = np.array([row], DECISION)
    return {field.name: field.values(rows)[0] for field in FIELDS}
