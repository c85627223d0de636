"""The topics: their names and their configuration.

User-keyed topics share one partition count: a user's transactions, decisions and state meet in one partition, and
that count can never change later, since state is kept by partition.

`PANTHER_TOPIC_PREFIX` stands before every name: a second system on the same brokers, which shares nothing with the
first but the servers (a shadow replay; see offline.shadow.all_versions). It needs an application id of its own too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from panther_core.base.settings import PantherSettings

PREFIX = os.environ.get("PANTHER_TOPIC_PREFIX", "")
TRANSACTIONS = f"{PREFIX}transactions"
SCORES = f"{PREFIX}fraud.scores"
SHADOW_SCORES = f"{PREFIX}fraud.scores.shadow"
ALERTS = f"{PREFIX}fraud.alerts"
LABELS = f"{PREFIX}fraud.labels"
DEAD_LETTERS = f"{PREFIX}transactions.dlq"
MODELS = f"{PREFIX}models.updates"
PROGRESS = f"{PREFIX}models.progress"
USER_COMMANDS = f"{PREFIX}users.commands"
MERCHANT_EVENTS = f"{PREFIX}merchant.events"
MERCHANT_RISK = f"{PREFIX}merchant.risk"
MERCHANT_ALERTS = f"{PREFIX}merchant.alerts"

# decision latency is measured from the append, and a watch tells decisions before a switch from those after it
_APPENDED = {"message.timestamp.type": "LogAppendTime"}
_LARGE = {"max.message.bytes": str(4 << 20)}  # so that an oversized transaction arrives and becomes a dead letter
_FOREVER = {"retention.ms": "-1"}  # there are few records, and a roll back reads every earlier version in them
_COMPACT = {"cleanup.policy": "compact"}
_DAY_MS = 86_400_000
_COMMANDS_DAYS = 7  # they are carried out within seconds, or when workers are up again


@dataclass(frozen=True)
class Topic:
    """One topic; `by_user`: keyed by user id or merchant id, so it has the common partition count."""

    name: str
    by_user: bool = True
    config: dict[str, str] = field(default_factory=dict)


def changelog_of(app_id: str, table: str = "state") -> str:
    """Name that Faust gives the changelog topic of a table."""
    return f"{app_id}-{table}-changelog"


def merchants_app(app_id: str) -> str:
    """Application id (consumer group) of the agent that keeps merchants' histories for an application."""
    return f"{app_id}-merchants"


def all_topics(settings: PantherSettings) -> list[Topic]:
    """Every topic of one application, with every setting that the system relies on, so that no broker's default counts.

    min.insync.replicas: with `acks=all` alone a leader that has lost its followers acknowledges by itself, and what it
    then loses with its disk was called durable.
    """
    min_insync = settings.min_insync or (2 if settings.replication >= 3 else 1)
    kept = {"retention.ms": str(round(settings.retention_days * _DAY_MS))}
    recall_days = (settings.recall_hours + 1) / 24
    decided = {"retention.ms": str(round(max(settings.decisions_days, recall_days) * _DAY_MS))}
    topics = [
        Topic(TRANSACTIONS, config=_LARGE | kept),
        Topic(SCORES, config=_APPENDED | decided),
        Topic(SHADOW_SCORES, config=_APPENDED | decided),
        Topic(ALERTS, config=_APPENDED | decided),
        Topic(LABELS, config=kept),
        Topic(DEAD_LETTERS, config={"max.message.bytes": str(8 << 20)} | decided),
        Topic(MODELS, by_user=False, config=_APPENDED | _FOREVER),
        Topic(PROGRESS, by_user=False, config=_APPENDED | _COMPACT),
        Topic(USER_COMMANDS, config={"retention.ms": str(_COMMANDS_DAYS * _DAY_MS)}),
        Topic(MERCHANT_EVENTS, config=decided),
        Topic(MERCHANT_RISK, config=_COMPACT | {"min.compaction.lag.ms": decided["retention.ms"]}),
        Topic(MERCHANT_ALERTS, config=_APPENDED | decided),
        *(
            Topic(name, config=_COMPACT | {"min.cleanable.dirty.ratio": "0.2", "segment.ms": "3600000"})
            for name in (changelog_of(settings.app_id), changelog_of(merchants_app(settings.app_id), "merchants"))
        ),
    ]
    return [replace(t, config=t.config | {"min.insync.replicas": str(min_insync)}) for t in topics]
