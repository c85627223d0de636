"""Chances that a payment's merchant or payer is compromised (columns `compromise.*`), and the fit of their parameters;
what is known of the merchant from its live history (columns `live.*`).

There are two kinds of episodes (panther_core.entities.episodes). A merchant's episode shows in labels: almost every
payment there is fraud. A payer's episode shows in amounts, before any label: a share of the amounts is distributed like
those of frauds at honest merchants. The parameters (hazards, lengths, shares, the distribution of amounts in either
state, the amount above which no payment was honest) are fitted to the labels known at one moment. The chances of a row
come from what was known at that row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.base.odds import log_odds
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from panther_core.entities.columns import Matrix
from panther_core.entities.episodes import Episode, Evidence, chance, label_evidence
from panther_core.entities.grouped import Floats, Grouped, Ints
from panther_core.entities.merchant_history import Labels, Payments, as_of_hours
from panther_core.entities.merchants import episode_odds, merchant_features
from trainer.heads.episode_fit import EpisodeLabels, fit_episode

ANY, SELLER = "compromise.any", "compromise.seller"
ANY_LIVE = "live.any"
_RATIO_STEP, _RATIO_MAX = 0.25, 8.0


@dataclass(frozen=True)
class _Rows:
    """A table's N rows, and the K of them whose labels may be fitted to."""

    table: TransactionTable
    first_ms: int  # midnight of day 0
    day: Ints  # [N]
    known: Ints  # [K] row numbers
    fraud: NDArray[np.bool_]  # [N]
    delay_ms: int


