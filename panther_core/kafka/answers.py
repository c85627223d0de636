"""What is read back from the topics that this project writes: headers of published records, and their values.

Others may write there too, and older or newer releases of this code have. So nothing here raises, whatever a header or
a value holds: what cannot be read is NOWHERE, empty, or an `Unreadable` that says why. Callers skip it and say so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np

from panther_core.data.decision import DECISION, FIELDS, REASONS, Alert, Decision
from panther_core.data.events import (
    MAX_AHEAD_MS,
    MAX_TIME_MS,
    MIN_TIME_MS,
    Label,
    ModelProgress,
    ModelUpdate,
    record_time_ms,
)
from panther_core.data.merchant_events import RISK_NAMES, MerchantAlert, MerchantRiskRecord
from panther_core.kafka.reading import KafkaRecord

Position: TypeAlias = tuple[int, int]
"""Partition and offset of a transaction."""

NOWHERE: Position = (-1, -1)
_DIGITS = 19  # of the largest offset
_VERSIONS = range(1, 2**32)
_HASH = re.compile(rb"[0-9a-f]{1,16}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # would be obeyed by the terminal of whoever prints it
T = TypeVar("T", bound=msgspec.Struct)


class Unreadable(NamedTuple):
    """In place of a value that cannot be read: what was expected, and what came."""

    why: str


def _reader(kind: type[T], problem: Callable[[T], str | None]) -> Callable[[bytes | None], T | Unreadable]:
    """A function that reads the values of one topic. `problem`: what is wrong with a value of the right types."""
    decode = msgspec.json.Decoder(kind).decode

    def read(value: bytes | None) -> T | Unreadable:
        if not value:
            return Unreadable("expected a JSON object, got an empty value")
        try:
            found = decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Unreadable(f"expected a {kind.__name__}: {error}")
        wrong = problem(found)
        return found if wrong is None else Unreadable(f"expected {wrong}")

    return read


def _fits(decision: Decision) -> str | None:
    """What keeps a decision from being a row of DECISION, or from being one of this code's."""
    if _CONTROL.search(decision.transaction_id) or _CONTROL.search(decision.user_id):
        return "ids without control characters, got others"
    if not (0 <= decision.score <= 1 and math.isfinite(decision.threshold)):
        return "a score in 0..1 and a finite threshold, got others"
    for field in FIELDS:
        value = getattr(decision, field.name)
        if field.words and value not in field.words:
            return f"a word out of {field.words} in {field.name}, got another"
        number = decision.model.version if field.name == "model" else value
        kind = DECISION[field.place]
        if kind.kind in "iu" and not isinstance(number, str | None) and not _holds(kind, number):
            return f"a number that {kind} holds in {field.name}, got another"
    return None if _holds(np.dtype("i8"), decision.event_time) else "an event_time in epoch ms, got another number"


def _fits_alert(alert: Alert) -> str | None:
    if len(alert.reasons) > REASONS:
        return f"at most {REASONS} reasons, got more"
    if not all(abs(reason.contribution) < 1e30 for reason in alert.reasons):
        return "contributions that 4 bytes hold, got others"
    return _fits(alert)


def _holds(kind: np.dtype[Any], number: int) -> bool:
    return bool(np.iinfo(kind).min <= number <= np.iinfo(kind).max)


def _problem_of_update(update: ModelUpdate) -> str | None:
    if not (update.artifact and update.name) or _CONTROL.search(update.artifact + update.name):
        return "a name and a folder without control characters, got others"
    if not 0 <= update.threshold <= 1.01:
        return f"a threshold from 0 to 1.01, got {update.threshold}"
    return None if update.version in _VERSIONS else "a version from 1 on, got another number"


def _problem_of_progress(progress: ModelProgress) -> str | None:
    if _CONTROL.search(progress.app_id):
        return "words without control characters, got others"
    return None if progress.version in _VERSIONS else "a version from 1 on, got another number"


def _problem_of_label(label: Label) -> str | None:
    if MIN_TIME_MS <= label.label_time <= MAX_TIME_MS:
        return None
    return f"a label_time after 2000 and before 2100 in epoch ms, got {label.label_time}"


# Each takes a record's value, and returns an Unreadable for one that is empty, does not parse or makes no sense.
read_decision = _reader(Decision, _fits)
read_alert = _reader(Alert, _fits_alert)
read_update = _reader(ModelUpdate, _problem_of_update)
read_progress = _reader(ModelProgress, _problem_of_progress)
read_label = _reader(Label, _problem_of_label)


