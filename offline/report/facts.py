"""report.json of a replay: all that its page shows. Shares are 0..1, money in the log's own unit, times epoch ms.

Unlike the report of a version, this report names users and transactions, in `comparisons` alone, because an analyst
looks them up. The speed of the machine is left out, so that the same decisions give the same bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from panther_core.report.curves import Bin

FORMAT_VERSION = 1


class Metric(msgspec.Struct, frozen=True):
    """A figure of merit: its name in `Savings.metrics`, its title on the page, and its definition (`what`)."""

    name: str
    title: str
    what: str
    share: bool = True
    """Whether the figure is shown in per cent."""


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
    """One UTC day. `frauds` and `caught` count labelled transactions; `cards` is CP@100, null without labels."""

    time: int
    transactions: int
    alerts: int
    frauds: int
    caught: int
    cards: float | None


class Week(msgspec.Struct, frozen=True):
    """Seven days; the first week begins with the first measured day. `psi`: stability index of the scores against the
    first week."""

    time: int
    transactions: int
    psi: float
    mean_score: float
    alert_rate: float


class Slice(msgspec.Struct, frozen=True):
    """The transactions whose property `by` has the value `value`.

    `frauds`, `caught` and the shares are of the labelled transactions; null where the labels do not allow one.
    """

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
    """Number of alerts with a reason in first place, and in any place.

    `precision`: of the labelled alerts with the reason in first place.
    """

    code: str
    first: int
    anywhere: int
    precision: float | None


class Detection(msgspec.Struct, frozen=True):
    """Time to detection: from a user's first fraud in the window to the first of their frauds that alerted."""

    users: int
    detected: int
    median_ms: float | None
    """Median time to detection of the users detected; None where there are none."""
    within: dict[str, float]
    """Share of all defrauded users detected within a time: at once, 1 hour, 1 day, 7 days, ever."""
    hours: list[float]
    share: list[float]
    """Share of all defrauded users detected within each of `hours`."""
    lost_before: float
    """Amount of the frauds before detection; of a user who was not detected, of all their frauds."""


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a variant that need labels; the field `worth` in report.json."""

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
    """Variant with the same scores at its own threshold; this variant's name unless only its threshold was changed."""
    model_versions: list[int]
    thresholds: list[float]
    alerts: int
    alerted_users: int
    days: list[Day]
    weeks: list[Week]
    slices: list[Slice]
    reasons: list[ReasonUse]
    worth: Savings | None
    """None where the labels do not have both fraud and legitimate transactions."""


class TimelineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction with the scores, alerts and reasons of both variants of a comparison. `label`: -1 unknown."""

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
    """A user's events up to the transaction whose alert changed, oldest first."""

    user_id: str
    changed: str
    """Id of the transaction whose alert changed."""
    events: list[TimelineEvent]


class AlertGroup(msgspec.Struct, frozen=True):
    """Alerts of one group: given by the first variant only, by the second only, or by both."""

    name: str
    alerts: int
    labelled: int
    frauds: int
    fraud_amount: float
    users: int


class ChangedUser(msgspec.Struct, frozen=True):
    """A user with many changed alerts. Pairs hold the first and the second variant's number."""

    user_id: str
    transactions: int
    alerts: tuple[int, int]
    frauds: int
    caught: tuple[int, int]
    largest: float
    """Largest difference of scores, in log-odds, second less first."""


class VariantComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of the variant `second` with the variant `first`."""

    first: str
    second: str
    differences: dict[str, Estimate]
    """By metric: `second` less `first`, both on the same resamples; empty without labels."""
    groups: list[AlertGroup]
    """Alerts of `first` only, of `second` only, and of both."""
    users: list[ChangedUser]
    timelines: list[Timeline]


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of report.json."""

    format_version: int = FORMAT_VERSION
    title: str
    since: str | None = None
    """First day measured, where one was asked for; if none, the window begins where the models' training ended."""
    added_thresholds: list[float] = []
    """Thresholds that were asked for; each has variants of its own."""
    window: tuple[int, int]
    """First and last event time of the measured transactions."""
    warm_up: int
    """Number of transactions before the window, which gave users their past. The models may know them from training."""
    in_training: int = 0
    """Number of measured transactions that a model may know from its training: of these the figures are no test."""
    transactions: int
    users: int
    labelled: int
    frauds: int
    fraud_amount: float
    not_arrived: int
    """Number of labels that the figures use although they arrive after the end of the log."""
    resamples: int
    seed: int
    variants: list[Variant]
    comparisons: list[VariantComparison]
    runs: list[dict[str, Any]]
    """Of each replay: the data, model and settings it depended on (replay.json without the speed)."""
    notes: list[str] = []


def encode(report: ReplayReport) -> bytes:
    """The report as JSON, each field on a line of its own."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
