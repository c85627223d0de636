"""A replay to files: what is written, what a killed run leaves, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.replay.columns import SCHEMA
from offline.replay.request import ReplayRequest, run_replay
from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput, InvalidFile
from panther_core.base.times import HOUR_MS
from panther_core.data.table import TransactionTable

_CHUNK = 700


class Killed(BaseException):
    """Nothing catches it."""


def write_fdh(log: TransactionTable, path: Path, label: np.ndarray) -> None:  # type: ignore[type-arg]
    """The log as a Fraud Detection Handbook file, which numbers what we name."""
    columns = {
        "TRANSACTION_ID": np.arange(len(log)),
        "TX_DATETIME": log.time_ms.astype("M8[ms]"),
        "CUSTOMER_ID": log.user.index,
        "TERMINAL_ID": log.merchant.index,
        "TX_AMOUNT": log.amount,
        "TX_FRAUD": label,
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def request_(log: TransactionTable, artifact_folder: Path, tmp_path: Path) -> ReplayRequest:
    write_fdh(log, tmp_path / "transactions.parquet", log.label)
    data = tmp_path / "transactions.parquet"
    return ReplayRequest(data, "fdh", (1,), artifact_folder.parent, chunk_rows=_CHUNK)


def killed_after(chunks: int, request: ReplayRequest, out: Path) -> None:
    def stop(rows: int) -> None:
        if rows >= chunks * _CHUNK:
            raise Killed

    with pytest.raises(Killed):
        run_replay(request, out, stop)


def test_a_killed_run_shows_no_result_and_goes_on_to_the_same_bytes(request_: ReplayRequest, tmp_path: Path) -> None:
    whole = run_replay(request_, tmp_path / "whole", lambda _: None)
    killed_after(2, request_, tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [".partial"]
    seen: list[int] = []
    again = run_replay(request_, tmp_path / "cut", seen.append)
    assert seen[0] > _CHUNK  # the first chunk was not decided anew
    assert again["models"] == whole["models"]
    name = "decisions-v1.parquet"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "cut" / ".partial").exists()


def test_the_decisions_have_the_agreed_columns(request_: ReplayRequest, log: TransactionTable, tmp_path: Path) -> None:
    result = run_replay(request_, tmp_path / "out", lambda _: None)
    table = pq.read_table(tmp_path / "out" / "decisions-v1.parquet")
    assert table.schema.equals(SCHEMA)
    assert table["transaction_id"].to_pylist() == [str(i) for i in range(len(log))]
    known = log.label >= 0
    delay = np.where(known, log.time_ms + request_.label_delay_ms, -1)
    np.testing.assert_array_equal(table["label_time"].to_numpy(), delay)
    manifest = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert manifest["finished"]
    later = log.time_ms >= load_manifest(request_.models_dir / "1").fitted_until
    assert 0 < later.sum() < len(log)
    assert (result["models"][0]["transactions"], result["not_measured"]) == (later.sum(), (~later).sum())
    assert result["models"][0]["labelled"] == known[later].sum()
    unwritten = run_replay(request_, None, lambda _: None)
    assert {part["model"]: part for part in unwritten["models"]}[1] == result["models"][0]


def test_days_of_the_training_are_measured_on_demand_alone_and_said(
    request_: ReplayRequest, log: TransactionTable, capfd: pytest.CaptureFixture[str]
) -> None:
    everything = run_replay(replace(request_, since="2000-01-01"), None, lambda _: None)
    assert (everything["models"][0]["transactions"], everything["not_measured"]) == (len(log), 0)
    assert "how well it remembers them" in " ".join(capfd.readouterr().err.split())
    seen = replace(request_, limit=1000)
    assert log.time_ms[1000] < load_manifest(request_.models_dir / "1").fitted_until
    nothing = run_replay(seen, None, lambda _: None)
    assert (nothing["models"][0]["transactions"], nothing["not_measured"]) == (0, 1000)
    assert "nothing was measured" in " ".join(capfd.readouterr().err.split())


def test_labels_enter_decisions_as_they_arrive(request_: ReplayRequest, log: TransactionTable, tmp_path: Path) -> None:
    run_replay(request_, tmp_path / "true", lambda _: None)
    other = tmp_path / "other.parquet"
    write_fdh(log, other, 1 - np.maximum(log.label, 0))
    run_replay(replace(request_, path=other), tmp_path / "false", lambda _: None)
    left, right = (pq.read_table(tmp_path / name / "decisions-v1.parquet") for name in ("true", "false"))
    assert not left["label"].equals(right["label"])
    first_ms = log.time_ms[0] + request_.label_delay_ms
    unknown = int(np.searchsorted(log.time_ms, first_ms // HOUR_MS * HOUR_MS + HOUR_MS))
    left, right = (table.drop_columns(["label", "label_time"]) for table in (left, right))
    assert unknown < len(log)
    assert left.slice(0, unknown).equals(right.slice(0, unknown))
    assert not left.equals(right)


def test_the_future_does_not_enter_decisions(request_: ReplayRequest, log: TransactionTable, tmp_path: Path) -> None:
    run_replay(request_, tmp_path / "true", lambda _: None)
    rows = np.r_[: 2 * _CHUNK, np.random.default_rng(0).permutation(np.arange(2 * _CHUNK, len(log)))]
    other = tmp_path / "other.parquet"
    write_fdh(replace(log.take(rows), time_ms=log.time_ms), other, log.label)
    run_replay(replace(request_, path=other), tmp_path / "shuffled", lambda _: None)
    left, right = (pq.read_table(tmp_path / name / "decisions-v1.parquet") for name in ("true", "shuffled"))
    assert left.slice(0, 2 * _CHUNK).equals(right.slice(0, 2 * _CHUNK))
    assert not left.equals(right)


def test_another_plan_a_finished_folder_and_an_unknown_model_are_refused(
    request_: ReplayRequest, tmp_path: Path
) -> None:
    killed_after(1, request_, tmp_path / "cut")
    with pytest.raises(BadInput, match="differs in label_delay_ms"):
        run_replay(replace(request_, label_delay_ms=1), tmp_path / "cut", lambda _: None)
    run_replay(request_, tmp_path / "cut", lambda _: None)
    with pytest.raises(BadInput, match="finished replay"):
        run_replay(request_, tmp_path / "cut", lambda _: None)
    with pytest.raises(BadInput, match=r"out of \[1\]"):
        run_replay(replace(request_, models=(7,)), None, lambda _: None)


def test_labels_from_a_file_of_their_own(request_: ReplayRequest, log: TransactionTable, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("transaction_id,label\n1,1\n0,0\n5,1\n")
    run_replay(replace(request_, labels=file), tmp_path / "out", lambda _: None)
    label = pq.read_table(tmp_path / "out" / "decisions-v1.parquet")["label"].to_numpy()
    assert label[[0, 1, 5]].tolist() == [0, 1, 1]
    assert (label >= 0).sum() == 3
    with pytest.raises(InvalidFile, match="check --labels"):
        run_replay(replace(request_, labels=tmp_path / "none.csv"), None, lambda _: None)
    file.write_text("transaction,label\n1,1\n")
    with pytest.raises(InvalidFile, match="expected a column 'transaction_id'"):
        run_replay(replace(request_, labels=file), None, lambda _: None)
