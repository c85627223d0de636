"""A user out of the running system: the newest state on the changelog. Only reads, as a consumer without a group.

A state holds codes and the last decisions, not the transactions: amounts are ranges, identifiers are hashes, and of
times only the last is known to the millisecond.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from offline.explain.view import ShownDecision, UserView, behaviour, shown_decision
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.events import ModelUpdate
from panther_core.data.schema import NEW_COUNTRY, NEW_DEVICE, NEW_MERCHANT, AttributeSchema
from panther_core.data.topics import MODELS, changelog_of
from panther_core.decide.reasons import expected_of
from panther_core.kafka.answers import Unreadable, read_update
from panther_core.kafka.reading import chunks_from_end, make_reader, partitions_of
from panther_core.serving_model import ServingModel, load_serving_model
from panther_core.state.record import DECISIONS

_CHUNK = 4000
_NEW = ((NEW_MERCHANT, "new merchant"), (NEW_COUNTRY, "new country"), (NEW_DEVICE, "new device"))
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


async def view_of_live(kafka: KafkaSettings, settings: PantherSettings, user: str, events: int = 8) -> UserView:
    """The user's last events and decisions. Raises BadInput: no model live, no such user; ArtifactError."""
    async with make_reader(kafka) as consumer:
        # first, while no topic is assigned: from then on a consumer without a group knows of those alone
        value, where = await _newest_state(consumer, changelog_of(settings.app_id), user)
        update = await _newest_model(consumer)
    return state_view(value, user, where, load_serving_model(Path(update.artifact)), update.name, events)


def state_view(value: bytes, user: str, where: str, serving: ServingModel, name: str, events: int) -> UserView:
    """What a stored state says. Raises FingerprintMismatch for one of another schema or layout."""
    state = serving.codec.decode([value])[0]
    held = min(int(state["n"]), int(state["n_decisions"]), DECISIONS, serving.codec.length, events)
    shown = [_seen(state, back, serving) for back in range(held - 1, -1, -1)]
    last = datetime.fromtimestamp(int(state["last_time_ms"]) / 1000, UTC)
    return UserView(
        user_id=user,
        source=f"live state, {where}: {int(state['n']):,} events, the last at {last:%Y-%m-%d %H:%M:%S} UTC",
        model=f"{name}, encoded by version {int(state['model_version'])}, live version {serving.live.version}",
        events=shown,
        next=expected_of(state["expected"], serving.schema),
    )


def _seen(state: np.void, back: int, serving: ServingModel) -> ShownDecision:
    """The event `back` places before the newest."""
    code = state["ring"][(int(state["n"]) - 1 - back) % serving.codec.length]
    decision = state["decisions"][(int(state["n_decisions"]) - 1 - back) % DECISIONS]
    hour = int(code["hour"])
    when = f"{_DAYS[hour // 24]} {hour % 24:02d}:00"
    return shown_decision(
        decision, serving.schema, when, _came(code, serving.schema), f"#{int(decision['transaction']):016x}"
    )


def _came(code: np.void, schema: AttributeSchema) -> str:
    """A stored code in words."""
    words = [behaviour(found) for found in expected_of(code.reshape(1), schema)]
    words += [name for bit, name in _NEW if int(code["flags"]) & bit]
    return ", ".join(words)


async def _newest_model(consumer: AIOKafkaConsumer) -> ModelUpdate:
    async for chunk in chunks_from_end(consumer, TopicPartition(MODELS, 0), _CHUNK):
        for record in reversed(chunk):
            update = read_update(record.value)
            if not isinstance(update, Unreadable):
                return update
    raise BadInput(f"expected a live model on topic {MODELS}, found none: run `panther models promote` first")


async def _newest_state(consumer: AIOKafkaConsumer, topic: str, user: str) -> tuple[bytes, str]:
    """The state stored last, and where it lies; the partition that the user's key hashes to is looked at first."""
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
                return own[-1].value or b"", f"partition {partition}, offset {own[-1].offset}"
    raise BadInput(f"expected a state of the user asked for on {topic}, found none: check USER and PANTHER_APP_ID")