def compromise_columns(table: TransactionTable, ratio: Floats, delay_ms: int, known_at_ms: int) -> Matrix:
    """Log odds [N, 4] and the columns `live.*`; fitted on the labels known at `known_at_ms`. `ratio` [N]: amount over
    the user's usual amount.

    `seller`: the payment is a fraud of an episode of its merchant. `payer`: the user is in an episode, as known before
    this payment. `amount`: the payment is a fraud of the user's episode. `any`: the payment is a fraud of any kind,
    which includes amounts that no honest payment has had. `live.*`: features of the merchant's live history
    (panther_core.entities.merchants) as of the full hour; `live.any` is `any` with the chance that follows from it.
    """
    first_ms = int(table.time_ms[0]) // DAY_MS * DAY_MS
    known = np.flatnonzero((table.label >= 0) & (table.time_ms < known_at_ms - delay_ms))
    rows = _Rows(table, first_ms, (table.time_ms - first_ms) // DAY_MS, known, table.label == 1, delay_ms)
    payer, amount = _payer(rows, ratio)
    elsewise = np.maximum(amount, _never_honest(rows))
    episode = _seller_episode(rows, elsewise)
    seller, live = _seller(rows, elsewise, episode), _live(rows, elsewise, ratio, episode)
    chances = {"seller": seller, "payer": payer, "amount": amount, "any": 1 - (1 - elsewise) * (1 - seller)}
    columns = {f"compromise.{name}": log_odds(value) for name, value in chances.items()}
    columns[ANY_LIVE] = log_odds(1 - (1 - elsewise) * (1 - episode.share * live.pop("odds")))
    return Matrix.of(columns | {f"live.{name}": value for name, value in live.items()})


def lone_frauds(merchant: Ints, fraud: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each row [N] is a fraud between honest payments at its merchant, so not of an episode of that merchant.

    Rows are in time order.
    """
    order = np.argsort(merchant, kind="stable")
    honest, same = ~fraud[order], np.diff(merchant[order]) == 0
    between = np.append(same & honest[1:], False) & np.append(False, same & honest[:-1])
    out = np.zeros(len(merchant), np.bool_)
    out[order] = between & ~honest
    return out


def _payer(rows: _Rows, ratio: Floats) -> tuple[Floats, Floats]:
    """Chance [N] that the user is in an episode before the payment, and that the payment is a fraud of it."""
    user, users = rows.table.user.index.astype(np.int64), len(rows.table.user.words)
    lone = np.zeros(len(user), np.bool_)
    lone[rows.known] = lone_frauds(rows.table.merchant.index[rows.known].astype(np.int64), rows.fraud[rows.known])
    used = rows.known[lone[rows.known] | ~rows.fraud[rows.known]]
    elsewise = np.full(len(used), lone[used].mean())
    episode = fit_episode(EpisodeLabels(rows.day[used], user[used], lone[used], elsewise, users))
    odds = episode.share * np.exp(_ratio_evidence(ratio, used[~lone[used]], used[lone[used]]))
    by_user = Grouped.of(user, rows.table.time_ms, users)
    seen = Evidence(by_user, rows.day, user, np.log(1 - episode.share + odds), rows.first_ms)
    inside = chance(seen, episode, user, by_user.position, rows.table.time_ms)
    fraud = inside * odds
    return inside, fraud / (fraud + inside * (1 - episode.share) + 1 - inside)


def _ratio_evidence(ratio: Floats, honest: Ints, fraud: Ints) -> Floats:
    """Log of P(ratio | fraud) / P(ratio | honest) [N], from smoothed histograms over the given rows."""
    edges = np.arange(0, _RATIO_MAX + 2 * _RATIO_STEP, _RATIO_STEP)

    def density(values: Floats) -> Floats:
        counts = np.histogram(np.clip(values, 0, _RATIO_MAX), edges)[0] + 0.5
        padded = np.concatenate([counts[:1], counts, counts[-1:]])
        smooth = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
        return np.asarray(smooth / smooth.sum(), np.float64)

    log_ratio = np.log(density(ratio[fraud])) - np.log(density(ratio[honest]))
    return np.asarray(np.interp(ratio, edges[:-1] + _RATIO_STEP / 2, log_ratio), np.float64)


def _never_honest(rows: _Rows) -> Floats:
    """Chance of fraud [N] of amounts above every known honest amount, by the rule of succession; 0 for other
    amounts."""
    amount, known, fraud = rows.table.amount, rows.known, rows.fraud
    above = amount > amount[known[~fraud[known]]].max(initial=0)
    return np.where(above, 1 - 1 / (above[known].sum() + 2), 0)


def _seller_episode(rows: _Rows, elsewise: Floats) -> Episode:
    """The episode of merchants; `elsewise` [N]: chance of fraud outside of one."""
    merchant, merchants, known = rows.table.merchant.index.astype(np.int64), len(rows.table.merchant.words), rows.known
    return fit_episode(EpisodeLabels(rows.day[known], merchant[known], rows.fraud[known], elsewise[known], merchants))


def _live(rows: _Rows, elsewise: Floats, ratio: Floats, episode: Episode) -> dict[str, Floats]:
    """Columns [N] of merchants' live history, among them `odds`, the chance of an episode."""
    payments = Payments(rows.table.merchant.index.astype(np.int64), rows.table.time_ms, ratio)
    labelled = np.flatnonzero(rows.table.label >= 0)
    told_ms = rows.table.time_ms[labelled] + rows.delay_ms
    labels = Labels(labelled, told_ms, rows.fraud[labelled], elsewise[labelled])
    base_rate = float(rows.fraud[rows.known].mean()) if len(rows.known) else 0.0

    def read(states: NDArray[np.void]) -> dict[str, Floats]:
        return merchant_features(states, base_rate) | {"odds": episode_odds(states, episode)}

    return as_of_hours(payments, labels, read)


def _seller(rows: _Rows, elsewise: Floats, episode: Episode) -> Floats:
    """Chance [N] that the payment is a fraud of its merchant's episode."""
    merchant, merchants = rows.table.merchant.index.astype(np.int64), len(rows.table.merchant.words)
    labelled = np.flatnonzero(rows.table.label >= 0)
    value = label_evidence(rows.fraud[labelled], elsewise[labelled], episode.share)
    by_label = Grouped.of(merchant[labelled], rows.table.time_ms[labelled], merchants)
    seen = Evidence(by_label, rows.day[labelled], merchant[labelled], value, rows.first_ms)
    seen_ms = rows.table.time_ms - rows.delay_ms
    until, ahead_d = by_label.until(merchant, seen_ms), -(-rows.delay_ms // DAY_MS)
    return episode.share * chance(seen, episode, merchant, until, seen_ms, ahead_d)
