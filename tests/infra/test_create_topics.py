"""Topics are made with every setting that the system relies on, and what stands otherwise is said."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra import create_topics as module
from infra.create_topics import check_topics, create_topics
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import LABELS, SCORES, TRANSACTIONS, Topic, all_topics
from stream.worker import topic_check
from stream.worker.topic_check import TopicMismatch, require_topics

DAY_MS = 86_400_000


def settings_of(topics: list[Topic]) -> dict[str, dict[str, str]]:
    return {topic.name: topic.config for topic in topics}


def test_what_is_durable_is_on_two_disks_where_there_are_three_copies() -> None:
    for replication, given, wanted in ((1, None, "1"), (2, None, "1"), (3, None, "2"), (5, None, "2"), (3, 3, "3")):
        topics = all_topics(PantherSettings(replication=replication, min_insync=given))
        assert {topic.config["min.insync.replicas"] for topic in topics} == {wanted}


def test_labels_and_their_transactions_outlive_the_labels_delay_and_decisions_the_recall() -> None:
    kept = settings_of(all_topics(PantherSettings(retention_days=120, decisions_days=1, recall_hours=72)))
    assert int(kept[TRANSACTIONS]["retention.ms"]) == int(kept[LABELS]["retention.ms"]) == 120 * DAY_MS
    assert int(kept[SCORES]["retention.ms"]) > 3 * DAY_MS
    for name, config in kept.items():
        assert config.keys() & {"retention.ms", "cleanup.policy"}, f"{name} has the broker's default"


def test_what_stands_is_compared_with_what_is_wanted(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"topics-{uuid.uuid4().hex[:8]}"

    def own(settings: PantherSettings) -> list[Topic]:
        return [replace(topic, name=f"{name}.{topic.name}") for topic in all_topics(settings)]

    monkeypatch.setattr(module, "all_topics", own)
    monkeypatch.setattr(topic_check, "all_topics", own)
    servers, settings = KafkaSettings(bootstrap_servers=kafka), PantherSettings(app_id=name, partitions=2)
    scores, labels, updates = (f"{name}.{topic}" for topic in (SCORES, LABELS, "models.updates"))

    async def go() -> None:
        with pytest.raises(
            TopicMismatch, match=f"{scores}, .*: expected 2 partitions, found UnknownTopicOrPartitionError"
        ):
            await require_topics(servers, settings)
        assert set((await create_topics(servers, settings)).values()) == {"created"}
        await require_topics(servers, settings)
        assert await check_topics(servers, settings) == module.Checked([], [])
        assert set((await create_topics(servers, settings)).values()) == {"exists"}

        admin = AIOKafkaAdminClient(**servers.client_options())
        await admin.start()
        try:
            # AlterConfigs replaces all settings of a topic: what is not named goes back to the broker's default
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, labels, configs={"retention.ms": str(7 * DAY_MS)})]
            )
            await admin.create_partitions({scores: NewPartitions(3)})
            await admin.delete_topics([updates])
        finally:
            await admin.close()
        checked = await check_topics(servers, settings)
        while len(checked.wrong) < 2:  # a broker may show what it was told a moment later
            await asyncio.sleep(0.1)
            checked = await check_topics(servers, settings)
        assert [line.partition(":")[0] for line in checked.wrong] == [f"topic {scores}", f"topic {updates}"]
        assert f"topic {scores}: expected 2 partitions, found 3" in checked.wrong[0]
        (line,) = checked.differs
        assert f"topic {labels}: expected retention.ms {90 * DAY_MS}, found {7 * DAY_MS}" in line
        assert f"--entity-name {labels} --add-config retention.ms={90 * DAY_MS}" in line
        with pytest.raises(TopicMismatch, match=f"topic {scores}: expected 2 partitions, found 3"):
            await require_topics(servers, settings)
        with pytest.raises(TopicMismatch, match=f"topic {scores}: expected 2 partitions, found 3"):
            await create_topics(servers, settings)

    asyncio.run(asyncio.wait_for(go(), 60))
