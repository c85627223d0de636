"""Makes and checks the topics of `panther_core.data.topics`, for `panther topics create` and the local system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import Topic, all_topics
from stream.worker.topic_check import TopicMismatch, partition_counts, wrong_counts


@dataclass(frozen=True)
class Checked:
    """What stands otherwise than wanted, a line each. `wrong`: partitions; `differs`: settings that can be mended."""

    wrong: list[str]
    differs: list[str]


async def create_topics(kafka: KafkaSettings, settings: PantherSettings) -> dict[str, str]:
    """Make the topics that are missing; returns name -> "created" or "exists". Existing topics are never changed.

    Raises TopicMismatch when a topic exists with another partition count.
    """
    wanted = all_topics(settings)
    async with admin_of(kafka) as admin:
        reply = await admin.create_topics(
            [
                NewTopic(t.name, settings.partitions if t.by_user else 1, settings.replication, topic_configs=t.config)
                for t in wanted
            ]
        )
        out = {}
        for name, code, *rest in reply.topic_errors:
            if code == 0:
                out[name] = "created"
            elif code == TopicAlreadyExistsError.errno:
                out[name] = "exists"
            else:
                raise PantherError(f"topic {name}: the broker refused to make it: {for_code(code).__name__} {rest}")
        counts = await partition_counts(admin, out)
    # a topic that was made this moment may not be described yet
    known = {name: count for name, count in counts.items() if out[name] == "exists"}
    if wrong := wrong_counts(known, settings):
        raise TopicMismatch("; ".join(wrong))
    return out


async def check_topics(kafka: KafkaSettings, settings: PantherSettings) -> Checked:
    """Compare the topics that stand with those that are wanted; changes nothing."""
    wanted = all_topics(settings)
    async with admin_of(kafka) as admin:
        counts = await partition_counts(admin, [t.name for t in wanted])
        there = [t for t in wanted if isinstance(counts[t.name], int)]
        found = await _settings_of(admin, there)
    lines = [line for t in there for line in _differences(t, found.get(t.name), kafka.bootstrap_servers)]
    return Checked(wrong_counts(counts, settings), lines)


def _differences(topic: Topic, found: Mapping[str, str] | None, servers: str) -> list[str]:
    if found is None:
        return [f"topic {topic.name}: its settings cannot be read: let this user describe its configuration"]
    other = {name: value for name, value in topic.config.items() if found.get(name) != value}
    mend = ",".join(f"{name}={value}" for name, value in other.items())
    return [
        f"topic {topic.name}: expected {name} {value}, found {found.get(name)}: `kafka-configs.sh --bootstrap-server "
        f"{servers} --alter --entity-type topics --entity-name {topic.name} --add-config {mend}`"
        for name, value in other.items()
    ]


async def _settings_of(admin: AIOKafkaAdminClient, topics: list[Topic]) -> dict[str, dict[str, str]]:
    """The settings of each topic that the broker lets this client read."""
    replies = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t.name) for t in topics])
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for reply in replies
        for code, _, _, name, entries in reply.resources
        if code == 0
    }


@asynccontextmanager
async def admin_of(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
