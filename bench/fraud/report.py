"""The benchmark's figures as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def table_of(result: dict[str, Any]) -> Table:
    """Models x (AP, AUC, CP@100): the mean over folds, then AP of each fold; last, what luck does to the system's."""
    starts = [fold["train_start"] for fold in result["folds"]]
    table = Table("model", "AP", "AUC", "CP@100", *(f"AP {start}" for start in starts))
    for name, report in result["models"].items():
        mean = report["mean"]
        row = [f"{mean[key]:.4f}" for key in ("ap", "auc", "cp100")]
        table.add_row(name, *row, *(f"{fold['ap']:.4f}" for fold in report["folds"]))
    luck = [result["by_chance"][key] for key in ("ap", "auc", "cp100")]
    table.add_row("panther, labels by chance", *(f"{each['mean']:.4f} ± {each['deviation']:.4f}" for each in luck))
    return table


def windows_of(result: dict[str, Any]) -> Table:
    """Windows and models x (AP, AUC, recall in the top 0.1 and 1 %)."""
    names = {"average_precision": "AP", "auc": "AUC", "recall_top_0.1pct": "top 0.1 %", "recall_top_1pct": "top 1 %"}
    table = Table("window", "model", *names.values())
    for window in result["windows"]:
        for model, of in result["models"].items():
            table.add_row(window, model, *(f"{of[window][key]:.4f}" for key in names))
    return table
