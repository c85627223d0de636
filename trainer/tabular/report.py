"""The benchmark's figures as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def table_of(result: dict[str, Any]) -> Table:
    """Models x (AP, AUC, CP@100): the mean over folds, then AP of each fold."""
    starts = [fold["train_start"] for fold in result["folds"]]
    table = Table("model", "AP", "AUC", "CP@100", *(f"AP {start}" for start in starts))
    for name, report in result["models"].items():
        mean = report["mean"]
        row = [f"{mean[key]:.4f}" for key in ("ap", "auc", "cp100")]
        table.add_row(name, *row, *(f"{fold['ap']:.4f}" for fold in report["folds"]))
    return table
