"""A shadow's decisions beside the live ones: how far they agree, which alerts would come and go, and who was right.

A shadow (`panther shadow run`, offline.shadow.follow) decides the payments that the live system decides. Both topics
are joined by user and transaction id; of several records of one the first counts, so that what a shadow published twice
is counted once. A payment under an id that its user had used before is left out: its id names another one as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from panther_core.base.console import say_once
from panther_core.base.errors import BadInput, PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.decision import Decision
from panther_core.data.schema import hash64
from panther_core.data.topics import LABELS, SCORES, SHADOW_SCORES
from panther_core.evaluation import fraud_metrics
from panther_core.kafka.answers import Skipped, app_of, read_decision, readable
from panther_core.kafka.reading import PATIENCE_S, KafkaRecord, held, make_reader, partitions_of, read, read_topic
from panther_core.report.intervals import JudgedRows, interval
from trainer.drift.stability import counts_of, stability_index
from trainer.rollout.child import ends_with_this
from trainer.rollout.kafka_log import Id, labels_of

_EXAMPLES = 10
_BINS = 10  # of scores, by deciles of the live ones


class Changed(msgspec.Struct, frozen=True):
    """Alerts that one version raises and the other does not, by what is known of the payments.

    `too_young`: no label, and younger than labels take; `unlabelled`: none though it should have come. `examples`: the
    newest transaction ids, hashed unless ids were asked for.
    """

    alerts: int
    fraud: int
    honest: int
    too_young: int
    unlabelled: int
    examples: list[str]


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a shadow decided beside the live system. Times in epoch ms; None where there is nothing to tell it by."""

    version: int
    live_versions: dict[str, int]
    """Payments by the version that decided them live; 0: the rules."""
    since_ms: int
    until_ms: int
    """Of the records of the payments that both decided."""
    payments: int
    """Decided by both."""
    only_shadow: int
    """Decided by the shadow alone."""
    shorter_history: int
    """Payments before which the shadow knew of fewer payments of the user than the live system did: Kafka did not hold
    them any more, or they were never on the topic. Much of it makes the comparison unfair to the shadow."""
    agreement: float | None
    """Share of payments with one verdict."""
    alerts_live: int
    alerts_shadow: int
    gained: Changed
    lost: Changed
    rank_correlation: float | None
    """Of the scores, Spearman's."""
    score_shift: float | None
    """Population stability index of the shadow's scores against the live ones, over deciles of the live ones."""
    judged: int
    """Payments older than labels take, with a label."""
    frauds: int
    """Of those."""
    average_precision_live: float | None
    average_precision_shadow: float | None
    interval: tuple[float, float] | None
    """Of shadow minus live: the middle 95 % of draws of users."""


class _Published(NamedTuple):
    """First decision on each payment, and which payments came under an id that was used before."""

    decisions: dict[Id, Decision]
    reused: set[Id]


