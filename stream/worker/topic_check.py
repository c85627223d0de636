"""The check that a worker makes before it joins its group: are the topics there, with one partition count?

A worker that starts on other counts would join, and then crash, or keep users of a partition without a state of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code

from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import (
    MERCHANT_ALERTS,
    MERCHANT_EVENTS,
    MERCHANT_RISK,
    MODELS,
    SHADOW_SCORES,
    all_topics,
    changelog_of,
    merchants_app,
)
from panther_core.kafka.reading import require_kafka

_MISSING = "make it with `panther topics create`, or let this user describe it"
_OTHER = (
    "set PANTHER_PARTITIONS to the count that all topics by user have, or use new topics (PANTHER_TOPIC_PREFIX, "
    "PANTHER_APP_ID): states are kept by partition, so a topic cannot grow"
)
_MADE_S = 3.0  # a broker may not describe a topic yet that was made a moment ago


class TopicMismatch(PantherError):
    """A topic is missing, or has another partition count than the one asked for."""


async def partition_counts(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int | str]:
    """Partitions of each topic, or the name of the broker's error where it does not describe the topic."""
    described = await admin.describe_topics(list(names))
    return {
        topic["topic"]: for_code(topic["error_code"]).__name__ if topic["error_code"] else len(topic["partitions"])
        for topic in described
    }


def wrong_counts(found: Mapping[str, int | str], settings: PantherSettings) -> list[str]:
    """What is wrong with the topics of `found`: one line for all that have the same wrong partition count or error."""
    names: dict[tuple[int, int | str], list[str]] = {}
    for topic in all_topics(settings):
        wanted = settings.partitions if topic.by_user else 1
        if (count := found.get(topic.name, wanted)) != wanted:
            names.setdefault((wanted, count), []).append(topic.name)
    return [
        f"topic {', '.join(same)}: expected {wanted} partitions, found {count}: "
        + (_MISSING if isinstance(count, str) else _OTHER)
        for (wanted, count), same in names.items()
    ]


async def require_topics(kafka: KafkaSettings, settings: PantherSettings, merchants: bool = False) -> None:
    """Raises KafkaUnavailable, or TopicMismatch with all that is wrong in one line.

    Looks at what a worker reads and writes, or `panther merchants`: neither need be allowed to see the other's topics.
    """
    await require_kafka(kafka)
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        own = changelog_of(merchants_app(settings.app_id), "merchants")
        every = {topic.name for topic in all_topics(settings)}
        names = sorted(
            {own, MERCHANT_RISK, MERCHANT_ALERTS, MERCHANT_EVENTS, MODELS}
            if merchants
            else every - {own, MERCHANT_ALERTS, SHADOW_SCORES}
        )
        found = await partition_counts(admin, names)
        end_s = time.monotonic() + _MADE_S
        while any(isinstance(count, str) for count in found.values()) and time.monotonic() < end_s:
            await asyncio.sleep(0.2)
            found = await partition_counts(admin, names)
    finally:
        await admin.close()
    if wrong := wrong_counts(found, settings):
        raise TopicMismatch("; ".join(wrong))
