"""Result tables for people, printed by `panther bench seqrec`, `ablation`, `rerank`, `transfer`, `fdh` and `fraud`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from panther_core.base.console import console
from trainer.fit.ranking import HIT_RATES, NDCGS

RANKING = (*(f"hr@{k}" for k in HIT_RATES), *(f"ndcg@{k}" for k in NDCGS))
_RANKING_HEADS = tuple(metric.upper() for metric in RANKING)
Cells = Sequence[str]


def _table(header: Cells, rows: Iterable[Cells], title: str | None = None) -> Table:
    """A table of text with one line a row."""
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def show(result: Mapping[str, Any]) -> None:
    """Print the result of `panther bench seqrec`, a table a set."""
    for name, facts in result["sets"].items():
        console.print(set_table(name, facts, len(result["seeds"])))


def set_table(name: str, facts: Mapping[str, Any], seeds: int) -> Table:
    """One set of `panther bench seqrec`: a row a model, then the published figures of this set, dimmed."""
    title = f"{name}: {facts['users']:,} users, {facts['items']:,} items, {facts['events']:,} events; {seeds} seed(s)"
    rows = [
        (model, *_ranking_cells(row["test"]), f"{row['learning_rate']:g}, dropout {row['dropout']:g}")
        for model, row in facts["models"].items()
    ]
    table = _table(("model", *_RANKING_HEADS, "tuned to"), rows, title)
    for model, (hr, ndcg) in facts["published"].items():
        known = {"hr@10": f"{hr:.4f}", "ndcg@10": f"{ndcg:.4f}"}
        table.add_row(f"{model}, published", *(known.get(metric, "") for metric in RANKING), "", style="dim")
    return table


def show_variants(result: Mapping[str, Any]) -> None:
    """Print the result of `panther bench ablation`: a row a variant, and the seconds of its training."""
    title = f"{result['events']:,} events, {result['test_events']:,} tested; {len(result['seeds'])} seed(s)"
    rows = [(name, *_ranking_cells(row), f"{row['seconds']['mean']:.0f}") for name, row in result["variants"].items()]
    console.print(_table(("model", *_RANKING_HEADS, "s"), rows, title))


def show_rows(title: str, facts: Mapping[str, Any]) -> None:
    """Print `facts["rows"]` of `panther bench rerank` or `transfer`: mean and deviation of the ranking metrics."""
    rows = [(name, *_ranking_cells(row)) for name, row in facts["rows"].items()]
    console.print(_table(("", *_RANKING_HEADS), rows, title))


def folds_table(result: Mapping[str, Any]) -> Table:
    """`panther bench fdh`: AP, AUC and CP@100 of each model as the mean over folds, then AP of each fold."""
    metrics, starts = ("ap", "auc", "cp100"), [fold["train_start"] for fold in result["folds"]]
    rows = [
        (
            name,
            *(f"{of['mean'][key]:.4f}" for key in metrics),
            *(f"{fold['ap']:.4f}" for fold in of["folds"]),
        )
        for name, of in result["models"].items()
    ]
    return _table(("model", "AP", "AUC", "CP@100", *(f"AP {start}" for start in starts)), rows)


def windows_table(result: Mapping[str, Any]) -> Table:
    """`panther bench fraud`: AP, AUC and recall in the top 0.1 and 1 % of each model on each window."""
    names = {"average_precision": "AP", "auc": "AUC", "recall_top_0.1pct": "top 0.1 %", "recall_top_1pct": "top 1 %"}
    rows = [
        (window, model, *(f"{of[window][key]:.4f}" for key in names))
        for window in result["windows"]
        for model, of in result["models"].items()
    ]
    return _table(("window", "model", *names.values()), rows)


def _ranking_cells(row: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Mean and deviation of each ranking metric; a deviation of 0 (one seed) is left out."""
    deviation = {metric: f" ±{row[metric]['sd']:.4f}" if row[metric]["sd"] else "" for metric in RANKING}
    return [f"{row[metric]['mean']:.4f}{deviation[metric]}" for metric in RANKING]


def drift_table(result: Mapping[str, Any]) -> Table:
    """`panther bench drift`: a row a detector."""
    kinds = result["kinds"]
    rows = [
        (
            name,
            row["setting"],
            _days(row["delay_days"]),
            f"{row['missed']:.2f}",
            f"{row['by_chance']:.2f}",
            f"{row['false_alarms']:.2f}",
            *(f"{_days(row[kind]['delay_days'])}, {row[kind]['missed']:.2f}" for kind in kinds),
        )
        for name, row in result["rows"].items()
    ]
    title = f"{len(result['seeds'])} seed(s), {result['users']} people; by kind: delay in days, missed share"
    return _table(("detector", "setting", "delay", "missed", "by chance", "false alarms a month", *kinds), rows, title)


def _days(delay: float | None) -> str:
    return "-" if delay is None else f"{delay:.1f}"
