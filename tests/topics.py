"""Topics that a test makes for itself."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from panther_core.base.settings import KafkaSettings


async def make_topics(settings: KafkaSettings, names: Iterable[str], partitions: int = 1, **config: str) -> None:
    """Create topics of these names, which are not there yet."""
    admin = AIOKafkaAdminClient(**settings.client_options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config) for name in names])
    finally:
        await admin.close()
