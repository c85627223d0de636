"""The history of live versions on `models.updates`, read whole: there are few records, and they are kept for ever."""

from __future__ import annotations

from panther_core.base.console import say_once
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import ModelUpdate, in_effect
from panther_core.data.topics import MODELS
from panther_core.kafka.answers import Skipped, read_update, readable
from panther_core.kafka.reading import KafkaRecord, read_topic


async def updates(kafka: KafkaSettings) -> list[ModelUpdate]:
    """Every update that took effect, oldest first; the last one is live. Records that cannot be read are said."""
    return [update for _, update in await updates_with_records(kafka)]


async def updates_with_records(kafka: KafkaSettings) -> list[tuple[KafkaRecord, ModelUpdate]]:
    """As `updates`, each with its record."""
    skipped = Skipped(MODELS)
    found = [*readable(await read_topic(kafka, MODELS), read_update, skipped)]
    skipped.say(say_once)
    counted = {id(update) for update in in_effect(update for _, update in found)}
    return [(record, update) for record, update in found if id(update) in counted]
