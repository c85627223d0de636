"""The private parts of Faust's table recovery that the worker touches: bulk restore first, and stores it can trust.

Written for the versions that `internals` names; tests/stream/faust_parts/test_internals.py fails when one of the
attributes used here moves.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faust.tables.recovery import Recovery
from rocksdict import WriteOptions

from panther_core.base.settings import KafkaSettings
from stream.faust_parts.internals import partition_store
from stream.faust_parts.restore import newest, restore

logger = logging.getLogger(__name__)

#: Key under which a store keeps the id of the application whose states it holds. The id is shorter than any state, so
#: a reader of states cannot take it for one.
OWNER = b"__panther\0application"


class BulkRecovery(Recovery):
    """Loads changelogs in bulk first, then lets Faust's own recovery apply the few records that came meanwhile."""

    def __init__(self, app: Any, table: Any, kafka: KafkaSettings) -> None:
        super().__init__(app, app.tables, beacon=app.tables.beacon, loop=app.tables.loop)
        self._table, self._kafka = table, kafka

    async def _build_offsets(self, consumer: Any, tps: set[Any], destination: Any, title: str) -> None:
        topic = self._table.changelog_topic_name
        mine = {tp.partition: tp for tp in tps if tp.topic == topic}
        ends = await consumer.highwaters(*mine.values())
        for partition, tp in mine.items():
            if not trusted(self._table, partition, destination[tp], ends[tp] or 0):
                destination[tp] = None
        stores = {p: partition_store(self._table, p) for p in mine}
        have = {p: -1 if destination[tp] is None else destination[tp] for p, tp in mine.items()}

        def persist(partition: int, offset: int) -> None:
            self._table.data.set_persisted_offset(mine[partition], offset)

        if mine:
            for partition, offset in (await restore(self._kafka, topic, stores, have, persist)).items():
                destination[mine[partition]] = offset
        await super()._build_offsets(consumer, tps, destination, title)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109 - Faust's signature
        # Faust's timeout is left out: a restore takes longer the longer the changelog is, and each request to Kafka has
        # a timeout of its own.
        await super()._wait(coro)


def trusted(table: Any, partition: int, offset: int | None, end: int) -> bool:
    """Whether a partition's store was filled from the changelog that exists now.

    `offset`: the last changelog offset that the store has seen; `end`: where the changelog ends. A store that was not
    is moved aside and replaced by an empty one, to be restored from the beginning: then False.
    """
    store, own = partition_store(table, partition), table.app.conf.id.encode()
    owner = store.get(OWNER)
    if owner not in (None, own):
        why = f"it holds states of application {owner.decode(errors='replace')!r}"
    elif offset is not None and offset >= end:
        why = (
            f"it has seen offset {offset} of a changelog that ends at {end}: the changelog topic was deleted and "
            "created again"
        )
    else:
        store[OWNER] = own
        return True
    logger.warning("state store of partition %d is not this application's: %s; restoring it anew", partition, why)
    _discard(table, partition, "foreign")
    partition_store(table, partition)[OWNER] = own
    return False


def write_unlogged(table: Any) -> None:
    """Open stores so that they are written without RocksDB's own log.

    RocksDB's log would be a second log beside the changelog, and half of the cost of a write. When a worker is killed,
    its store falls back to an earlier moment, and the changelog offset inside it to the same moment, because both go
    through the same memtables, which are written to files in order. The restore continues from that offset. A store
    that is closed has everything in files.
    """
    unlogged, open_store = WriteOptions(), table.data._open_for_partition
    unlogged.disable_wal = True

    def opened(partition: int) -> Any:
        store = open_store(partition)
        store.set_write_options(unlogged)
        return store

    table.data._open_for_partition = opened


def guard_opening(table: Any) -> None:
    """A store that RocksDB finds damaged is moved aside, and an empty one is opened, which is then restored.

    Other errors are raised: a store that another process has open, or that a full disk keeps from opening, is intact.
    """
    open_store = table.data._open_for_partition

    def guarded(partition: int) -> Any:
        mark = _mark(table, partition)
        if not mark.exists():
            try:
                return open_store(partition)
            except Exception as error:
                if not is_damage(error):
                    raise
                mark.write_text(str(error))
        logger.warning("state store of partition %d is damaged, restoring it anew: %s", partition, mark.read_text())
        _discard(table, partition, "damaged")
        mark.unlink()
        return open_store(partition)

    table.data._open_for_partition = guarded


@contextmanager
def noticing_damage(table: Any, partition: int) -> Iterator[None]:
    """Mark the store when RocksDB finds damaged data while it works; the next start then restores the store.

    Opening a store reads little of its data, so damage may show later. The store is not replaced at once: a batch under
    way would write into the empty store, and note there a changelog offset that belongs to the old one.
    """
    try:
        yield
    except Exception as error:
        if is_damage(error):
            logger.error("state store of partition %d is damaged, the next start restores it: %s", partition, error)
            _mark(table, partition).write_text(str(error))
        raise


def guard_applying(table: Any) -> None:
    """Make Faust's own recovery, and its standbys, keep the newest state of a user (restore.newest), not the last."""

    def apply(batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        messages: dict[Any, list[Any]] = {}
        for event in batch:
            messages.setdefault(event.message.tp, []).append(event.message)
        for tp, part in messages.items():
            store = partition_store(table, tp.partition)
            store.write(newest(store, part))
            table.data.set_persisted_offset(tp, max(message.offset for message in part))

    table.data.apply_changelog_batch = apply


def is_damage(error: Exception) -> bool:
    """Whether RocksDB reports damaged bytes or missing files; locks, permissions and a full disk are no damage."""
    text = str(error)
    return text.startswith("Corruption") or "No such file" in text


def _mark(table: Any, partition: int) -> Path:
    """File beside a damaged store that says what RocksDB found, until the store is moved aside."""
    path = table.data.partition_path(partition)
    return Path(path.with_name(f"{path.name}.is-damaged"))


def _discard(table: Any, partition: int, what: str) -> None:
    """Close a partition's store and move its folder aside."""
    store = table.data._dbs.pop(partition, None)
    if store is not None:
        store.close()
    path = table.data.partition_path(partition)
    if not path.exists():
        return
    shutil.move(path, path.with_name(f"{path.name}.{what}-{time.time_ns() // 1_000_000}"))
