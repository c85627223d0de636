"""The sections of the page: text, tables and figures of a Report, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from offline.report import plots
from offline.report.facts import METRICS, Figure, Metric, Report, Slice, Variant, Worth
from panther_core.base.times import HOUR_MS
from panther_core.evaluation import CARDS
from panther_core.report.pages import figure, paragraph, table
from panther_core.report.words import day, money, share

Section = Callable[[Report], Iterator[str]]
_TITLES = {metric.name: metric.title for metric in METRICS}


def judged(report: Report) -> list[tuple[Variant, Worth]]:
    """Variants with what their labels say."""
    return [(variant, variant.worth) for variant in report.variants if variant.worth]


def figures(report: Report) -> Iterator[str]:
    """Every figure with its interval, side by side."""
    rows = [
        [metric.title, *(_figure(metric, worth.metrics[metric.name]) for _, worth in judged(report))]
        for metric in METRICS
    ]
    yield table(["", *(variant.name for variant, _ in judged(report))], rows)
    yield paragraph(
        f"In brackets 95% of {report.resamples} resamples of users (seed {report.seed}); of CP@{CARDS}: of days. "
        + "; ".join(f"{metric.title}: {metric.what}" for metric in METRICS if metric.name != "alerts_per_day")
        + ".",
        soft=True,
    )


def _figure(metric: Metric, found: Figure) -> str:
    def shown(value: float) -> str:
        if metric.share:
            return f"{value:.1%}"
        return f"{value:,.1f}" if abs(found.value) >= 2 else f"{value:.3f}"

    return f"{shown(found.value)} ({shown(found.low)} to {shown(found.high)})"


def curves(report: Report) -> Iterator[str]:
    """Precision-recall."""
    yield figure(
        plots.precision_recall(report),
        "Precision over recall of each variant",
        "Each point of a line is a threshold: how much fraud it catches (right is better), and how many of its alerts "
        "are fraud (higher is better); the dot is the threshold in force, the dotted line alerts at random.",
    )


def budget(report: Report) -> Iterator[str]:
    """Recall against the alert budget."""
    yield figure(
        plots.budgets(report),
        "Recall over the share of transactions that alert",
        "How much fraud is found by how many alerts: the dots are budgets of 0.01, 0.1 and 1% of the transactions; the "
        "dotted line is the most so few alerts can hold.",
    )


def alerts(report: Report) -> Iterator[str]:
    """Alerts per day."""
    yield figure(
        plots.alerts_by_day(report),
        "Alerts by day",
        "What analysts would have had on their desks each day; the dotted line is all fraud of the day.",
    )
    rows = []
    for variant in report.variants:
        counts = [each.alerts for each in variant.days]
        rows.append(
            [
                variant.name,
                ", ".join(f"{threshold:.4f}" for threshold in variant.thresholds),
                f"{variant.alerts:,}",
                f"{variant.alerts / report.transactions:.2%}",
                f"{sum(counts) / len(counts):,.1f}",
                f"{max(counts):,}",
                f"{variant.alerted_users:,}",
            ]
        )
    yield table(["", "threshold", "alerts", "of transactions", "a day", "most on a day", "users"], rows)


def cards(report: Report) -> Iterator[str]:
    """CP@100."""
    yield figure(
        plots.cards_by_day(report),
        f"Card precision at {CARDS} by day",
        f"If {CARDS} users could be looked at each day, those with the highest score of the day: the share that was "
        "fraud. Users whose fraud was known by that morning (labels after their delay) are passed over, week by week "
        "as in the Fraud Detection Handbook, and so are those found earlier in the week.",
    )


def value(report: Report) -> Iterator[str]:
    """Money."""
    yield paragraph(
        f"Fraud amounts to {money(report.fraud_amount)} in the log's own unit. Caught is what alerted, whether or not "
        "it could have been stopped; lost before detection is what a user's frauds took before the first that alerted."
    )
    yield table(
        ["", "caught", "of all fraud", "mean fraud caught", "lost before detection"],
        [
            [
                variant.name,
                money(worth.caught_amount),
                f"{worth.metrics['value_caught'].value:.1%}",
                money(worth.caught_amount / worth.caught) if worth.caught else "",
                money(worth.detection.lost_before),
            ]
            for variant, worth in judged(report)
        ],
    )


def detection(report: Report) -> Iterator[str]:
    """Delay since the first fraud."""
    yield figure(
        plots.detection(report),
        "Share of defrauded users found, by time since their first fraud",
        "A line's height at the left is the share of defrauded users whose very first fraud alerted; where it stays "
        "flat, later frauds of a user were missed like the first.",
    )
    rows = []
    for variant, worth in judged(report):
        found = worth.detection
        median = "" if found.median_ms is None else f"{found.median_ms / HOUR_MS:,.1f} h"
        rows.append([variant.name, f"{found.users:,}", *(f"{part:.1%}" for part in found.within.values()), median])
    names = list(judged(report)[0][1].detection.within)
    yield table(["", "defrauded users", *names, "median, if found"], rows)


def calibration(report: Report) -> Iterator[str]:
    """Reliability."""
    from panther_core.report import charts

    for variant, worth in judged(report):
        if variant.scores_of != variant.name:
            continue
        yield figure(
            charts.reliability(worth.bins),
            f"Share of fraud over mean score, {variant.name}",
            f"{variant.name}: each dot is a tenth of the transactions by score. On the dotted line the score is the "
            "probability it claims to be, below it the score is too high; both axes are log-odds.",
        )
        if worth.alerts:
            yield paragraph(
                f"{variant.name}: {worth.alerts:,} alerts promised {worth.alerts_mean_score:.1%} fraud (their mean "
                f"score) and held {worth.caught / worth.alerts:.1%}."
            )


def drift(report: Report) -> Iterator[str]:
    """Score drift by week."""
    yield figure(
        plots.drift(report),
        "Population stability index of the scores by week",
        "How far each week's scores have moved from the first week's, over tenths of the first week: by custom below "
        "0.1 (dotted) is stable, above 0.25 (dashed) calls for a look at the model.",
    )
    own = [variant for variant in report.variants if variant.scores_of == variant.name]
    columns = [("PSI", "psi", ".3f"), ("mean score", "mean_score", ".3%"), ("alerted", "alert_rate", ".2%")]
    yield table(
        ["week from", "transactions", *_named(own, [title for title, _, _ in columns])],
        [
            [
                day(lines[0].time),
                f"{lines[0].transactions:,}",
                *(format(getattr(line, name), spec) for _, name, spec in columns for line in lines),
            ]
            for lines in zip(*(variant.weeks for variant in own), strict=True)
        ],
    )


def _named(variants: list[Variant], heads: Sequence[str]) -> list[str]:
    """Column heads, the variants of each side by side; without their names where there is one."""
    if len(variants) == 1:
        return list(heads)
    return [f"{head}, {variant.name}" for head in heads for variant in variants]


def slices(report: Report) -> Iterator[str]:
    """Every slice, variants side by side."""
    yield paragraph(
        "Where it works and where it does not. Amounts are cut at the 25th, 50th, 75th and 95th percentile; history "
        "is how many earlier transactions of the user were known; AP and the shares are of labelled transactions."
    )
    kinds = list(dict.fromkeys(part.by for part in report.variants[0].slices))
    several = len(report.variants) > 1
    heads = ("recall", "precision", "alerts", "value", "AP")[: 3 if several else 5] if judged(report) else ("alerts",)
    for kind in kinds:
        rows = []
        for first in (part for part in report.variants[0].slices if part.by == kind):
            cells: list[dict[str, str]] = []
            for variant in report.variants:
                own = next((s for s in variant.slices if (s.by, s.value) == (kind, first.value)), None)
                cells.append(_slice(own) if own else {})
            side = [cell.get(head, "") for head in heads for cell in cells]
            rows.append([first.value, f"{first.transactions:,}", f"{first.frauds:,}", *side])
        yield table([kind, "transactions", "frauds", *_named(report.variants, heads)], rows)


def _slice(part: Slice) -> dict[str, str]:
    return {
        "recall": share(part.recall),
        "precision": share(part.precision),
        "alerts": f"{part.alerts:,}",
        "value": share(part.value_caught),
        "AP": "" if part.average_precision is None else f"{part.average_precision:.3f}",
    }


def reasons(report: Report) -> Iterator[str]:
    """Reasons' frequency."""
    yield paragraph("Which reasons alerts name: as the strongest, anywhere among the three; and how many were fraud.")
    for variant in report.variants:
        yield table(
            [f"{variant.name}, reason", "strongest", "of alerts", "anywhere", "fraud, where strongest"],
            [
                [
                    use.code,
                    f"{use.first:,}",
                    f"{use.first / variant.alerts:.1%}",
                    f"{use.anywhere:,}",
                    share(use.precision),
                ]
                for use in variant.reasons
            ],
        )
