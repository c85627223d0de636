"""A user out of the running system: the newest state on the changelog, and the newest decisions. Only reads, as a
consumer without a group.

A state holds codes, not the transactions: amounts are ranges, and merchants are hashes. What was expected in the place
of an event is published with alerts alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from offline.explain.view import ShownDecision, UserView, behaviour, shown_decision
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.decision import Alert, Decision
from panther_core.data.events import ModelUpdate
from panther_core.data.schema import NEW_COUNTRY, NEW_DEVICE, NEW_MERCHANT, AttributeSchema
from panther_core.data.topics import ALERTS, MODELS, SCORES, changelog_of
from panther_core.decide.reasons import expected_of
from panther_core.decide.records import row_of
from panther_core.kafka.answers import Position, read_alert, read_decision
from panther_core.kafka.reading import chunks_from_end, make_reader, partitions_of
from panther_core.kafka.updates import updates
from panther_core.serving_model import ServingModel, load_serving_model

_CHUNK = 4000
_NEW = ((NEW_MERCHANT, "new merchant"), (NEW_COUNTRY, "new country"), (NEW_DEVICE, "new device"))


async def view_of_live(
    kafka: KafkaSettings, settings: PantherSettings, user: str, events: int = 8, upto: int | None = None
) -> UserView:
    """The user's last events and decisions. Raises BadInput: no model live, no such user; ArtifactError.

    `upto`: number of the last event shown, counted from 0; the newest one if not given. Decisions are looked for from
    the newest one back, as far as `fraud.scores` keeps them.
    """
    async with make_reader(kafka) as consumer:
        # first, while no topic is assigned: from then on a consumer without a group knows of those alone
        value, place = await _newest_state(consumer, changelog_of(settings.app_id), user)
        update = await _newest_model(kafka)
        serving = load_serving_model(Path(update.artifact))
        state = serving.codec.decode([value])[0]
        made = await _newest_decisions(consumer, user, place[0], state, events, upto)
        alerts = await _alerts_of(consumer, user, place[0], made)
    last = datetime.fromtimestamp(int(state["last_time_ms"]) / 1000, UTC)
    return UserView(
        user_id=user,
        source=f"live state, partition {place[0]}, offset {place[1]}: {int(state['n']):,} events, the last at "
        f"{last:%Y-%m-%d %H:%M:%S} UTC",
        model=f"{update.name}, encoded by version {int(state['model_version'])}, live version {serving.live.version}",
        events=[_shown(state, decision, alerts.get(decision.history_len), serving) for decision in made],
        next=expected_of(state["expected"], serving.schema),
    )


async def _newest_decisions(
    consumer: AIOKafkaConsumer, user: str, partition: int, state: np.void, most: int, upto: int | None
) -> list[Decision]:
    """The user's newest decisions, at most `most`, oldest first. `partition`: of all that is keyed by the user; `upto`:
    number of the last event.

    A decision is known by its place in the history; of copies the newest counts, and none from before a reset.
    """
    found: dict[int, Decision] = {}
    end = int(state["n"]) if upto is None else min(int(state["n"]), upto + 1)
    async for chunk in chunks_from_end(consumer, TopicPartition(SCORES, partition), _CHUNK):
        for record in reversed(chunk):
            decision = read_decision(record.value) if record.key == user.encode() else None
            if isinstance(decision, Decision) and decision.history_len < end:
                found.setdefault(decision.history_len, decision)
        if len(found) >= min(most, end):
            break
    return [found[n] for n in sorted(found)[-most:]]


async def _alerts_of(consumer: AIOKafkaConsumer, user: str, partition: int, made: list[Decision]) -> dict[int, Alert]:
    """The alerts that belong to these decisions, by history_len, as far as `fraud.alerts` keeps them."""
    wanted = {(d.history_len, d.transaction_id) for d in made if d.alert}
    found: dict[int, Alert] = {}
    if not wanted:
        return found
    async for chunk in chunks_from_end(consumer, TopicPartition(ALERTS, partition), _CHUNK):
        for record in reversed(chunk):
            alert = read_alert(record.value) if record.key == user.encode() else None
            if isinstance(alert, Alert) and (alert.history_len, alert.transaction_id) in wanted:
                found.setdefault(alert.history_len, alert)
        if len(found) == len(wanted):
            break
    return found


def _shown(state: np.void, decision: Decision, alert: Alert | None, serving: ServingModel) -> ShownDecision:
    length = serving.codec.length
    within = int(state["n"]) - decision.history_len <= length
    when = f"{datetime.fromtimestamp(decision.event_time / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    came = _came(state["ring"][decision.history_len % length], serving.schema) if within else ""
    row, told = row_of(decision, alert), None if alert is None else alert.reasons
    shown = shown_decision(row, serving.schema, when, came, decision.transaction_id, reasons=told)
    return msgspec.structs.replace(shown, expected=[] if alert is None else alert.expected)


def _came(code: np.void, schema: AttributeSchema) -> str:
    """A stored code in words."""
    words = [behaviour(found) for found in expected_of(code.reshape(1), schema)]
    words += [name for bit, name in _NEW if int(code["flags"]) & bit]
    return ", ".join(words)


async def _newest_model(kafka: KafkaSettings) -> ModelUpdate:
    if history := await updates(kafka):
        return history[-1]
    raise BadInput(f"expected a live model on topic {MODELS}, found none: run `panther models promote` first")


async def _newest_state(consumer: AIOKafkaConsumer, topic: str, user: str) -> tuple[bytes, Position]:
    """The state stored last, its partition and offset; the partition that the key hashes to is looked at first."""
    parts = {part.partition: part for part in await partitions_of(consumer, topic)}
    if not parts:
        raise BadInput(f"expected the changelog {topic}, found no such topic: check PANTHER_APP_ID and the brokers")
    key = user.encode()
    first = DefaultPartitioner()(key, list(parts), list(parts))
    for partition in sorted(parts, key=lambda number: number != first):
        async for chunk in chunks_from_end(consumer, parts[partition], _CHUNK):
            own = [record for record in chunk if record.key == key]
            if own and own[-1].value is None:
                break  # deleted
            if own:
                return own[-1].value or b"", (partition, own[-1].offset)
    raise BadInput(f"expected a state of the user asked for on {topic}, found none: check USER and PANTHER_APP_ID")
