"""report.json of a replay: everything its page shows. Shares are 0..1, money in the log's own unit, times epoch ms.

Unlike the report of a version it names users and transactions, only in `comparisons`: an analyst has to look them up.
The speed of the machine is left out, so that the same decisions give the same bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from panther_core.report.curves import Bin

FORMAT_VERSION = 1


class Metric(msgspec.Struct, frozen=True):
    """A figure of merit: its name in `Savings.metrics`, how people call it, and what it is."""

    name: str
    title: str
    what: str
    share: bool = True
    """Shown in per cent."""


#: every figure with an interval, in the order of the page
METRICS = (
    Metric("average_precision", "average precision", "precision averaged over recall, all thresholds", share=False),
    Metric("recall_top_0.01pct", "recall, top 0.01%", "fraud found when the highest 0.01% of scores alert"),
    Metric("recall_top_0.1pct", "recall, top 0.1%", "fraud found when the highest 0.1% of scores alert"),
    Metric("recall_top_1pct", "recall, top 1%", "fraud found when the highest 1% of scores alert"),
    Metric("precision", "alerts that are fraud", "precision at the threshold"),
    Metric("recall", "fraud that alerts", "recall at the threshold"),
    Metric("value_caught", "fraud money in alerts", "amount of the frauds that alerted, of all fraud"),
    Metric("card_precision_100", "CP@100", "frauds among the 100 users looked at each day"),
    Metric("alerts_per_day", "alerts a day", "mean", share=False),
)


class Estimate(msgspec.Struct, frozen=True):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Day(msgspec.Struct, frozen=True):
    """One UTC day; `frauds` and `caught` of labelled transactions; `cards` is CP@100, null without labels."""

    time: int
    transactions: int
    alerts: int
    frauds: int
    caught: int
    cards: float | None


class Week(msgspec.Struct, frozen=True):
    """Seven days from the first measured one on; `psi` of the scores against the first week."""

    time: int
    transactions: int
    psi: float
    mean_score: float
    alert_rate: float


class Slice(msgspec.Struct, frozen=True):
    """Part of the transactions. `frauds`, `caught` and the rest are of the labelled ones; null: nothing to divide."""

    by: str
    value: str
    transactions: int
    alerts: int
    labelled: int
    frauds: int
    caught: int
    precision: float | None
    recall: float | None
    average_precision: float | None
    value_caught: float | None


class ReasonUse(msgspec.Struct, frozen=True):
    """How often a reason stands in alerts: first, or anywhere; `precision` of the labelled alerts it is first of."""

    code: str
    first: int
    anywhere: int
    precision: float | None


class Detection(msgspec.Struct, frozen=True):
    """From a user's first fraud in the window to the first of their frauds that alerted."""

    users: int
    detected: int
    median_ms: float | None
    """Of the users detected."""
    within: dict[str, float]
    """Share of all defrauded users by when: at once, 1 hour, 1 day, 7 days, ever."""
    hours: list[float]
    share: list[float]
    """Share of the users detected by so many hours."""
    lost_before: float
    """Money of the frauds before detection (all of a user's where there was none)."""


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """What labels say of a variant's decisions: `worth` in report.json."""

    metrics: dict[str, Estimate]
    recall: list[float]
    precision: list[float]
    """Thinned precision-recall curve."""
    alerts: int
    caught: int
    caught_amount: float
    detection: Detection
    bins: list[Bin]
    alerts_mean_score: float


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One model version (or policy) at one threshold."""

    name: str
    scores_of: str
    """The variant whose scores these are: itself, or the one that differs in the threshold alone."""
    model_versions: list[int]
    thresholds: list[float]
    alerts: int
    alerted_users: int
    days: list[Day]
    weeks: list[Week]
    slices: list[Slice]
    reasons: list[ReasonUse]
    worth: Savings | None
    """None where fraud and legitimate labels are not both there."""


class TimelineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as both variants of a comparison saw it. `label` -1 unknown."""

    transaction_id: str
    time: int
    category: str
    channel: str
    merchant_id: str
    amount: float
    label: int
    scores: tuple[float, float]
    alerts: tuple[bool, bool]
    reasons: tuple[list[str], list[str]]


class Timeline(msgspec.Struct, frozen=True):
    """A user's events up to the one that changed, oldest first."""

    user_id: str
    changed: str
    """Transaction id."""
    events: list[TimelineEvent]


class AlertGroup(msgspec.Struct, frozen=True):
    """Alerts of one kind."""

    name: str
    alerts: int
    labelled: int
    frauds: int
    fraud_amount: float
    users: int


class ChangedUser(msgspec.Struct, frozen=True):
    """Whose alerts changed most."""

    user_id: str
    transactions: int
    alerts: tuple[int, int]
    frauds: int
    caught: tuple[int, int]
    largest: float
    """Largest difference of scores, in log-odds, second less first."""


class VariantComparison(msgspec.Struct, frozen=True, kw_only=True):
    """`second` against `first`."""

    first: str
    second: str
    differences: dict[str, Estimate]
    """Second less first, both on the same resamples; empty without labels."""
    groups: list[AlertGroup]
    """Alerts of the first only, the second only, both."""
    users: list[ChangedUser]
    timelines: list[Timeline]


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    format_version: int = FORMAT_VERSION
    title: str
    window: tuple[int, int]
    """First and last event time that is measured."""
    warm_up: int
    """Transactions before it, which only gave users their past."""
    transactions: int
    users: int
    labelled: int
    frauds: int
    fraud_amount: float
    not_arrived: int
    """Labels that count here and would not have arrived by the end of the log."""
    resamples: int
    seed: int
    variants: list[Variant]
    comparisons: list[VariantComparison]
    runs: list[dict[str, Any]]
    """What each replay depended on (replay.json, its speed left out)."""
    notes: list[str] = []


def encode(report: ReplayReport) -> bytes:
    """JSON, a line a field."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
