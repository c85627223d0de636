"""Measures finished replays into a ReplayReport, and writes report.json and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from offline.replay.measure import day_ms
from offline.report import compare, facts, flow, savings
from offline.report.facts import ReplayReport
from offline.report.log import DecidedLog, VariantDecisions, load, read_manifest
from offline.report.resample import ReplayedRows, Resampled, resample
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.report.intervals import RESAMPLES

JSON, PAGE = "report.json", "report.html"
SEED = 0


def write_report(
    folders: Sequence[Path],
    out: Path,
    since: str | None = None,
    thresholds: Sequence[float] | None = None,
    title: str = "",
    notes: Sequence[str] | None = None,
) -> ReplayReport:
    """Measure the replays in `folders`, compare their variants, and write report.json and report.html into `out`.

    `since`: first day measured, YYYY-MM-DD; if none, what the replays measured. `thresholds`: each adds a variant of
    every version, with the same scores. What is not given is as in the report of the same replays that `out` holds, so
    that drawing it again changes nothing. Raises BadInput. After an error both files are as they were before.
    """
    from offline.report.replay_page import render  # imported here, because matplotlib takes a second to import

    runs = [read_manifest(folder) for folder in folders]
    last = _drawn(out, runs)
    if last is not None:
        since, title = since or last.since, title or last.title
        thresholds = last.added_thresholds if thresholds is None else thresholds
        notes = last.notes if notes is None else notes
    report = build(folders, since, thresholds or (), title or folders[0].resolve().name)
    report = msgspec.structs.replace(report, notes=list(notes or ()))
    with written_whole(out / PAGE) as page, written_whole(out / JSON) as figures:
        figures.write_bytes(facts.encode(report))
        page.write_bytes(render(report).encode())
    return report


def _drawn(out: Path, runs: list[dict[str, Any]]) -> ReplayReport | None:
    """The report of the replays `runs` that stands in `out`; None where there is none that this release can read."""
    try:
        last = msgspec.json.decode((out / JSON).read_bytes(), type=ReplayReport)
    except (OSError, msgspec.MsgspecError):
        return None
    return last if last.runs == runs else None


def build(folders: Sequence[Path], since: str | None, thresholds: Sequence[float], title: str) -> ReplayReport:
    """Measure the replays in `folders` into a report. Raises BadInput."""
    runs = [read_manifest(folder) for folder in folders]
    log, decided = load(folders, None if since is None else day_ms(since))
    added = [float(threshold) for threshold in thresholds]
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise BadInput(f"expected a threshold from 0 to 1, got {threshold}")
    decided = [part for each in decided for part in (each, *(each.at(threshold) for threshold in thresholds))]
    judged = ReplayedRows.of_log(log, SEED)
    cards = [savings.cards_by_day(log, each, judged) if judged else {} for each in decided]
    sampled = [resample(judged, each, by_day) for each, by_day in zip(decided, cards, strict=True)] if judged else None
    variants = [
        _variant(log, each, cards[i], judged, sampled[i] if sampled else None) for i, each in enumerate(decided)
    ]
    comparisons = [
        compare.compare(log, decided[0], each, (sampled[0], sampled[i]) if sampled else None)
        for i, each in enumerate(decided)
        if i
    ]
    rows = np.flatnonzero(log.measured)
    fraud = rows[log.label[rows] == 1]
    return ReplayReport(
        title=title,
        since=since,
        added_thresholds=added,
        window=(int(log.time_ms[rows[0]]), int(log.time_ms[rows].max())),
        warm_up=len(log) - len(rows),
        transactions=len(rows),
        users=len(np.unique(log.user.index[rows])),
        labelled=int((log.label[rows] >= 0).sum()),
        frauds=len(fraud),
        fraud_amount=float(log.amount[fraud].sum()),
        not_arrived=int((log.label_time_ms[rows] > log.time_ms[rows].max()).sum()),
        resamples=RESAMPLES,
        seed=SEED,
        in_training=max(int(each.in_training[rows].sum()) for each in decided),
        variants=variants,
        comparisons=comparisons,
        runs=runs,
    )


def _variant(
    log: DecidedLog,
    decided: VariantDecisions,
    cards: dict[int, float],
    judged: ReplayedRows | None,
    sampled: Resampled | None,
) -> facts.Variant:
    rows = np.flatnonzero(log.measured)
    alerts = rows[decided.alert[rows]]
    return facts.Variant(
        name=decided.name,
        scores_of=decided.scores_of,
        model_versions=np.unique(decided.model_version[rows]).tolist(),
        thresholds=np.unique(decided.threshold[rows]).tolist(),
        alerts=len(alerts),
        alerted_users=len(np.unique(log.user.index[alerts])),
        days=flow.days(log, decided, cards),
        weeks=flow.weeks(log, decided),
        slices=flow.slices(log, decided),
        reasons=flow.reasons(log, decided),
        worth=savings.measure_savings(log, decided, judged, sampled) if judged and sampled else None,
    )
