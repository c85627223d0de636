"""The policies of `panther backtest` side by side: a table for people, figures for programs."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from offline.report.facts import METRICS, ReplayReport
from panther_core.base.console import console


def show(report: ReplayReport) -> None:
    """One table: policies side by side, and what the refresh gained with its interval."""
    (found,) = report.comparisons
    table = Table("", *(variant.name for variant in report.variants), "difference", "95%")
    for metric in METRICS if found.differences else ():
        gain = found.differences[metric.name]
        values = [f"{v.worth.metrics[metric.name].value:.4f}" for v in report.variants if v.worth]
        table.add_row(metric.title, *values, f"{gain.value:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}")
    console.print(table)


def figures(report: ReplayReport) -> dict[str, Any]:
    """Each policy's figures by name, and `difference`: value, low and high of what refreshing changed."""
    policies: dict[str, Any] = {
        v.name: {name: f.value for name, f in v.worth.metrics.items()} for v in report.variants if v.worth
    }
    (found,) = report.comparisons
    return policies | {"difference": {name: [f.value, f.low, f.high] for name, f in found.differences.items()}}
