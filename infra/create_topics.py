"""Makes the topics of `panther_core.data.topics`, for `panther topics create` and the local system."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import all_topics


class TopicMismatch(PantherError):
    """A topic exists with another partition count than the one asked for."""


async def create_topics(kafka: KafkaSettings, settings: PantherSettings) -> dict[str, str]:
    """Make the topics that are missing; returns name -> "created" or "exists". Existing topics are never changed.

    Raises TopicMismatch when a topic exists with another partition count.
    """
    wanted = {t.name: t for t in all_topics(settings.app_id)}
    counts = {name: settings.partitions if t.by_user else 1 for name, t in wanted.items()}
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        reply = await admin.create_topics(
            [NewTopic(name, counts[name], settings.replication, topic_configs=t.config) for name, t in wanted.items()]
        )
        out = {}
        for name, code, *rest in reply.topic_errors:
            if code == 0:
                out[name] = "created"
            elif code == TopicAlreadyExistsError.errno:
                out[name] = "exists"
            else:
                raise PantherError(f"topic {name}: the broker refused to make it: {for_code(code).__name__} {rest}")
        for topic in await admin.describe_topics(list(wanted)):
            found = len(topic["partitions"])
            if found and found != counts[topic["topic"]]:
                raise TopicMismatch(
                    f"topic {topic['topic']}: expected {counts[topic['topic']]} partitions, found {found}; "
                    "set PANTHER_PARTITIONS to the existing count, or use new topics: state is kept by partition"
                )
        return out
    finally:
        await admin.close()
