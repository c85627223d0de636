"""A micro-batch whose partitions are moved while it waits for the model: the next owner decides, not this worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from rocksdict import WriteBatch

from panther_core.base.settings import KafkaSettings
from panther_core.data.decision import Decision
from panther_core.data.table import TransactionTable
from panther_core.data.topics import SCORES
from panther_core.decide.scoring import SURPRISE, EncodeRequest, EncodeResponse, ScoreRequest, ScoreResponse
from panther_core.serving_model import ServingModel, load_serving_model
from stream.ops.flood import DeadLetterNotice
from stream.worker.decided import DecidedStore
from stream.worker.intake import Placement
from stream.worker.merchant_log import MerchantLog
from stream.worker.processor import Processor
from stream.worker.risk_book import RiskBook
from stream.worker.source_log import SourceLog
from stream.worker.state_store import StateStore, StoredBatch
from stream.worker.warm_up import WarmUp


class Sent:
    """In the producer's place: everything is durable at once."""

    def __init__(self) -> None:
        self.values: dict[str, list[bytes]] = {}

    async def send_all(self, topic: str, partition: int, records: Iterable[tuple[Any, bytes, Any]]) -> Any:
        self.values.setdefault(topic, []).extend(value for _, value, _ in records)
        done = asyncio.get_running_loop().create_future()
        done.set_result([])
        return done


class Store:
    """In RocksDB's place: empty, and counts what is written."""

    written = 0

    def get(self, keys: list[bytes]) -> list[None]:
        return [None] * len(keys)

    def write(self, batch: WriteBatch) -> None:
        self.written += len(batch)


class Scorer:
    """Answers with one score; the group is rebalanced meanwhile where `moves`."""

    def __init__(self, app: Any, width: int, moves: bool) -> None:
        self.app, self.width, self.moves = app, width, moves

    async def ask(self, request: ScoreRequest | EncodeRequest, version: int) -> ScoreResponse | EncodeResponse:
        if isinstance(request, EncodeRequest):
            count = len(request.user)
            return EncodeResponse(np.zeros((count, self.width), np.float32), np.zeros((count, 3), np.uint64))
        await asyncio.sleep(0)
        self.app.consumer_generation_id += self.moves
        count = len(request.code)
        return ScoreResponse(np.zeros(count, np.float32), np.zeros((count, len(SURPRISE)), np.float32))


def process(
    log: TransactionTable, model: ServingModel, moves: bool, folder: Path
) -> tuple[StoredBatch, Sent, Sent, Store]:
    """What came of ten transactions: batch, decisions sent, states sent, states stored."""
    app = SimpleNamespace(consumer_generation_id=1, conf=SimpleNamespace(id="app"))
    store = Store()
    data = SimpleNamespace(_db_for_partition=lambda _: store, partition_path=lambda _: Path("/nowhere"))
    table = SimpleNamespace(data=data, changelog_topic_name="changelog")
    producer, changelog = Sent(), Sent()

    async def current() -> ServingModel:
        return model

    decided = DecidedStore(KafkaSettings(), "app", str(folder), recall_hours=6)
    decided._stores[0] = decided._opened(0)
    source = SourceLog(app, KafkaSettings(), table, decided, partitions=1)
    scorer: Any = Scorer(app, model.codec.dtype["cached"].shape[0], moves)
    processor = Processor(
        app,
        SimpleNamespace(current=current, version=lambda _: model),  # type: ignore[arg-type]
        WarmUp(scorer, 0),
        scorer,
        producer,  # type: ignore[arg-type]
        StateStore(table, changelog),  # type: ignore[arg-type]
        decided,
        source,
        Placement(1, "murmur2"),
        DeadLetterNotice(),
        MerchantLog(producer, 1),  # type: ignore[arg-type]
        RiskBook(KafkaSettings()),
    )
    events = [
        SimpleNamespace(
            message=SimpleNamespace(
                key=row.user_id.encode(),
                value=msgspec.json.encode(row),
                offset=i,
                partition=0,
                timestamp=2e9,  # after every event
                generation_id=1,
            )
        )
        for i, row in enumerate(log.take(slice(0, 10)).rows())
    ]
    return asyncio.run(processor.process(events, lambda: None)), producer, changelog, store


@pytest.fixture
def model(artifact_folder: Path) -> ServingModel:
    return load_serving_model(artifact_folder)


def test_a_batch_is_published_and_stored(log: TransactionTable, model: ServingModel, tmp_path: Path) -> None:
    _, producer, changelog, store = process(log, model, moves=False, folder=tmp_path)
    made = [msgspec.json.decode(value, type=Decision) for value in producer.values[SCORES]]
    assert sorted(d.transaction_id for d in made) == sorted(log.transaction_id[:10].tolist())
    assert store.written == len(changelog.values["changelog"]) > 1, "the states, and the mark of the newest record"


def test_a_batch_whose_partitions_are_moved_publishes_and_stores_nothing(
    log: TransactionTable, model: ServingModel, tmp_path: Path
) -> None:
    written, producer, changelog, store = process(log, model, moves=True, folder=tmp_path)
    assert written.generation == 1, "not acked: its new owner gets them"
    assert not producer.values
    assert not changelog.values
    assert not store.written
