"""What the consumer's fetches say of Kafka and the intake: private parts of Faust and aiokafka, as in `internals`."""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition
from faust.exceptions import ConsumerNotStarted

from stream.faust_parts.internals import assigned


def answered_ms(app: Any, topic: str) -> dict[int, int | None]:
    """When Kafka last answered a fetch (epoch ms; None: not yet), by partition, for those that are fetched now.

    A partition is not fetched while it is paused, or while records of it wait in the consumer.
    """
    try:
        fetcher = app.consumer._thread._consumer._fetcher
        states = fetcher._subscriptions.subscription.assignment.state_value
        found = {tp.partition: states(TopicPartition(*tp)) for tp in assigned(app, topic)}
    except (AttributeError, ConsumerNotStarted):  # no assignment at this moment
        return {}
    waiting = {tp.partition for tp in list(fetcher._records) if tp.topic == topic}
    return {p: s.timestamp for p, s in found.items() if s is not None and not s.paused and p not in waiting}


def taken_in(app: Any, topic: str) -> dict[int, int | None]:
    """Offset of the last record that the agent was given, by partition; None before the first."""
    return {tp.partition: app.consumer._read_offset[tp] for tp in assigned(app, topic)}
