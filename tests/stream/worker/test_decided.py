"""Held decisions: what counts as a copy, what a restart reads back from real topics, and what it ignores."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from panther_core.base.settings import KafkaSettings
from panther_core.base.times import HOUR_MS
from panther_core.data.decision import DECISION, REUSED, Decision, ModelRef
from panther_core.data.schema import hash64
from panther_core.data.table import EVENT
from panther_core.kafka.answers import headers_of
from panther_core.state.record import at_source
from stream.worker import decided as module
from stream.worker.decided import DecidedStore, keys_of
from tests.topics import make_topics

NOW_MS = time.time_ns() // 1_000_000


def event(transaction: str, content: int, offset: int, user: str = "u") -> NDArray[np.void]:
    out = np.zeros(1, EVENT)
    out["user"], out["transaction"] = hash64(user), hash64(transaction)
    out["content"], out["offset"] = content, offset
    return out


def ask(store: DecidedStore, wanted: NDArray[np.void], received_ms: int) -> tuple[float, int, bool, bytes] | None:
    """Score, source offset, whether it is the same payment, and the alert of what is held."""
    found = store.find(wanted, np.array([received_ms]), [0], keys_of(wanted)).get(0)
    if found is None:
        return None
    return float(found.decision.row["score"]), found.decision.offset, found.decision.same, found.alert


def hold(store: DecidedStore, made: NDArray[np.void], score: float, alert: bytes = b"", reused: bool = False) -> None:
    row = np.zeros(1, DECISION)
    row["score"], row["scored_at"], row["flags"] = score, NOW_MS, REUSED * reused
    store.put(made, np.array([NOW_MS]), keys_of(made), np.arange(1), row, [0], [alert])


def opened(store: DecidedStore, folder: Path) -> DecidedStore:
    store._stores[0] = store._opened(0)
    return store


def test_a_copy_is_the_same_user_id_and_content_within_the_horizon(tmp_path: Path) -> None:
    store = opened(DecidedStore(KafkaSettings(), "app", str(tmp_path), recall_hours=6), tmp_path)
    hold(store, event("receipt", 11, offset=3), 0.25, b'{"alert":1}')
    assert ask(store, event("receipt", 11, offset=900), NOW_MS + 5 * HOUR_MS) == (0.25, 3, True, b'{"alert":1}')
    assert ask(store, event("receipt", 11, offset=900), NOW_MS + 7 * HOUR_MS) is None
    assert ask(store, event("receipt", 11, offset=3), NOW_MS + 7 * HOUR_MS) is not None, "the record that was decided"
    assert ask(store, event("receipt", 11, offset=900, user="v"), NOW_MS) is None
    assert ask(store, event("other", 11, offset=900), NOW_MS) is None


def test_an_id_that_is_used_again_is_told_apart_by_its_content(tmp_path: Path) -> None:
    store = opened(DecidedStore(KafkaSettings(), "app", str(tmp_path), recall_hours=6), tmp_path)
    hold(store, event("receipt", 11, offset=3), 0.25)
    _, _, same, _ = ask(store, event("receipt", 22, offset=4), NOW_MS) or (0, 0, True, b"")
    assert not same
    hold(store, event("receipt", 22, offset=4), 0.75, reused=True)
    assert ask(store, event("receipt", 22, offset=5), NOW_MS) == (0.75, 4, True, b"")
    assert ask(store, event("receipt", 11, offset=6), NOW_MS) == (0.25, 3, True, b"")
    store.forget(0, "u")
    assert ask(store, event("receipt", 11, offset=6), NOW_MS) is None
    assert ask(store, event("receipt", 22, offset=6), NOW_MS) is None


def published(transaction: str, score: float, reused: bool = False) -> bytes:
    made = Decision(
        transaction_id=transaction, user_id="u", event_time=NOW_MS, scored_at=NOW_MS, latency_ms=1, score=score,
        threshold=0.5, alert=False, history_len=0, cold_start=False, late=False, degraded=None,
        model=ModelRef("panther", 1), id_reused=reused,
    )  # fmt: skip
    return msgspec.json.encode(made)


def test_what_a_store_lacks_is_read_back_and_what_is_not_the_applications_is_ignored(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, name = KafkaSettings(bootstrap_servers=kafka), uuid.uuid4().hex
    monkeypatch.setattr(module, "SCORES", f"scores-{name}")
    monkeypatch.setattr(module, "ALERTS", f"alerts-{name}")
    monkeypatch.setattr(module, "_CHUNK", 3)

    async def go() -> None:
        await make_topics(settings, [f"{kind}-{name}" for kind in ("scores", "alerts")])
        own = [(published(f"t{i}", 0.1), headers_of("own", 0, i, content=i + 1)) for i in range(8)]
        own.append((published("t5", 0.1), headers_of("own", 0, 40, content=6)))  # repeated for a copy
        own.append((published("t6", 0.9), headers_of("own", 0, 6, content=7)))  # contradicts: the first one stands
        own.append((published("t7", 0.4, reused=True), headers_of("own", 0, 41, content=77)))
        foreign = [
            (published("f1", 0.9), headers_of("other", 0, 20, content=1)),
            (published("f2", 0.9), headers_of("own", 1, 20, content=1)),  # of another partition
            (published("f3", 0.9), headers_of("own", 0, 1000, content=1)),  # of a record that has not come
            (published("f4", 0.9), [("source", None), ("app", b"own")]),
            (published("f5", 0.9), [("source", b"\xff:\xb2"), ("app", b"own")]),
            (published("f6", 0.9), []),
            (b"{}", headers_of("own", 0, 21)),
            (b"\x00\xff", headers_of("own", 0, 22)),
        ]
        async with AIOKafkaProducer(**settings.client_options()) as producer:
            for value, headers in own[:4] + foreign + own[4:]:
                await producer.send_and_wait(f"scores-{name}", value, partition=0, headers=headers)
        store = DecidedStore(settings, "own", str(tmp_path), recall_hours=6)
        assert await store.open(0, NOW_MS, source_end=100) == 9
        assert store.unreadable == 2
        for i in range(8):
            assert ask(store, event(f"t{i}", i + 1, offset=50), NOW_MS) == (0.1, i, True, b"")
        assert ask(store, event("t7", 77, offset=50), NOW_MS) == (0.4, 41, True, b"")
        for i in range(1, 7):
            assert ask(store, event(f"f{i}", 1, offset=50), NOW_MS) is None
        store.close()
        assert await store.open(0, NOW_MS, source_end=100) == 0, "all of it is there"
        store.close()
        elsewhere = DecidedStore(settings, "own", str(tmp_path / "other"), recall_hours=6)
        assert await elsewhere.open(0, NOW_MS, source_end=at_source(1, 2)) == 10, (
            "a log that was longer, before this one"
        )
        elsewhere.close()

    asyncio.run(go())
