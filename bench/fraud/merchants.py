"""`panther bench merchants`: alerts on merchants (topic merchant.alerts), where compromised merchants are known.

The threshold is set on the log's first part, for a number of alerts a day, and judged on the rest. Beside it stand the
same looks ranked by the rate of frauds among the labels of 28 days alone, with as many alerts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.generator import GeneratorConfig
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable
from panther_core.entities.merchant_alerts import RISK, alerts_at, threshold_within
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.state.history import prepare
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.train_config import preset

#: the kinds of fraud that stay at a merchant for a while: FDH's terminals, and the outlets of the generator's rings
AT_MERCHANTS = ("terminal_compromised", "compromised_merchant")
GENERATED = GeneratorConfig(users=2000, days=120)
_PAUSE_MS = 14 * DAY_MS  # frauds at a merchant after a longer pause are another episode
_LEAST = 3  # frauds of an episode
_RATE = RISK_NAMES.index("rate_28d")


@dataclass(frozen=True)
class _Episodes:
    merchant: NDArray[np.uint64]
    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]


def run_merchants(
    table: TransactionTable,
    profile: tuple[ProfileField, ...] | None,
    label_delay_ms: int,
    budgets: tuple[float, ...],
    first_part: float = 0.5,
) -> dict[str, Any]:
    """Figures of alerts by each budget (share of the merchants a day). Raises BadInput for a log without such
    frauds."""
    looks, merchants = _looks(table, profile, label_delay_ms), len(np.unique(table.merchant.index))
    begin_ms, end_ms = int(table.time_ms[0]), int(table.time_ms[-1])
    cut_ms = begin_ms + round(first_part * (end_ms - begin_ms))
    episodes = _episodes(table, cut_ms - label_delay_ms, end_ms - label_delay_ms)
    if not len(episodes.merchant):
        raise BadInput(
            f"expected frauds of the kinds {', '.join(AT_MERCHANTS)} in the second part of the log, got none"
        )
    early = looks["hour"] * HOUR_MS < cut_ms
    later = looks[~early]
    rows = []
    for budget in budgets:
        days = (cut_ms - begin_ms) / DAY_MS
        threshold = threshold_within(looks[early], budget * merchants * days)
        chosen = later[alerts_at(later, threshold)]
        by_rate = later.copy()
        by_rate["seller"][:, RISK] = later["seller"][:, _RATE]
        rates = by_rate[_as_many(by_rate, len(chosen))]
        rows.append(
            {
                "budget": budget,
                "threshold": round(threshold, 3),
                "alerts_a_day": round(len(chosen) / ((end_ms - cut_ms) / DAY_MS), 2),
                **_judged(chosen, episodes),
                "by_rate": {"alerts": len(rates), **_judged(rates, episodes)},
            }
        )
    return {
        "transactions": len(table),
        "merchants": merchants,
        "looks": len(looks),
        "episodes": len(episodes.merchant),
        "measured_days": round((end_ms - cut_ms) / DAY_MS, 1),
        "budgets": rows,
    }


def _looks(table: TransactionTable, profile: tuple[ProfileField, ...] | None, label_delay_ms: int) -> NDArray[np.void]:
    config = preset("default")
    schema = fit_log_schema(table, profile, config)
    events = table.events(schema, MerchantRisk.fit(table.merchant_hashes()[:0], table.label[:0], schema.risk_levels))
    history, merchants = prepare(events, schema, 2), MerchantHistory()
    see_merchants(history, events, table.label, table.time_ms + label_delay_ms, merchants)
    merchants.end()
    return merchants.take_looks()


def _episodes(table: TransactionTable, from_ms: int, until_ms: int) -> _Episodes:
    """Those that began so that their first label came in the log's second part."""
    kinds = table.fraud_kind
    if kinds is None:
        return _Episodes(np.zeros(0, np.uint64), *np.zeros((2, 0), np.int64))
    wanted = [kinds.words.index(kind) for kind in AT_MERCHANTS if kind in kinds.words]
    rows = np.flatnonzero((table.label == 1) & np.isin(kinds.index, wanted))
    rows = rows[np.lexsort((table.time_ms[rows], table.merchant.index[rows]))]
    merchant, time_ms = table.merchant_hashes()[rows], table.time_ms[rows]
    new = np.append(True, (np.diff(merchant) != 0) | (np.diff(time_ms) > _PAUSE_MS))[: len(rows)]
    begin = np.flatnonzero(new)
    end = np.append(begin[1:], len(rows)) - 1
    kept = (end - begin + 1 >= _LEAST) & (time_ms[begin] >= from_ms) & (time_ms[begin] < until_ms)
    return _Episodes(merchant[begin[kept]], time_ms[begin[kept]], time_ms[end[kept]])


def _as_many(looks: NDArray[np.void], alerts: int) -> NDArray[np.bool_]:
    """Which looks are alerts at the lowest threshold of their risk that raises at most so many."""
    found = np.zeros(len(looks), np.bool_)
    for value in np.unique(looks["seller"][:, RISK])[::-1].tolist():
        more = alerts_at(looks, value)
        if more.sum() > alerts:
            break
        found = more
    return found


def _judged(alerts: NDArray[np.void], episodes: _Episodes) -> dict[str, Any]:
    """Precision; share of the episodes with an alert; days from the first fraud to it, median."""
    at_ms = alerts["hour"] * HOUR_MS
    right, days = np.zeros(len(alerts), np.bool_), []
    for merchant, first_ms, last_ms in zip(episodes.merchant, episodes.first_ms, episodes.last_ms, strict=True):
        hit = (alerts["merchant"] == merchant) & (at_ms >= first_ms) & (at_ms <= last_ms + _PAUSE_MS)
        right |= hit
        if hit.any():
            days.append((at_ms[hit].min() - first_ms) / DAY_MS)
    return {
        "precision": round(float(right.mean()), 4) if len(alerts) else None,
        "found": round(len(days) / len(episodes.merchant), 4),
        "days": round(float(np.median(days)), 2) if days else None,
    }
