"""report.html of replays: a pure function of the ReplayReport, drawn by templates/replay.html."""

from __future__ import annotations

from offline.report import plots, tables
from offline.report.facts import METRICS, ReplayReport
from panther_core.base.times import HOUR_MS
from panther_core.evaluation import CARDS
from panther_core.report import charts, pages

#: sections that need labels: name of the template in templates/sections, and title
LABELLED = {
    "figures": "Figures",
    "precision": "Precision and recall",
    "budget": "Recall against alert budget",
    "cards": "100 users a day",
    "value": "Money",
    "detection": "Time to detection",
    "calibration": "Calibration",
}
ALWAYS = {
    "alerts": "Alerts per day",
    "drift": "Score drift",
    "slices": "Slices",
    "reasons": "Reasons",
}
#: sections that need at least two variants
COMPARED = {"changes": "What changes for whom"}
RUN = {"run": "This run"}
#: the figure of a section that has one
_PLOTS = {
    "precision": plots.precision_recall,
    "budget": plots.budgets,
    "cards": plots.cards_by_day,
    "detection": plots.detection,
    "alerts": plots.alerts_by_day,
    "drift": plots.drift,
}


def render(report: ReplayReport) -> str:
    """The page as HTML text."""
    judged = [variant for variant in report.variants if variant.worth]
    there = ((LABELLED, judged), (ALWAYS, True), (COMPARED, report.comparisons), (RUN, True))
    sections = {name: title for part, wanted in there if wanted for name, title in part.items()}
    return pages.render(
        "offline.report",
        "replay.html",
        title=f"Replay: {report.title}",
        sections=sections,
        report=report,
        judged=judged,
        metrics=METRICS,
        cards=CARDS,
        hour_ms=HOUR_MS,
        images={name: plot(report) for name, plot in _PLOTS.items() if name in sections},
        reliabilities={v.name: charts.reliability(v.worth.bins) for v in judged if v.worth and v.scores_of == v.name},
        figures=tables.figures(judged),
        drift=tables.drift(report.variants),
        slices=list(tables.slices(report)),
        changes=[
            (
                change,
                tables.differences(change),
                [(line, plots.timeline(line, (change.first, change.second))) for line in change.timelines],
            )
            for change in report.comparisons
        ],
        manifests=[tables.manifest(run) for run in report.runs],
    )
