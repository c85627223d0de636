"""A shadow on a real broker decides what a replay of the same topic decides, and once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from offline.replay.request import ReplayRequest, run_replay
from offline.replay.sellers import sellers_of
from offline.replay.topic import read_log
from offline.shadow import partition as module
from offline.shadow.follow import Shadow
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.generator import PROFILE
from panther_core.data.table import TransactionTable
from panther_core.kafka.answers import app_of, position_of
from panther_core.serving_model import load_serving_model
from stream.faust_parts.producer import make_producer
from tests.offline.shadow.stage import Stage, arrived
from trainer.fit.train_config import preset
from trainer.rollout.shadow_report import shadow_for, shadow_report
from trainer.training import train

_ROWS, _START = 900, 500


@pytest.fixture(scope="module")
def challenger(log: TransactionTable, artifact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version trained anew, with another schema and another vocabulary."""
    folder = tmp_path_factory.mktemp("challengers") / "2"
    config = msgspec.structs.replace(preset("tiny"), vocabulary=40, amount_buckets=6)
    train(log, folder, config=config, version=2, label_delay_ms=DAY_MS, seed=1, profile=PROFILE)
    live, other = load_serving_model(artifact_folder), load_serving_model(folder)
    assert live.codec.schema_id != other.codec.schema_id
    return folder


