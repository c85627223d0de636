"""report.html of a version: a pure function of the VersionReport, drawn by templates/version.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from panther_core.report import charts, pages
from trainer.report import plots_fraud, plots_model
from trainer.report.facts import Motif, VersionReport
from trainer.report.verdict import faults

#: name of the template in templates/sections, and title, in the order of the page
SECTIONS = {
    "fraud": "Precision and recall",
    "thresholds": "Alerts and thresholds",
    "slices": "Slices: new users, amounts, kinds of payment",
    "top": "Recall at the top",
    "calibration": "Calibration",
    "next": "Next transaction",
    "tokens": "Coverage",
    "prototypes": "Prototypes and motifs",
    "users": "Map of users",
    "training": "Training",
    "settings": "Settings",
}


def write_page(path: Path, report: VersionReport) -> None:
    """Write the page to `path`; a missing folder is made."""
    pages.write_page(path, render(report))


def render(report: VersionReport) -> str:
    """The page as HTML text."""
    fraud, about, motifs = report.fraud, report.about, report.motifs
    images = {
        "fraud": plots_fraud.precision_recall(fraud),
        "top": plots_fraud.top_recall(fraud),
        "calibration": charts.reliability(fraud.bins),
        "histogram": plots_fraud.histogram(fraud),
        "tokens": plots_model.coverage(report.tokens),
        "users": plots_model.user_map(report.embedding),
        "training": plots_model.losses(report.curve, report.head_curve),
    }
    if motifs and motifs.rows:
        images["prototypes"] = plots_model.prototypes(motifs)
    config: dict[str, Any] = msgspec.to_builtins(about.config)
    model: dict[str, Any] = config.pop("model")
    return pages.render(
        "trainer.report",
        "version.html",
        title=f"{about.name} {about.version}",
        sections=SECTIONS,
        report=report,
        images=images,
        best_other=max(fraud.scorers[1:], key=lambda scorer: scorer.metrics["average_precision"]),
        lost_values=[(name, loss) for name, use in report.tokens.attributes.items() for loss in use.falls_out],
        shown_prototypes=plots_model.shown_prototypes(motifs) if motifs and motifs.rows else (),
        strongest_prototypes=[_strongest(motif) for motif in motifs.rows] if motifs else [],
        faults=faults(fraud, {"test_first_events": report.first_events}) if report.first_events else (),
        settings=[*model.items(), *config.items()],
    )


def _strongest(motif: Motif) -> list[str]:
    """The three prototypes that weigh most, numbered from 1, each with its weight."""
    order = sorted(range(len(motif.weight)), key=lambda number: -motif.weight[number])
    return [f"{number + 1} ({motif.weight[number]:.2f})" for number in order[:3]]
