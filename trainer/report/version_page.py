"""report.html: a pure function of the Report. One file, readable offline, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from panther_core.report.pages import document, paragraph, section, tiles
from trainer.report.facts import About, Report
from trainer.report.sections import SECTIONS


def write_page(path: Path, report: Report) -> None:
    """Draw the page into `path`, whose folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The page as text."""
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in SECTIONS.items())
    title = f"{report.about.name} {report.about.version}"
    parts = [section(name, title, make(report)) for name, (title, make) in SECTIONS.items()]
    return document(title, "".join([*_head(report, title), f"<nav>{links}</nav>", *parts]))


def _head(report: Report, title: str) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    yield paragraph(_about(report.about), soft=True)
    model, *others = report.fraud.scorers
    best = max(others, key=lambda scorer: scorer.metrics["average_precision"])
    alerts, (hits, counted, *_) = model.metrics, report.next_tokens.ranked.values()
    later = report.tokens.later or report.tokens.fitted
    yield tiles(
        [
            (
                "average precision",
                f"{alerts['average_precision']:.3f}",
                f"{best.name} {best.metrics['average_precision']:.3f}",
            ),
            (
                "recall at top 1%",
                f"{alerts['recall_top_1pct']:.1%}",
                f"{best.name} {best.metrics['recall_top_1pct']:.1%}",
            ),
            (
                "alerts that are fraud",
                f"{alerts['precision']:.1%}",
                f"{report.fraud.alerts:,} alerts, {alerts['recall']:.1%} caught",
            ),
            ("HR@10", f"{hits['hr@10']:.1%}", f"by counts {counted['hr@10']:.1%}"),
            ("[UNK] later", f"{later.unknown:.2%}", f"fitted on {report.tokens.fitted.unknown:.2%}"),
        ]
    )


def _about(about: About) -> str:
    first, last, test = (day(time) for time in (*about.data_window, about.test_from))
    return (
        f"{about.transactions:,} transactions of {about.users:,} users, {first} to {last}; test from {test} on. "
        f"Seed {about.seed}, tokenizer {about.tokenizer_version}, code {about.code_version}. Everything below but the "
        "training curves and the maps of motifs and users is of the test slice, on which this training chose nothing."
    )


def day(time_ms: int) -> str:
    """Date of an epoch time, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")
