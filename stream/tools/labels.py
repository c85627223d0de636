"""Labels from people and their files to `fraud.labels`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from panther_core.base.errors import BadInput, InvalidEvent
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.events import MATURED, Label, decode_transaction, event_time_ms
from panther_core.data.formats.columns import Part
from panther_core.data.formats.reading import read_columns
from panther_core.data.topics import LABELS, SCORES, TRANSACTIONS
from panther_core.kafka.answers import Unreadable, label_of, read_decision
from panther_core.kafka.reading import held, make_reader, partitions_of, read, read_topic
from stream.faust_parts.producer import make_producer

FRAUD, HONEST = ("1", "true", "yes", "fraud"), ("0", "false", "no", "honest", "legitimate")
_AT_ONCE = 5000


def labels_of(file: Path, source: str, now_ms: int) -> list[Label]:
    """The labels in a CSV, Parquet or JSON-lines file with the columns transaction_id, user_id and label, and, if
    there, label_time (ISO 8601, or epoch ms) and source. Raises InvalidFile for a row that is none."""
    columns = ("transaction_id", "user_id", "label")
    part = Part(file, read_columns(file, columns, ("label_time", "source")), 1)
    ids, users = (part.text(name).to_pylist() for name in columns[:2])
    for name, words in (("transaction_id", ids), ("user_id", users)):
        part.require(name, np.array([bool(word) for word in words]), "a value")
    label = part.labels("label", FRAUD, HONEST)
    part.require("label", label >= 0, f"one of {', '.join((*FRAUD, *HONEST))}")
    times = _times(part, now_ms)
    sources = part.text("source").to_pylist() if part.has("source") else [source] * len(ids)
    return [
        Label(transaction_id=i, user_id=u, label=value, label_time=at, source=of or source)
        for i, u, value, at, of in zip(ids, users, label.tolist(), times, sources, strict=True)
    ]


def _times(part: Part, now_ms: int) -> list[int]:
    if not part.has("label_time"):
        return [now_ms] * len(part)
    words = part.text("label_time").to_pylist()
    unit = "ms" if all((word or "").lstrip("-").isdecimal() for word in words) else "iso"
    times: list[int] = part.times("label_time", unit).tolist()
    return times


async def others_of(kafka: KafkaSettings, settings: PantherSettings, delay_ms: int, now_ms: int) -> list[Label]:
    """An honest label for every payment on `transactions` that has none and is `delay_ms` older than the newest one.

    It arrived when the payment was so old: for whoever names frauds alone, a payment that is old enough is honest. A
    later label of fraud takes it back. `now_ms`: a clock that is ahead of it makes no payment old.
    """
    known = {
        (label.user_id, label.transaction_id)
        for record in await read_topic(kafka, LABELS)
        if not isinstance(label := label_of(record, now_ms), Unreadable)
    }
    paid: dict[tuple[str, str], int] = {}
    async with make_reader(kafka) as consumer:
        for part, offsets in (await held(consumer, await partitions_of(consumer, TRANSACTIONS))).items():
            async for record in read(consumer, part, offsets):
                try:
                    payment = decode_transaction(record.value, settings.rates)
                    paid_ms = event_time_ms(payment.event_time, now_ms)
                except InvalidEvent:
                    continue  # a dead letter
                paid[payment.user_id, payment.transaction_id] = paid_ms
    newest = max(paid.values(), default=0)
    return [
        Label(transaction_id=name, user_id=user, label=0, label_time=paid_ms + delay_ms, source=MATURED)
        for (user, name), paid_ms in paid.items()
        if paid_ms + delay_ms <= newest and (user, name) not in known
    ]


async def send_labels(kafka: KafkaSettings, labels: Sequence[Label]) -> None:
    """Send labels, in their order."""
    async with make_producer(kafka) as producer:
        await producer.partitions_for(LABELS)
        for low in range(0, len(labels), _AT_ONCE):
            part = labels[low : low + _AT_ONCE]
            await asyncio.gather(
                *[await producer.send(LABELS, msgspec.json.encode(one), key=one.user_id.encode()) for one in part]
            )


async def user_of(kafka: KafkaSettings, transaction_id: str) -> str:
    """Whose payment it is, by the decisions that `fraud.scores` holds. Raises BadInput where no user has such a
    payment, or several have."""
    users = set(_users(await read_topic(kafka, SCORES), transaction_id))
    if len(users) != 1:
        many = f"{len(users)} users have one" if users else "no decision that is still there is of one"
        raise BadInput(f"expected one user with a transaction {transaction_id!r}, but {many}: say whose, with --user")
    return users.pop()


def _users(records: list, transaction_id: str) -> Iterator[str]:  # type: ignore[type-arg]
    wanted = transaction_id.encode()
    for record in records:
        if record.value and wanted in record.value:
            decision = read_decision(record.value)
            if not isinstance(decision, Unreadable) and decision.transaction_id == transaction_id:
                yield decision.user_id
