"""The Fraud Detection Handbook benchmark on a tiny folder in its format: protocol, metrics, leaks, the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.fraud.fdh import features_and_histories, load, run_fdh
from bench.fraud.protocol import PUBLISHED, fold, metrics, parse_folds
from bench.tables import folds_table
from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable
from panther_core.evaluation import card_precision
from trainer.fit.train_config import preset
from trainer.heads.ensemble import ABLATIONS, PARTS, Settings
from trainer.heads.neural import Training

START = "2018-05-06"  # fold: labels to 05-12, test week 05-20 to 05-26
TINY = Settings(
    ablations=True,
    negatives=0.5,
    boosted=1,
    neural=1,
    threads=1,
    training=Training(bins=4, hidden=8, epochs=1, batch=256),
)


def columns(days: int = 56, customers: int = 60, terminals: int = 40, seed: int = 1) -> dict[str, np.ndarray]:
    """Transactions from 2018-04-01 with frauds of the handbook's three kinds, in its columns."""
    rng = np.random.default_rng(seed)
    count = days * customers * 2
    second = np.sort(rng.integers(0, days * 86_400, count))
    day = second // 86_400
    customer, terminal = rng.integers(0, customers, count), rng.integers(0, terminals, count)
    usual = rng.uniform(5, 90, customers)
    amount = np.abs(rng.normal(usual[customer], usual[customer] / 2))
    scenario = np.where(rng.random(count) < 0.01, 1, 0)
    amount[scenario == 1] += 220
    scenario[(terminal + day // 10) % terminals == 3] = 2
    third = ((customer + day // 7) % customers == 5) & (rng.random(count) < 0.33)
    scenario[third], amount[third] = 3, amount[third] * 5
    return {
        "TRANSACTION_ID": np.arange(count),
        "TX_DATETIME": np.datetime64("2018-04-01") + second.astype("timedelta64[s]").astype("timedelta64[ms]"),
        "CUSTOMER_ID": customer.astype(np.int32),
        "TERMINAL_ID": terminal.astype(np.int32),
        "TX_AMOUNT": np.round(amount, 2),
        "TX_FRAUD": (scenario > 0).astype(np.int8),
        "TX_FRAUD_SCENARIO": scenario.astype(np.int8),
    }


def write(folder: Path, data: dict[str, np.ndarray], as_csv: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(data)
    if as_csv:
        pyarrow.csv.write_csv(table, folder / "transactions.csv")
    else:
        pq.write_table(table, folder / "transactions.parquet")
    return folder


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return columns()


@pytest.fixture(scope="module")
def table(data: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> TransactionTable:
    return load(write(tmp_path_factory.mktemp("fdh"), data))


def days_since(data: dict[str, np.ndarray], start: str) -> np.ndarray:
    return (data["TX_DATETIME"].astype("datetime64[D]") - np.datetime64(start)).astype(int)


def test_fold_keeps_what_the_handbook_keeps(data: dict[str, np.ndarray], table: TransactionTable) -> None:
    day = days_since(data, START)
    expected: list[tuple[int, int]] = []
    for d in range(7):
        fraud = (data["TX_FRAUD"] == 1) & (day >= 0) & (day <= 6 + d)
        known = set(data["CUSTOMER_ID"][fraud].tolist())
        expected += [(int(i), d) for i in np.flatnonzero(day == 14 + d) if int(data["CUSTOMER_ID"][i]) not in known]
    each = fold(table, START)
    ids = table.transaction_id[each.week[each.kept]].astype(int).tolist()
    assert list(zip(ids, each.day.tolist(), strict=True)) == expected
    assert 0 < len(expected) < len(each.week)
    matured = data["TRANSACTION_ID"][day < 7]
    assert table.transaction_id[each.matured].astype(int).tolist() == matured.tolist()


def slow_card_precision(day: np.ndarray, customer: np.ndarray, label: np.ndarray, score: np.ndarray, k: int) -> float:
    gone: set[int] = set()
    shares = []
    for d in sorted(set(day.tolist())):
        best: dict[int, tuple[float, int]] = {}
        for c, y, s in zip(customer[day == d], label[day == d], score[day == d], strict=True):
            if int(c) not in gone:
                top, fraud = best.get(int(c), (-np.inf, 0))
                best[int(c)] = max(top, float(s)), max(fraud, int(y))
        ranked = sorted(best, key=lambda c: -best[c][0])[:k]
        hits = [c for c in ranked if best[c][1]]
        shares.append(len(hits) / k)
        gone |= set(hits)
    return float(np.mean(shares))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_reference(table: TransactionTable, seed: int) -> None:
    each = fold(table, START)
    score = np.random.default_rng(seed).random(len(each.week))
    rows = each.week[each.kept]
    label, customer, kept = table.label[rows], table.user.index[rows], score[each.kept]
    assert card_precision(each.day, customer, label, kept, 10) == slow_card_precision(
        each.day, customer, label, kept, 10
    )
    got = metrics(each, table, score)
    assert got["ap"] == pytest.approx(average_precision_score(label, kept))
    assert got["auc"] == pytest.approx(roc_auc_score(label, kept))
    assert got["cp100"] == slow_card_precision(each.day, customer, label, kept, 100)


def test_missing_days_are_named(table: TransactionTable) -> None:
    with pytest.raises(BadInput, match=r"none on 2018-05-27 \(7 such days\); the data holds 2018-04-01 to 2018-05-26"):
        fold(table, "2018-05-13")


def test_fold_option() -> None:
    assert parse_folds(None) == PUBLISHED
    assert parse_folds(" 2018-05-13,2018-05-06") == ("2018-05-13", "2018-05-06")
    with pytest.raises(BadInput, match="YYYY-MM-DD in --folds, got 'soon'"):
        parse_folds("soon")
    with pytest.raises(BadInput, match="7 days apart"):
        parse_folds("2018-05-13,2018-05-10")


def test_no_feature_sees_the_future(table: TransactionTable) -> None:
    """Events from a row on change no feature before it, and labels none that came less than their delay later."""
    at = len(table) // 2
    known_until = at // 2
    rng = np.random.default_rng(0)
    later = np.arange(len(table)) >= at
    amount = np.where(later, table.amount * 9, table.amount)
    label = table.label.copy()
    young = table.time_ms > table.time_ms[at - 1] - 7 * 86_400_000
    label[young] = rng.integers(0, 2, int(young.sum()))
    user = replace(table.user, index=np.where(later, rng.permutation(table.user.index), table.user.index))
    merchant = replace(
        table.merchant, index=np.where(later, rng.permutation(table.merchant.index), table.merchant.index)
    )
    other = replace(table, amount=amount, label=label, user=user, merchant=merchant)
    config = preset("tiny")
    matrix, history, _ = features_and_histories(table, known_until, config)
    changed, changed_history, _ = features_and_histories(other, known_until, config)
    for i, name in enumerate(matrix.names):
        np.testing.assert_allclose(changed.values[:at, i], matrix.values[:at, i], rtol=1e-5, atol=1e-5, err_msg=name)
    assert not np.allclose(changed.values[at:], matrix.values[at:])
    np.testing.assert_array_equal(changed_history.code[:at], history.code[:at])


@pytest.mark.parametrize("as_csv", [False, True])
def test_whole_benchmark(data: dict[str, np.ndarray], tmp_path: Path, as_csv: bool) -> None:
    folder, out = write(tmp_path / "data", data, as_csv), tmp_path / "deep" / "predictions.parquet"
    result = run_fdh(folder, out, ["2018-04-29", START], 0, TINY, preset("tiny"), "tiny")
    heads = {head.name for head in (*PARTS, *ABLATIONS)}
    assert set(result["models"]) == {
        *heads,
        "deepfm",
        "panther",
        "lightgbm+dcn",
        "served",
    }
    written = pq.read_table(out)
    assert written.column_names == ["TRANSACTION_ID", "score"]
    score = dict(zip(written["TRANSACTION_ID"].to_pylist(), written["score"].to_pylist(), strict=True))
    assert len(score) == written.num_rows
    table = load(folder)
    for k, start in enumerate(("2018-04-29", START)):
        each = fold(table, start)
        by_file = np.array([score[int(t)] for t in table.transaction_id[each.week]])
        assert metrics(each, table, by_file) == pytest.approx(result["models"]["served"]["folds"][k])
    assert result["models"]["lightgbm"]["mean"]["auc"] > 0.6  # it learns something even here
    assert folds_table(result).row_count == len(result["models"])


def test_scores_know_nothing_before_its_time(data: dict[str, np.ndarray], tmp_path: Path) -> None:
    """The first hour of the test week: labels from seven days before its end on, and payments after it, may be any."""
    week, hour = np.datetime64(START) + np.timedelta64(14, "D"), np.timedelta64(1, "h")
    when = data["TX_DATETIME"]
    unknown = when >= week + hour - np.timedelta64(7, "D")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, len(when))
    spoilt = data | {"TX_FRAUD": np.where(unknown, noise, data["TX_FRAUD"]).astype(np.int8)}
    later = np.flatnonzero(when >= week + hour)
    for name in ("TX_AMOUNT", "CUSTOMER_ID", "TERMINAL_ID"):
        spoilt[name] = data[name].copy()
        spoilt[name][later] = rng.permutation(data[name][later])
    asked = data["TRANSACTION_ID"][(when >= week) & (when < week + hour)]
    assert len(asked) > 3
    scores: list[np.ndarray] = []
    for name, each in (("a", data), ("b", spoilt)):
        run_fdh(write(tmp_path / name, each), tmp_path / f"{name}.parquet", [START], 0, TINY, preset("tiny"), "tiny")
        written = pq.read_table(tmp_path / f"{name}.parquet")
        scores.append(written["score"].to_numpy()[np.isin(written["TRANSACTION_ID"].to_numpy(), asked)])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)