def shadow_for(
    kafka: KafkaSettings, settings: PantherSettings, folder: Path, seconds: float, label_delay_ms: int = 7 * DAY_MS
) -> ShadowReport:
    """Let the version in `folder` follow the live stream for `seconds`, in a process of its own, and compare.

    Takes `seconds`, and what the states of the users and the last payments take. The process ends with this one.
    Raises PantherError where it fails, BadInput where no payment came.
    """
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "shadow", "run", str(folder), "--for", f"{seconds}s", "--json"]
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "PANTHER_APP_ID": settings.app_id,
        "PANTHER_PARTITIONS": str(settings.partitions),
        "PANTHER_PARTITIONER": settings.partitioner,
        "PANTHER_RATES": json.dumps(settings.rates),
    }
    ran = subprocess.run(ends_with_this(argv), env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        raise PantherError(
            f"expected a shadow of {folder} for {seconds:.0f} s, got exit code {ran.returncode}: see what it said above"
        )
    done = json.loads(ran.stdout)
    return shadow_report(kafka, settings, done["version"], done["from_ms"], label_delay_ms)


def shadow_report(
    kafka: KafkaSettings,
    settings: PantherSettings,
    version: int | None = None,
    since_ms: int = 0,
    label_delay_ms: int = 7 * DAY_MS,
    show_ids: bool = False,
    seed: int = 0,
) -> ShadowReport:
    """Compare the decisions that a shadow (None: of the version that published last) made from `since_ms` on with the
    live ones. Raises BadInput where there are none."""
    return asyncio.run(_report(kafka, settings, version, since_ms, label_delay_ms, show_ids, seed))


async def _report(
    kafka: KafkaSettings,
    settings: PantherSettings,
    version: int | None,
    since_ms: int,
    label_delay_ms: int,
    show_ids: bool,
    seed: int,
) -> ShadowReport:
    skipped = {topic: Skipped(topic) for topic in (SHADOW_SCORES, SCORES, LABELS)}
    records = [r for r in await _records(kafka, SHADOW_SCORES, since_ms) if app_of(r) == settings.app_id.encode()]
    found = list(readable(records, read_decision, skipped[SHADOW_SCORES]))
    if version is None and found:
        version = max(found, key=lambda pair: pair[0].timestamp)[1].model.version
    shadow = _first([d for _, d in found if d.model.version == version and d.scored_at >= since_ms])
    if not shadow.decisions:
        wanted = "a shadow" if version is None else f"version {version}"
        raise BadInput(
            f"expected decisions of {wanted} on {SHADOW_SCORES}, found none: `panther shadow run FOLDER`, or correct "
            "--version, --since and PANTHER_APP_ID"
        )
    since_ms = min(map(_paid_ms, shadow.decisions.values()))
    records = [r for r in await _records(kafka, SCORES, since_ms) if app_of(r) == settings.app_id.encode()]
    live = _first([decision for _, decision in readable(records, read_decision, skipped[SCORES])])
    newest_ms = max((decision.event_time for decision in live.decisions.values()), default=0)
    labels = labels_of(await read_topic(kafka, LABELS), newest_ms, skipped[LABELS])
    for topic in skipped.values():
        topic.say(say_once)
    unclear = shadow.reused | live.reused
    both = [name for name in shadow.decisions if name in live.decisions and name not in unclear]
    only_shadow = sum(name not in live.decisions for name in shadow.decisions)
    return _compared(
        [live.decisions[name] for name in both],
        [shadow.decisions[name] for name in both],
        np.array([labels.get(name, (-1, 0))[0] for name in both], np.int8),
        newest_ms - label_delay_ms,
        (lambda text: text) if show_ids else (lambda text: f"{hash64(text):016x}"),
        seed,
        version=next(iter(shadow.decisions.values())).model.version,
        only_shadow=only_shadow,
    )


async def _records(kafka: KafkaSettings, topic: str, since_ms: int) -> list[KafkaRecord]:
    """The records of a topic up to its end, from an hour before `since_ms` on: clocks differ."""
    async with make_reader(kafka) as reader:
        parts = await partitions_of(reader, topic)
        if not parts:
            raise BadInput(
                f"expected a topic {topic} at {kafka.bootstrap_servers}, found none: `panther topics create`"
            )
        starts = await reader.offsets_for_times(dict.fromkeys(parts, max(0, since_ms - HOUR_MS)))
        out: list[KafkaRecord] = []
        for part, offsets in (await held(reader, parts)).items():
            if starts[part] is not None:
                span = range(max(offsets.start, starts[part].offset), offsets.stop)
                out += [record async for record in read(reader, part, span, PATIENCE_S)]
        return out


def _paid_ms(decision: Decision) -> int:
    """Time of the payment's record, at the latest when it was decided."""
    return decision.scored_at - decision.latency_ms


def _first(decisions: Sequence[Decision]) -> _Published:
    out = _Published({}, set())
    for decision in decisions:
        name = (decision.user_id, decision.transaction_id)
        out.decisions.setdefault(name, decision)
        if decision.id_reused:
            out.reused.add(name)
    return out


def _compared(
    live: Sequence[Decision],
    shadow: Sequence[Decision],
    label: NDArray[np.int8],
    matured_ms: int,
    name_of: Callable[[str], str],
    seed: int,
    *,
    version: int,
    only_shadow: int,
) -> ShadowReport:
    """The report of N payments that both decided. `matured_ms`: event time up to which labels should have come."""
    score = [np.array([decision.score for decision in side], np.float64) for side in (live, shadow)]
    alert = [np.array([decision.alert for decision in side], np.bool_) for side in (live, shadow)]
    event_ms = np.array([decision.event_time for decision in live], np.int64)
    old, sent = event_ms <= matured_ms, [_paid_ms(decision) for decision in shadow]

    def changed(rows: NDArray[np.bool_]) -> Changed:
        newest = sorted(np.flatnonzero(rows).tolist(), key=lambda row: sent[row], reverse=True)[:_EXAMPLES]
        return Changed(
            alerts=int(rows.sum()),
            fraud=int((label[rows] == 1).sum()),
            honest=int((label[rows] == 0).sum()),
            too_young=int((rows & (label < 0) & ~old).sum()),
            unlabelled=int((rows & (label < 0) & old).sum()),
            examples=[name_of(live[row].transaction_id) for row in newest],
        )

    judged = old & (label >= 0)
    frauds = int((label[judged] == 1).sum())
    precision: list[float | None] = [None, None]
    found: tuple[float, float] | None = None
    if 0 < frauds < judged.sum():
        before, after = (part[judged] for part in score)
        users = np.unique([decision.user_id for decision in live], return_inverse=True)[1][judged]
        rows = JudgedRows.of(label[judged], users, seed)
        precision = [fraud_metrics(part, label[judged])["average_precision"] for part in (before, after)]
        found = interval(rows.average_precision(after) - rows.average_precision(before))
    varied = len(live) > 1 and all(np.ptp(part) > 0 for part in score)
    edges = np.quantile(score[0], np.linspace(0, 1, _BINS + 1)[1:-1]) if len(live) else np.zeros(0)
    bins = [np.searchsorted(edges, part, side="right") for part in score]
    known = zip(live, shadow, strict=True)
    return ShadowReport(
        version=version,
        live_versions={str(number): n for number, n in sorted(Counter(d.model.version for d in live).items())},
        since_ms=min(sent, default=0),
        until_ms=max(sent, default=0),
        payments=len(live),
        only_shadow=only_shadow,
        shorter_history=sum(after.history_len < before.history_len for before, after in known),
        agreement=float((alert[0] == alert[1]).mean()) if len(live) else None,
        alerts_live=int(alert[0].sum()),
        alerts_shadow=int(alert[1].sum()),
        gained=changed(alert[1] & ~alert[0]),
        lost=changed(alert[0] & ~alert[1]),
        rank_correlation=float(spearmanr(*score).statistic) if varied else None,
        score_shift=stability_index(*map(counts_of, bins)) if len(live) else None,
        judged=int(judged.sum()),
        frauds=frauds,
        average_precision_live=precision[0],
        average_precision_shadow=precision[1],
        interval=found,
    )
