"""The table for people, on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from panther_core.base.console import console
from trainer.fit.ranking import HIT_RATES, NDCGS

METRICS = (*(f"hr@{k}" for k in HIT_RATES), *(f"ndcg@{k}" for k in NDCGS))


def show(result: Mapping[str, Any]) -> None:
    """One table a set: mean and deviation over the seeds, published figures below."""
    for name, facts in result["sets"].items():
        console.print(set_table(name, facts, len(result["seeds"])))


def set_table(name: str, facts: Mapping[str, Any], seeds: int) -> Table:
    """Rows: models, then what is published."""
    title = f"{name}: {facts['users']:,} users, {facts['items']:,} items, {facts['events']:,} events; {seeds} seed(s)"
    table = Table("model", *(metric.upper() for metric in METRICS), "tuned to", title=title, title_justify="left")
    for model, row in facts["models"].items():
        table.add_row(model, *_cells(row["test"]), f"{row['learning_rate']:g}, dropout {row['dropout']:g}")
    for model, (hr, ndcg) in facts["published"].items():
        known = {"hr@10": f"{hr:.4f}", "ndcg@10": f"{ndcg:.4f}"}
        table.add_row(f"{model}, published", *(known.get(metric, "") for metric in METRICS), "", style="dim")
    return table


def show_variants(result: Mapping[str, Any]) -> None:
    """The ablation's table."""
    title = f"{result['events']:,} events, {result['test_events']:,} tested; {len(result['seeds'])} seed(s)"
    table = Table("model", *(metric.upper() for metric in METRICS), "s", title=title, title_justify="left")
    for name, row in result["variants"].items():
        table.add_row(name, *_cells(row), f"{row['seconds']['mean']:.0f}")
    console.print(table)


def show_rows(title: str, facts: Mapping[str, Any]) -> None:
    """One table of `facts["rows"]`: mean and deviation of the metrics by row."""
    table = Table("", *(metric.upper() for metric in METRICS), title=title, title_justify="left")
    for name, row in facts["rows"].items():
        table.add_row(name, *_cells(row))
    console.print(table)


def _cells(row: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One seed has no deviation: 0 stands for none."""
    deviation = {metric: f" ±{row[metric]['sd']:.4f}" if row[metric]["sd"] else "" for metric in METRICS}
    return [f"{row[metric]['mean']:.4f}{deviation[metric]}" for metric in METRICS]