@pytest.fixture
def stage(kafka: str, log: TransactionTable, artifact_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(kafka, arrived(log, slice(1000, 1000 + _ROWS)), artifact_folder, monkeypatch)


def replayed(stage: Stage, folder: Path, out: Path) -> dict[tuple[str, str], float]:
    """Scores of `panther replay --topic transactions --as-decided`, by user and transaction."""
    source = asyncio.run(read_log(stage.kafka, stage.prefix + "transactions")).merged()
    places = list(zip(source.partition.tolist(), source.offset.tolist(), strict=True))
    seller = asyncio.run(sellers_of(stage.kafka, stage.settings.app_id, places))
    source = replace(source, table=replace(source.table, seller=seller))
    request = ReplayRequest(
        Path("topic"), "csv", (int(folder.name),), folder.parent, since="2000-01-01", log=source, chunk_rows=250
    )
    run_replay(request, out, lambda _: None)
    table = pq.read_table(out / f"decisions-v{folder.name}.parquet")
    names = zip(table["user_id"].to_pylist(), table["transaction_id"].to_pylist(), strict=True)
    return dict(zip(names, table["score"].to_pylist(), strict=True))


def test_it_decides_the_live_stream_as_a_replay_of_the_topic(stage: Stage, challenger: Path, tmp_path: Path) -> None:
    """With copies, records that are none, late payments, and live decisions that come late and out of order."""
    later = list(range(_START, _ROWS))

    async def go() -> Shadow:
        await stage.pay(range(_START))
        shadow = Shadow(stage.kafka, stage.settings, challenger)
        running = asyncio.create_task(shadow.run(None))
        while not shadow._parts or shadow.done.past < _START:
            await asyncio.sleep(0.05)
            assert not running.done(), running.exception()
        await stage.pay(later[:250])
        await stage.pay(later[200:220])  # copies
        await stage.pay([_START - 5])  # a copy of what was paid before the shadow began
        await _send_garbage(stage)
        await stage.decide(later[:250][::-1])
        await stage.pay(later[250:])
        await stage.decide(later[250:])
        await stage.decide(later[200:220])  # said again
        while shadow.done.published < len(later):
            await asyncio.sleep(0.05)
            assert not running.done(), running.exception()
        running.cancel()
        return shadow

    shadow = asyncio.run(go())
    found = stage.published()
    assert len(found) == len(later) == shadow.done.published
    assert (shadow.done.past, shadow.done.invalid) == (_START, 2)
    expected = replayed(stage, challenger, tmp_path / "out")
    by_name = {(decision.user_id, decision.transaction_id): decision for _, decision in found}
    assert by_name.keys() == {*expected} - {
        (stage.table.user[row], str(stage.table.transaction_id[row])) for row in range(_START)
    }
    assert {decision.model.version for decision in by_name.values()} == {2}
    own = np.array([decision.score for decision in by_name.values()])
    other = np.array([expected[name] for name in by_name])
    assert np.ptp(own) > 1e-3
    # scores are published with six digits: batches of other sizes may round the last one otherwise
    assert (own == other).mean() > 0.99
    np.testing.assert_allclose(own, other, rtol=0, atol=1.01e-6)
    assert all(record.key == decision.user_id.encode() for record, decision in found)
    assert {app_of(record) for record, _ in found} == {b"staged"}
    assert {position_of(record) for record, _ in found} == {stage.places[row] for row in later}
    assert {record.partition for record, _ in found} == {0, 1, 2, 3}
    assert all(record.partition == position_of(record)[0] for record, _ in found)


async def _send_garbage(stage: Stage) -> None:
    async with make_producer(stage.kafka) as producer:
        await producer.send_and_wait(stage.prefix + "transactions", b"{", b"u")
        await producer.send_and_wait(stage.prefix + "transactions", None, b"u")


def test_what_was_published_is_not_published_again_and_a_copy_counts_once(stage: Stage, challenger: Path) -> None:
    rows = range(300)
    asyncio.run(stage.pay(rows))
    asyncio.run(stage.decide(rows))
    since_ms = stage.sent_ms(200)

    def run() -> Shadow:
        shadow = Shadow(stage.kafka, stage.settings, challenger, since_ms)
        asyncio.run(shadow.run(0))
        return shadow

    first = run().done
    assert (first.past, first.published, first.already_published, first.undecided) == (200, 100, 0, 0)
    again = run().done
    assert (again.past, again.published, again.already_published) == (200, 0, 100)
    assert len(stage.published()) == 100
    report = shadow_report(stage.kafka, stage.settings)
    assert (report.version, report.payments, report.shorter_history, report.only_shadow) == (2, 100, 0, 0)

    async def copy() -> None:  # as two shadows of one version at a time would
        async with make_producer(stage.kafka) as producer:
            for record, decision in found:
                value = msgspec.json.encode(msgspec.structs.replace(decision, score=0.5))
                headers = list(record.headers)
                await producer.send(record.topic, value, record.key, record.partition, headers=headers)

    found = stage.published()
    asyncio.run(copy())
    assert len(stage.published()) == 200
    assert shadow_report(stage.kafka, stage.settings) == report


def test_a_payment_that_is_never_decided_live_is_decided_all_the_same(
    stage: Stage, challenger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNDECIDED_S", 0.5)
    asyncio.run(stage.pay(range(40)))
    asyncio.run(stage.decide(range(20)))
    shadow = Shadow(stage.kafka, stage.settings, challenger, stage.began_ms)
    asyncio.run(shadow.run(0))
    assert (shadow.done.past, shadow.done.published, shadow.done.undecided) == (0, 40, 20)
    report = shadow_report(stage.kafka, stage.settings)
    assert (report.payments, report.only_shadow) == (20, 20)


def test_a_shadow_of_the_live_version_agrees_with_it_and_is_a_process_of_its_own(
    stage: Stage, artifact_folder: Path
) -> None:
    """Beside payments that go on; what `panther refresh` asks for."""
    asyncio.run(stage.pay(range(_START)))
    stop = threading.Event()

    def live() -> None:
        for low in range(_START, _ROWS, 10):
            if stop.wait(0.2):
                break
            rows = range(low, low + 10)
            asyncio.run(stage.pay(rows))
            asyncio.run(stage.decide([row for row in rows if row in stage.decisions]))

    paying = threading.Thread(target=live)
    paying.start()
    try:
        report = shadow_for(stage.kafka, stage.settings, artifact_folder, 2)
    finally:
        stop.set()
        paying.join()
    assert report.version == 1
    assert report.live_versions == {"1": report.payments}
    assert report.payments > 0
    assert report.shorter_history == 0
    assert report.agreement == 1
    assert (report.gained.alerts, report.lost.alerts) == (0, 0)
    assert report.rank_correlation == pytest.approx(1, abs=1e-3)
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "shadow", "report", "--json"]
    environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap, "PANTHER_APP_ID": "staged"}
    environment |= {"PANTHER_TOPIC_PREFIX": stage.prefix}
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(said)["payments"] == report.payments


def test_it_gives_way_to_the_others_of_its_machine_and_ends_when_it_is_told_to(stage: Stage, challenger: Path) -> None:
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "shadow", "run", str(challenger), "--json"]
    environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shadow:
        assert shadow.stderr is not None
        said = next((line for line in shadow.stderr if "follows the stream" in line), None)
        nice = psutil.Process(shadow.pid).nice()
        shadow.terminate()  # before anything may fail: the block waits for its end
        assert shadow.stdout is not None
        assert json.loads(shadow.stdout.read())["version"] == 2
    assert said is not None
    assert nice == max(10, psutil.Process().nice())
    assert shadow.returncode == 0


def test_what_is_missing_is_named(kafka: str, stage: Stage, challenger: Path) -> None:
    settings = stage.settings.model_copy(update={"partitions": 3})
    with pytest.raises(BadInput, match=r"transactions of 3 partitions, found 4.*PANTHER_PARTITIONS"):
        asyncio.run(Shadow(stage.kafka, settings, challenger).run(0))
    with pytest.raises(BadInput, match=r"decisions of version 9 .*panther shadow run"):
        shadow_report(KafkaSettings(bootstrap_servers=kafka), PantherSettings(app_id="staged"), 9)