def label_of(record: KafkaRecord, now_ms: int) -> Label | Unreadable:
    """The label that counts for a worker, a log and a refresh alike: one whose key is the user, and that says nothing
    of the days to come. `now_ms`: the reader's clock."""
    label = read_label(record.value)
    if isinstance(label, Unreadable):
        return label
    if record.key != label.user_id.encode():
        return Unreadable("expected the record key to be `$.user_id`, got another")
    if label.label_time > record_time_ms(record.timestamp, now_ms) + MAX_AHEAD_MS:
        return Unreadable("expected a label_time at most a day after the record's time, got a later one")
    return label


def _problem_of_risk(risk: MerchantRiskRecord) -> str | None:
    if not all(abs(risk.features.get(name, math.inf)) < 1e30 for name in RISK_NAMES):
        return f"finite numbers for {', '.join(RISK_NAMES[:3])} and the other features, got others"
    return None


read_risk = _reader(MerchantRiskRecord, _problem_of_risk)

# The same without these checks: they raise msgspec.DecodeError.
decode_decision = msgspec.json.Decoder(Decision).decode
decode_update = msgspec.json.Decoder(ModelUpdate).decode
decode_alert = msgspec.json.Decoder(Alert).decode
decode_merchant_alert = msgspec.json.Decoder(MerchantAlert).decode


@dataclass
class Skipped:
    """Records of a topic that could not be read: how many of how many, and the first one's place and why."""

    topic: str
    records: int = 0
    count: int = 0
    first: str = ""

    def add(self, record: KafkaRecord, why: str) -> None:
        """Count one that was skipped."""
        self.count += 1
        self.first = self.first or f"{record.topic}:{record.partition}:{record.offset}: {why}"

    def say(self, say: Callable[[str], None]) -> None:
        """Tell people what was skipped, in one line; nothing where nothing was."""
        if self.count:
            say(f"  {self}")

    def __str__(self) -> str:
        return f"{self.count:,} of {self.records:,} records of {self.topic} were skipped, the first at {self.first}"


def readable(
    records: Iterable[KafkaRecord], read: Callable[[bytes | None], T | Unreadable], skipped: Skipped
) -> Iterator[tuple[KafkaRecord, T]]:
    """The records whose values can be read, with these; the others are counted in `skipped`."""
    for record in records:
        skipped.records += 1
        found = read(record.value)
        if isinstance(found, Unreadable):
            skipped.add(record, found.why)
        else:
            yield record, found


def headers_of(
    app_id: str, partition: int, offset: int, content: int = 0, epoch: int = 0, seller: Position = NOWHERE
) -> list[tuple[str, bytes]]:
    """Headers of a decision or an alert.

    `source`: position of its transaction. `app`: the application that decided. `content`: hash of what was paid
    (EVENT), 0 where it is not known. `log`, where it is not 0: how often the topic of transactions had been made anew.
    `seller`, where there is one: position of the record of merchant.risk that the decision saw.
    """
    headers = [("source", b"%d:%d" % (partition, offset)), ("app", app_id.encode()), ("content", b"%x" % content)]
    if epoch:
        headers.append(("log", b"%d" % epoch))
    if seller[1] >= 0:
        headers.append(("seller", b"%d:%d" % seller))
    return headers


def epoch_of(record: KafkaRecord) -> int:
    """How often the topic of transactions had been made anew when a record of `headers_of` was published."""
    text = header_of(record, "log")
    return int(text) if text.isdigit() and len(text) <= _DIGITS else 0


def content_of(record: KafkaRecord) -> int:
    """Hash of what was paid, from the headers of a decision or an alert; 0 where they do not tell."""
    text = header_of(record, "content")
    return int(text, 16) if _HASH.fullmatch(text) else 0


def header_of(record: KafkaRecord, name: str) -> bytes:
    """A header's value, the last one of that name; empty where there is none, and where it is null."""
    return dict(record.headers or ()).get(name) or b""


def app_of(record: KafkaRecord) -> bytes:
    """Id of the application that published a decision or an alert; empty where the record has no `app` header."""
    return header_of(record, "app")


def position_of(record: KafkaRecord) -> Position:
    """Position of the transaction that a decision, an alert or a dead letter answers; NOWHERE where the header `source`
    is missing or holds anything but [topic:]partition:offset."""
    return _position(header_of(record, "source"))


def seller_of(record: KafkaRecord) -> Position:
    """Position of the record of merchant.risk that a decision saw; NOWHERE where it saw none."""
    return _position(header_of(record, "seller"))


def _position(text: bytes) -> Position:
    place, _, offset = text.rpartition(b":")
    partition = place.rpartition(b":")[2]
    if not all(number.isdigit() and len(number) <= _DIGITS for number in (partition, offset)):  # of bytes: 0 to 9 alone
        return NOWHERE
    return int(partition), int(offset)
