"""What a replay reads: a topic in the order of its records, and files that are wrong half-way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from offline.replay.request import ReplayRequest, run_replay
from offline.replay.topic import TopicLog
from panther_core.base.errors import InvalidFile
from panther_core.data.table import TransactionTable
from panther_core.data.table_rows import as_arrived
from tests.offline.parity.streamed import load
from tests.payments import write_payments

_CHUNK = 700


def topic_log(table: TransactionTable, partition: np.ndarray, timestamp: np.ndarray) -> TopicLog:  # type: ignore[type-arg]
    offset = np.zeros(len(table), np.int64)
    for p in np.unique(partition):
        offset[partition == p] = np.arange(int((partition == p).sum()))
    return TopicLog("payments", table, partition, offset, timestamp, 0, "digest")


def test_a_topic_is_replayed_in_the_order_of_its_records(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    rows = np.arange(len(log))
    rows[100:140] = rows[100:140][::-1]  # late events
    table = as_arrived(list(log.take(rows).rows()))
    partition = table.user.index % 3
    by_partition = np.argsort(partition, kind="stable")  # as a consumer reads it
    source = topic_log(table, partition.astype(np.int32), np.arange(len(log)) * 10).take(by_partition)
    request = ReplayRequest(
        Path("payments"), "fdh", (1,), artifact_folder.parent, chunk_rows=_CHUNK, log=source.merged()
    )
    result = run_replay(request, tmp_path / "out", lambda _: None)
    assert result["transactions"] == len(log)
    written = pq.read_table(tmp_path / "out" / "decisions-v1.parquet")
    expected = load(artifact_folder).decide(table).decision
    assert written["transaction_id"].to_pylist() == table.transaction_id.tolist()
    assert written["late"].to_numpy().sum() > 0
    np.testing.assert_allclose(written["score"].to_numpy(), expected["score"], atol=2e-6)


def test_clocks_that_step_back_do_not_reorder_a_partition(log: TransactionTable) -> None:
    table = as_arrived(list(log.take(slice(0, 6)).rows()))
    partition, stamp = np.array([0, 0, 0, 1, 1, 1], np.int32), np.array([5, 1, 9, 2, 6, 7])
    merged = topic_log(table, partition, stamp).merged()
    places = list(zip(merged.partition.tolist(), merged.offset.tolist(), strict=True))
    assert places == [(1, 0), (0, 0), (0, 1), (1, 1), (1, 2), (0, 2)]


def generic(log: TransactionTable, folder: Path, amounts: list[str], order: np.ndarray) -> Path:  # type: ignore[type-arg]
    """The log as a CSV file with a mapping; returns the mapping's path."""
    folder.mkdir()
    return write_payments(log.take(order), folder, amounts)


def nothing_to_see(out: Path) -> bool:
    """Whether no result stands in the folder: only what a run that goes on would use."""
    return [path.name for path in out.iterdir()] in ([], [".partial"])


def test_a_file_that_changes_half_way_is_named_and_leaves_no_result(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    rows = np.arange(len(log))
    amounts = [str(a) for a in log.amount.tolist()]
    amounts[1500] = "twelve"
    mapping = generic(log, tmp_path / "broken", amounts, rows)
    request = ReplayRequest(mapping, "generic", (1,), artifact_folder.parent, chunk_rows=_CHUNK)
    with pytest.raises(InvalidFile, match=r"payments.csv, row 150[0-9].*'twelve'"):
        run_replay(request, tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists() or nothing_to_see(tmp_path / "out")


def test_a_file_out_of_order_is_named_with_its_first_step_back(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    rows = np.arange(len(log))
    rows[1500], rows[300] = rows[300], rows[1500]
    mapping = generic(log, tmp_path / "unsorted", [str(a) for a in log.amount[rows].tolist()], rows)
    request = ReplayRequest(mapping, "generic", (1,), artifact_folder.parent, chunk_rows=_CHUNK)
    with pytest.raises(InvalidFile, match=r"payments.csv, row \d+.*order"):
        run_replay(request, tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists() or nothing_to_see(tmp_path / "out")
