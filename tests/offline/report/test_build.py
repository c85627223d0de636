"""What the report measures equals what scikit-learn, the handbook's protocol and plain loops say of the decisions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from offline.report.build import build, write_report
from offline.report.facts import METRICS, ReplayReport
from offline.report.flow import stability
from offline.report.log import load
from offline.report.resample import ReplayedRows
from offline.report.savings import cards_by_day, detection
from panther_core.base.errors import BadInput
from panther_core.evaluation import card_precision
from tests.offline.report.conftest import DAY_MS, START_MS, Columns, made_up, new_replay, write_decisions


def measured(folder: Path, since: str | None = None, thresholds: tuple[float, ...] = ()) -> ReplayReport:
    return build([folder], since, thresholds, "test")


def test_figures_equal_those_of_the_labelled_decisions(folder: Path, columns: Columns) -> None:
    write_decisions(folder, "v1", columns)
    report = measured(folder)
    (variant,) = report.variants
    label, score, amount = (np.asarray(columns[name]) for name in ("label", "score", "amount"))
    alert = score >= 0.4
    assert variant.worth is not None
    found = variant.worth.metrics
    assert set(found) == {metric.name for metric in METRICS}
    assert found["average_precision"].value == pytest.approx(average_precision_score(label, score))
    assert found["precision"].value == pytest.approx(label[alert].mean())
    assert found["recall"].value == pytest.approx(label[alert].sum() / label.sum())
    assert found["value_caught"].value == pytest.approx((amount * alert * label).sum() / (amount * label).sum())
    assert found["alerts_per_day"].value == pytest.approx(alert.sum() / 21)
    top = np.argsort(-score, kind="stable")[:60]
    assert found["recall_top_1pct"].value == pytest.approx(label[top].sum() / label.sum())
    for figure in found.values():
        assert figure.low <= figure.value <= figure.high
    assert found["recall"].low < found["recall"].value < found["recall"].high
    assert sum(day.alerts for day in variant.days) == variant.alerts == alert.sum()
    assert sum(day.frauds for day in variant.days) == report.frauds == label.sum()
    assert (variant.reasons[0].code, variant.reasons[0].first) == ("HIGH_VELOCITY", alert.sum())
    assert variant.reasons[1].anywhere == (score > 0.5).sum()
    for by in {part.by for part in variant.slices}:
        parts = [part for part in variant.slices if part.by == by]
        assert sum(part.caught for part in parts) == variant.worth.caught
        if by != "fraud kind":
            assert sum(part.transactions for part in parts) == len(label)


def test_cards_of_a_week_follow_the_handbook(folder: Path, columns: Columns) -> None:
    """Third week, labels a week late: passed over are users whose fraud of the first week, or later, is known."""
    write_decisions(folder, "v1", columns)
    log, (decided,) = load([folder], START_MS + 14 * DAY_MS)
    judged = ReplayedRows.of_log(log, 0)
    assert judged is not None
    day = (log.time_ms - START_MS) // DAY_MS
    kept = []
    for row in np.flatnonzero(day >= 14).tolist():
        known = (log.user.index == log.user.index[row]) & (log.label == 1) & (day <= day[row] - 8)
        if not known.any():
            kept.append(row)
    expected = card_precision(day[kept], log.user.index[kept], log.label[kept], decided.score[kept])
    assert 0 < expected == pytest.approx(np.mean(list(cards_by_day(log, decided, judged).values())))


def test_a_day_on_which_everybody_is_known_holds_no_fraud_to_find(folder: Path) -> None:
    """Labels that arrive at once, a fraud of everybody in the first week."""
    columns = made_up(users=50)
    rows = len(np.asarray(columns["score"]))
    early = np.asarray(columns["event_time"]) < START_MS + 7 * DAY_MS
    label = np.where(early, 1, np.arange(rows) % 2)
    write_decisions(folder, "v1", columns | {"label": label, "label_time": columns["event_time"]})
    report = measured(folder, "2018-04-08")
    assert [day.cards for day in report.variants[0].days[:7]] == [0.0] * 7


def test_detection_is_counted_from_the_first_fraud_to_the_first_that_alerted() -> None:
    hour = 3_600_000
    user = np.array([0, 1, 0, 1, 0, 2, 2])
    fraud = np.array([1, 1, 1, 0, 1, 1, 1], bool)
    alert = np.array([0, 1, 0, 1, 1, 0, 0], bool)
    found = detection(user, np.arange(7) * hour, fraud, alert, np.array([10.0, 20, 30, 40, 50, 60, 70]))
    assert (found.users, found.detected, found.median_ms) == (3, 2, 2 * hour)
    assert found.within == pytest.approx(
        {"at once": 1 / 3, "1 hour": 1 / 3, "1 day": 2 / 3, "7 days": 2 / 3, "ever": 2 / 3}
    )
    assert found.lost_before == 10 + 30 + 60 + 70


def test_drift_is_none_without_change_and_grows_with_it(folder: Path, columns: Columns) -> None:
    write_decisions(folder, "v1", columns)
    weeks = measured(folder).variants[0].weeks
    assert weeks[0].psi == 0
    assert len(weeks) == 3
    assert all(week.psi < 0.05 for week in weeks)
    assert stability(np.array([0.5, 0.5]), np.array([0.9, 0.1])) == pytest.approx(0.4 * np.log(1.8) - 0.4 * np.log(0.2))
    later = np.asarray(columns["event_time"]) >= START_MS + 14 * DAY_MS
    write_decisions(folder, "v1", columns | {"score": np.where(later, 0.9, columns["score"])})
    assert measured(folder).variants[0].weeks[2].psi > 1


def test_before_the_first_day_nothing_is_measured(folder: Path, columns: Columns) -> None:
    write_decisions(folder, "v1", columns)
    report = measured(folder, "2018-04-15")
    early = np.asarray(columns["event_time"]) < START_MS + 14 * DAY_MS
    assert (report.warm_up, report.transactions) == (early.sum(), (~early).sum())
    assert report.variants[0].alerts == np.asarray(columns["alert"])[~early].sum()
    assert report.not_arrived == report.transactions  # under a week of log, labels a week late
    with pytest.raises(BadInput, match="--since"):
        measured(folder, "2030-01-01")
    with pytest.raises(BadInput, match="YYYY-MM-DD"):
        measured(folder, "spring")


def test_late_events_are_measured_at_their_own_time(folder: Path, columns: Columns) -> None:
    write_decisions(folder, "v1", columns)
    in_order = measured(folder, "2018-04-15", (0.2,))
    rows = np.arange(len(np.asarray(columns["score"])))
    arrived = np.argsort(np.where(rows % 50 == 0, rows + 120, rows), kind="stable")
    write_decisions(folder, "v1", {name: list(np.asarray(values)[arrived]) for name, values in columns.items()})
    assert measured(folder, "2018-04-15", (0.2,)) == in_order


def test_versions_are_compared_on_the_same_draws(folder: Path, columns: Columns) -> None:
    score = np.asarray(columns["score"])
    worse = np.round(np.where(np.arange(len(score)) % 3 == 0, 0.001, score), 6)
    write_decisions(folder, "v1", columns)
    write_decisions(folder, "v2", columns | {"score": worse, "alert": worse >= 0.4})
    report = measured(folder, thresholds=(0.2,))
    assert [variant.name for variant in report.variants] == ["v1", "v1 at 0.2", "v2", "v2 at 0.2"]
    lower, second, _ = report.comparisons
    assert lower.differences["average_precision"].low == lower.differences["average_precision"].high == 0
    assert lower.differences["recall"].low > 0
    gain = second.differences["average_precision"]
    assert gain.high < 0
    wide = 0.0
    for variant in (report.variants[0], report.variants[2]):
        assert variant.worth is not None
        found = variant.worth.metrics["average_precision"]
        wide += found.high - found.low
    assert gain.high - gain.low < wide
    only_first, only_second, both = second.groups
    assert (only_second.alerts, only_first.alerts) == (0, ((score >= 0.4) & (worse < 0.4)).sum())
    assert both.alerts == (worse >= 0.4).sum()
    user = np.asarray(columns["user_id"])
    lost = {name: ((user == name) & (score >= 0.4) & (worse < 0.4)).sum() for name in set(user.tolist())}
    assert second.users[0].alerts[0] - second.users[0].alerts[1] == max(lost.values())
    line = second.timelines[0]
    assert line.events[-1].transaction_id == line.changed
    assert line.events[-1].alerts == (True, False)
    assert [event.time for event in line.events] == sorted(event.time for event in line.events)


def test_without_labels_what_needs_none_is_there(folder: Path, columns: Columns) -> None:
    rows = len(np.asarray(columns["score"]))
    unknown = {"label": np.full(rows, -1), "label_time": np.full(rows, -1)}
    write_decisions(folder, "v1", columns | unknown)
    write_decisions(folder, "v2", columns | unknown | {"alert": np.asarray(columns["score"]) > 0.2})
    report = write_report([folder], folder)
    assert all(variant.worth is None for variant in report.variants)
    assert report.comparisons[0].groups[1].alerts > 0
    assert report.comparisons[0].differences == {}
    page = (folder / "report.html").read_text()
    assert "No labels: what needs them is left out" in page
    assert 'id="drift"' in page
    assert 'id="precision"' not in page
    one_class = columns | {"label": np.zeros(rows)}
    write_decisions(folder, "v2", one_class)
    write_decisions(folder, "v1", one_class)
    assert write_report([folder], folder).variants[0].worth is None


def test_a_replay_without_alerts_has_a_report(folder: Path, columns: Columns) -> None:
    rows = len(np.asarray(columns["score"]))
    nobody = {
        "alert": np.zeros(rows, bool),
        "threshold": np.ones(rows),
        "reason_1": [None] * rows,
        "reason_2": [None] * rows,
    }
    write_decisions(folder, "v1", columns | nobody)
    report = write_report([folder], folder)
    assert report.variants[0].worth is not None
    assert report.variants[0].worth.detection.median_ms is None


def test_the_same_decisions_give_the_same_bytes_and_speed_is_left_out(
    folder: Path, tmp_path: Path, columns: Columns
) -> None:
    write_decisions(folder, "v1", columns)
    write_report([folder], tmp_path / "a", thresholds=(0.2,))
    manifest = json.loads((folder / "replay.json").read_text())
    (folder / "replay.json").write_text(json.dumps(manifest | {"tps": 1, "seconds": 99}))
    write_report([folder], tmp_path / "b", thresholds=(0.2,))
    for name in ("report.json", "report.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert "/somewhere/private" not in (tmp_path / "a" / name).read_text()
    (run,) = json.loads((tmp_path / "a" / "report.json").read_text())["runs"]
    assert run["data"][0] == {"path": "log.parquet", "bytes": 1, "sha256": "ab"}


def test_errors_name_the_remedy_and_leave_no_half_written_report(
    folder: Path, tmp_path: Path, columns: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="panther replay"):
        measured(tmp_path)
    with pytest.raises(BadInput, match=r"decisions-\*.parquet"):
        measured(folder)
    write_decisions(folder, "v1", columns)
    write_report([folder], folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = new_replay(tmp_path / "other")
    write_decisions(other, "v1", made_up(5000))
    with pytest.raises(BadInput, match="same data and period"):
        write_report([folder, other], folder)
    write_decisions(other, "v1", columns | {"label": 1 - np.asarray(columns["label"])})
    with pytest.raises(BadInput, match="--labels"):
        write_report([folder, other], folder)
    with pytest.raises(BadInput, match="from 0 to 1"):
        write_report([folder], folder, thresholds=(7,))
    monkeypatch.setattr("offline.report.tables.manifest", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report([folder], folder, thresholds=(0.2,))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
