"""Tables of the page, most of them with a column for each variant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from offline.report.facts import METRICS, Estimate, Metric, ReplayReport, Variant, VariantComparison
from panther_core.report.words import day, formatted

Rows = list[list[str]]


class Table(NamedTuple):
    """Column heads, and rows with a cell for each head."""

    head: list[str]
    rows: Rows


def figures(judged: Sequence[Variant]) -> Rows:
    """A row for each metric: every variant's value with its interval."""
    return [
        [metric.title, *(_with_interval(metric, v.worth.metrics[metric.name]) for v in judged if v.worth)]
        for metric in METRICS
    ]


def _with_interval(metric: Metric, found: Estimate) -> str:
    spec = ".1%" if metric.share else ",.1f" if abs(found.value) >= 2 else ".3f"
    return f"{found.value:{spec}} ({found.low:{spec}} to {found.high:{spec}})"


def differences(comparison: VariantComparison) -> Rows:
    """A row for each metric: second variant less first, interval, verdict. No rows without labels."""
    return [_difference(metric, comparison.differences[metric.name]) for metric in METRICS if comparison.differences]


def _difference(metric: Metric, found: Estimate) -> list[str]:
    def shown(value: float) -> str:
        if metric.share:
            return f"{round(100 * value, 1) + 0.0:+.1f} points"  # + 0.0 turns -0.0 into 0.0
        digits = 1 if metric.name == "alerts_per_day" else 3
        return f"{round(value, digits) + 0.0:+,.{digits}f}"

    verdict = "chance may have made it" if found.low <= 0 <= found.high else "more than chance"
    if found.value == found.low == found.high == 0:
        return [metric.title, "none", "", ""]
    return [metric.title, shown(found.value), f"{shown(found.low)} to {shown(found.high)}", verdict]


def drift(variants: Sequence[Variant]) -> Table:
    """A row for each week, with the variants that have scores of their own."""
    own = [variant for variant in variants if variant.scores_of == variant.name]
    columns = {"PSI": ("psi", ".3f"), "mean score": ("mean_score", ".3%"), "alerted": ("alert_rate", ".2%")}
    rows = [
        [
            day(weeks[0].time),
            f"{weeks[0].transactions:,}",
            *(format(getattr(week, name), spec) for name, spec in columns.values() for week in weeks),
        ]
        for weeks in zip(*(variant.weeks for variant in own), strict=True)
    ]
    return Table(["week from", "transactions", *_side_by_side(own, list(columns))], rows)


def _side_by_side(variants: Sequence[Variant], heads: Sequence[str]) -> list[str]:
    """Each head once for every variant, with the variant's name; where there is one variant, the heads alone."""
    if len(variants) == 1:
        return list(heads)
    return [f"{head}, {variant.name}" for head in heads for variant in variants]


def slices(report: ReplayReport) -> Iterator[Table]:
    """A table for each property by which transactions are sliced, a row for each of its values."""
    first, *others = report.variants
    heads = ("recall", "precision", "alerts", "value", "AP")[: 3 if others else 5] if first.worth else ("alerts",)
    for by in dict.fromkeys(part.by for part in first.slices):
        rows = []
        for part in (part for part in first.slices if part.by == by):
            cells = [_slice(variant, by, part.value) for variant in report.variants]
            side = [cell.get(head, "") for head in heads for cell in cells]
            rows.append([part.value, f"{part.transactions:,}", f"{part.frauds:,}", *side])
        yield Table([by, "transactions", "frauds", *_side_by_side(report.variants, heads)], rows)


def _slice(variant: Variant, by: str, value: str) -> dict[str, str]:
    """Cells by column head; none where the variant has no such slice."""
    part = next((part for part in variant.slices if (part.by, part.value) == (by, value)), None)
    if part is None:
        return {}
    return {
        "recall": formatted(part.recall, ".1%"),
        "precision": formatted(part.precision, ".1%"),
        "alerts": f"{part.alerts:,}",
        "value": formatted(part.value_caught, ".1%"),
        "AP": formatted(part.average_precision, ".3f"),
    }


def manifest(found: dict[str, Any]) -> Rows:
    """replay.json as a table: a row for each fact, and for each object of a list of objects."""
    rows = []
    for name, value in found.items():
        for part in value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]:
            rows.append([name.replace("_", " "), _fact(part)])
    return rows


def _fact(found: Any) -> str:
    """A value of the manifest as text. A checksum is cut to its first 12 digits; report.json has all of them."""
    if isinstance(found, dict):
        return ", ".join(f"{name} {_fact(value)}" for name, value in found.items())
    text = found if isinstance(found, str) else json.dumps(found)
    return text[:12] if len(text) == 64 else text
