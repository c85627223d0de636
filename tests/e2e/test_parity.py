"""Replays give the decisions of the stream: after many troubles at once, and as a shadow on the live topics."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench.system.parity_load import send_with_troubles, with_redeliveries
from offline.parity.online import Online
from offline.replay.columns import decision_columns
from offline.replay.request import replayer_of
from panther_core.data.formats import read_table
from panther_core.data.generator import PROFILE
from panther_core.data.topics import SCORES, SHADOW_SCORES
from panther_core.kafka.answers import NOWHERE, seller_of
from panther_core.kafka.reading import read_topic
from panther_core.kafka.updates import updates
from tests.e2e.conftest import LABEL_DELAY_MS, Stage
from tests.payments import write_payments
from trainer.fit.train_config import preset
from trainer.rollout.announce import send
from trainer.rollout.shadow_report import shadow_report
from trainer.training import train

LIVE = ("transactions", "fraud.scores", "fraud.alerts", "fraud.labels", "transactions.dlq")


def test_replay_equals_a_stream_with_every_trouble(stage: Stage) -> None:
    system, models = stage.system, Path(stage.system.settings.models_dir)
    # other labels, so that the two versions have different risks of merchants
    relabelled = replace(stage.history, label=np.roll(stage.history.label, 11))
    config = msgspec.structs.replace(preset("tiny"), epochs=0, alert_budget=0.03)
    train(
        relabelled,
        models / "2",
        config=config,
        version=2,
        label_delay_ms=LABEL_DELAY_MS,
        seed=1,
        continue_from=models / "1",
        profile=PROFILE,
    )
    sent = with_redeliveries(stage.live, seed=1)
    system.start_merchants()
    done = send_with_troubles(system, sent, 400, stage.live)
    assert len(done) == 5, done

    moved = move_threshold(stage)

    named = {seller_of(record) for record in asyncio.run(read_topic(system.kafka, SCORES))} - {NOWHERE}
    assert len(named) > 500, "decisions knew their merchants, as things went on there"

    argv = [str(Path(sys.prefix) / "bin" / "panther"), "parity", "--model", "1", "--model", "2"]
    out = system.folder / "parity"
    made = subprocess.run(
        [*argv, "--history", "topic", "--out", str(out), "--json"], env=system.environment, stdout=subprocess.PIPE
    )
    report = json.loads(made.stdout)
    assert (report["mismatches"], report["missing"], report["extra"]) == (0, 0, 0), report
    assert made.returncode == 0
    assert report["compared"] + report["repeated"] >= len(sent) + moved
    assert report["past"] == len(stage.history)
    assert report["max_abs_error"] <= 1e-5
    assert report["repeated"] > 0
    assert min(report["versions"][v] for v in ("1", "2")) > 500
    assert report["alerts_online"] == report["alerts_replayed"] > 0
    assert json.loads((out / "parity.json").read_text()) == report


def move_threshold(stage: Stage) -> int:
    """Have the alert budget kept on the running system: the worker decides by the new threshold from then on, which is
    a record of its own. Returns the number of payments decided since."""
    system = stage.system
    *_, live = before = asyncio.run(updates(system.kafka))
    scores = [one.score for one in stage.collect(set()).decisions.values() if one.model.version == live.version]
    # as if the scores had moved since the training: half of the payments are alerts
    low = msgspec.structs.replace(live, threshold=float(np.median(scores)), instead_of=live.version)
    asyncio.run(send(system.kafka, low))
    kept = subprocess.run(
        [str(Path(sys.prefix) / "bin" / "panther"), "models", "keep-budget", "--json"],
        env=system.environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    said = json.loads(kept.stdout)
    assert said["alert_share"] > 5 * said["budget"], said
    odds = [threshold / (1 - threshold) for threshold in (said["threshold"], said["moved_to"])]
    assert np.log(odds[1] / odds[0]) == pytest.approx(0.25), "one step, not all the way"
    *_, last = history = asyncio.run(updates(system.kafka))
    assert len(history) == len(before) + 2
    assert (last.version, last.threshold) == (live.version, said["moved_to"])
    assert last.why.startswith("alert budget: ")
    sent, took = 0, False
    for batch in range(30):
        part = stage.live.take(slice(len(stage.live) - 60, len(stage.live)))
        ids = [f"moved-{batch}-{name}" for name in part.transaction_id.tolist()]
        stage.produce(replace(part, transaction_id=np.array(ids)))
        ledger = stage.collect({*ids})
        decided, sent = [ledger.decisions[name] for name in ids], sent + len(ids)
        assert all(one.alert == (one.score >= one.threshold) for one in decided)
        if took:
            assert {one.threshold for one in decided} == {last.threshold}, "by the new one from then on"
            return sent
        took = decided[-1].threshold == last.threshold
    raise AssertionError("no decision by the new threshold")


def ends_and_commits(stage: Stage) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """End offsets of the live topics, committed offsets of the live consumer group, and names of all topics."""
    system = stage.system

    async def ask() -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        admin = AIOKafkaAdminClient(**system.kafka.client_options())
        await admin.start()
        try:
            commits = await admin.list_consumer_group_offsets(system.settings.app_id)
            topics = await admin.list_topics()
        finally:
            await admin.close()
        async with AIOKafkaConsumer(**system.kafka.client_options()) as consumer:
            parts = [TopicPartition(t, p) for t in LIVE for p in range(system.settings.partitions)]
            ends = await consumer.end_offsets(parts)
        return (
            {f"{tp.topic} {tp.partition}": offset for tp, offset in ends.items()},
            {f"{tp.topic} {tp.partition}": held.offset for tp, held in commits.items()},
            sorted(topics),
        )

    return asyncio.run(ask())


def test_a_shadow_decides_as_the_engine_and_leaves_the_live_system_alone(stage: Stage, tmp_path: Path) -> None:
    part = stage.history.take(slice(0, 1200))
    write_payments(part, tmp_path, [str(amount) for amount in part.amount.tolist()])
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "replay", "--data", str(tmp_path), "--format", "generic"]

    before, out = ends_and_commits(stage), tmp_path / "shadow"
    made = subprocess.run(
        [*argv, "--model", "1", "--via", "kafka", "--speed", "200000", "--out", str(out), "--json"],
        env=stage.system.environment,
        stdout=subprocess.PIPE,
    )
    assert made.returncode == 0
    shadow, result = pq.read_table(out / "decisions-v1.parquet"), json.loads(made.stdout)
    assert ends_and_commits(stage) == before
    table = read_table("generic", tmp_path)
    replayer = replayer_of(Path(stage.system.settings.models_dir), 1)
    engine = decision_columns(table, replayer.decide(table.with_unknown_merchants()), LABEL_DELAY_MS)
    assert result["missing"] == 0
    assert result["transactions"] == len(shadow) == 1200
    for name in ("transaction_id", "history_len", "alert", "late", "cold_start", "model_version", "event_time"):
        assert shadow[name].equals(engine[name]), name
    np.testing.assert_allclose(shadow["score"].to_numpy(), engine["score"].to_numpy(), atol=1e-5)


def test_a_challenger_in_the_shadow_decides_as_the_workers_did_and_leaves_them_alone(stage: Stage) -> None:
    """Version 1 on what the first test streamed: where it was live, the decisions are the workers'."""
    system = stage.system
    live = Online.of(system.settings.app_id, asyncio.run(read_topic(system.kafka, SCORES)), [])
    by_one = {p: d for p, d in live.decisions.items() if d.model.version == 1 and d.degraded is None}
    assert len(by_one) > 500
    since_ms = min(decision.scored_at - decision.latency_ms for decision in live.decisions.values())
    since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat()
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "shadow", "run", str(Path(system.settings.models_dir) / "1")]
    before = ends_and_commits(stage)
    made = subprocess.run(
        [*argv, "--since", since, "--for", "0s", "--json"], env=system.environment, stdout=subprocess.PIPE, check=True
    )
    assert ends_and_commits(stage) == before
    done = json.loads(made.stdout)
    assert done["undecided"] == 0
    shadow = Online.of(system.settings.app_id, asyncio.run(read_topic(system.kafka, SHADOW_SCORES)), [])
    assert len(shadow.decisions) == done["published"]
    both = by_one.keys() & shadow.decisions.keys()
    assert len(both) > 500
    assert {by_one[p].transaction_id for p in by_one.keys() - both} <= {
        decision.transaction_id for decision in shadow.decisions.values()
    }, "only copies have no decision of their own"
    for place in both:
        own, other = shadow.decisions[place], by_one[place]
        assert (own.history_len, own.late, own.alert) == (other.history_len, other.late, other.alert)
    scores = np.array([[part[p].score for p in sorted(both)] for part in (by_one, shadow.decisions)])
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-5)
    report = shadow_report(system.kafka, system.settings)
    assert report.shorter_history == 0
    assert report.live_versions["1"] > 500
    assert report.live_versions["2"] > 500
