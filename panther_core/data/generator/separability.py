"""Measures a generated log: how well one field alone tells fraud, and how well past payments predict the next one.

`python -m panther_core.data.generator.separability` prints the tables of docs/generator.md.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from panther_core.base.errors import BadInput
from panther_core.base.times import HOUR_MS
from panther_core.data.generator.build import generate
from panther_core.data.generator.config import FRAUD_KINDS, GeneratorConfig
from panther_core.data.generator.rows import Floats, Ints
from panther_core.data.schema import hour_of_week
from panther_core.data.table import TransactionTable


def auc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, direction-free: max(AUC, 1 - AUC). NaN if there is only one class."""
    if positive.all() or not positive.any():
        return float("nan")
    area = roc_auc_score(positive, score)
    return float(max(area, 1 - area))


def features(table: TransactionTable) -> dict[str, Floats]:
    """One array [N] a feature. `... rate` is the fraud rate of the value in the same table, labels of the row included,
    so its AUC is an upper bound."""
    user, fraud = table.user.index.astype(np.int64), table.label == 1
    order = np.lexsort((table.time_ms, user))
    gap_h = np.empty(len(table))
    step_ms = np.diff(table.time_ms[order], prepend=0)
    first = np.diff(user[order], prepend=-1) != 0
    gap_h[order] = np.where(first, 1000.0, step_ms / HOUR_MS)
    log_amount = np.log1p(table.amount)
    hour = hour_of_week(table.time_ms).astype(np.int64)
    bins = np.searchsorted(np.quantile(log_amount, np.linspace(0, 1, 101)[1:-1]), log_amount, side="right")
    out = {
        "amount": table.amount,
        "amount, rate by percentile": _rate(bins, fraud),
        "amount against user's mean": log_amount - _mean_before(user, log_amount),
        "hour of day": (hour % 24).astype(np.float64),
        "hour of day, rate": _rate(hour % 24, fraud),
        "category, rate": _rate(table.category.index, fraud),
        "channel, rate": _rate(table.channel.index, fraud),
        "merchant, rate until then": _mean_before(
            table.merchant.index, fraud.astype(np.float64), prior=0.007, strength=100
        ),
        "new merchant": _is_new(user, table.merchant.index),
        "gap to the last payment": gap_h,
        "payments in the last hour": _velocity(table.time_ms, user, HOUR_MS),
        "payments in the last day": _velocity(table.time_ms, user, 24 * HOUR_MS),
        "payments before": _count_before(user),
    }
    if table.country is not None:
        out["country, rate"] = _rate(table.country.index, fraud)
        out["new country"] = _is_new(user, table.country.index)
    if table.device is not None:
        out["new device"] = _is_new(user, table.device.index) * (table.device.index >= 0)
    return out


def separability(table: TransactionTable) -> dict[str, dict[str, float]]:
    """AUC of each single feature: `all` fraud, then each kind against the legitimate payments."""
    if table.fraud_kind is None or not (table.label == 1).any():
        raise BadInput(
            "expected a table with labelled fraud and fraud_kind, got none: raise the fraud rates or the size"
        )
    kind, names = table.fraud_kind.index, table.fraud_kind.words
    out: dict[str, dict[str, float]] = {}
    for feature, score in features(table).items():
        row = {"all": auc(score, table.label == 1)}
        for i, name in enumerate(names):
            part = (kind == i) | (kind < 0)
            row[name] = auc(score[part], kind[part] == i)
        out[feature] = row
    return out


def learnability(table: TransactionTable, seed: int = 0) -> dict[str, float]:
    """Bits needed to code the (category, channel) of a legitimate payment, by what is known of the payments before it.

    Measured on the last 30 % of the time. Counts are smoothed towards the next shorter context, so a context that does
    not help costs nothing.
    """
    honest = np.flatnonzero(table.label != 1)
    honest = honest[np.lexsort((table.time_ms[honest], table.user.index[honest]))]
    user = table.user.index[honest].astype(np.int64)
    channels = len(table.channel.words)
    symbol = table.category.index[honest].astype(np.int64) * channels + table.channel.index[honest]
    symbols = len(table.category.words) * channels
    hour = hour_of_week(table.time_ms[honest]).astype(np.int64) % 24
    previous, before = np.roll(symbol, 1), np.roll(symbol, 2)
    position = _count_before(user).astype(np.int64)
    usable = position >= 2
    train = (table.time_ms[honest] < np.quantile(table.time_ms[honest], 0.7)) & usable
    test = ~train & usable
    last_hour = np.roll(hour, 1)  # of the payment before: the hour of the payment to be predicted is not known yet
    shuffled = _shuffle_within(user, symbol, seed)
    contexts: dict[str, list[Ints]] = {
        "nothing (unconditional)": [],
        "last (category, channel)": [previous],
        "last, its hour": [previous, last_hour],
        "last two": [previous, before],
        "user": [user],
        "user, last": [previous, user],
        "user, last two": [previous, user, before],
        "user, last, its hour": [previous, user, last_hour],
        "user, last; order shuffled within each user": [user, np.roll(shuffled, 1)],
    }
    return {
        name: _bits(shuffled if "shuffled" in name else symbol, symbols, parts, train, test)
        for name, parts in contexts.items()
    }


def _bits(symbol: Ints, symbols: int, parts: list[Ints], train: NDArray[np.bool_], test: NDArray[np.bool_]) -> float:
    """Held-out cross-entropy in bits; each part refines the context, smoothed with weight 6 towards the coarser one."""
    probability = (np.bincount(symbol[train], minlength=symbols)[symbol[test]] + 0.5) / (train.sum() + 0.5 * symbols)
    context = np.zeros(len(symbol), np.int64)
    for part in parts:
        context = np.unique(context * (part.max() + 1) + part, return_inverse=True)[1]
        joint = context * symbols + symbol
        keys, counts = np.unique(joint[train], return_counts=True)
        at = np.minimum(np.searchsorted(keys, joint[test]), len(keys) - 1)
        seen = np.where(keys[at] == joint[test], counts[at], 0)
        total = np.bincount(context[train], minlength=int(context.max()) + 1)[context[test]]
        probability = (seen + 6 * probability) / (total + 6)
    return float(-np.log2(probability).mean())


def _shuffle_within(user: Ints, values: Ints, seed: int) -> Ints:
    """`values` (sorted by user) in random order within each user."""
    order = np.lexsort((np.random.default_rng(seed).random(len(user)), user))
    return values[order]


def _rate(value: NDArray[np.signedinteger], fraud: NDArray[np.bool_]) -> Floats:
    count = np.bincount(value + 1)
    out: Floats = (np.bincount(value + 1, weights=fraud) / np.maximum(1, count))[value + 1]
    return out


def _is_new(user: Ints, value: NDArray[np.signedinteger]) -> Floats:
    """1 where the user's payments have the value for the first time, else 0; the user's first payment gives 0."""
    _, first = np.unique(user * (int(value.max()) + 2) + value + 1, return_index=True)
    out = np.zeros(len(user))
    out[first] = 1
    out[np.unique(user, return_index=True)[1]] = 0
    return out


def _count_before(group: NDArray[np.signedinteger]) -> Floats:
    """Number of earlier rows of the same group; rows are in time order."""
    order = np.argsort(group, kind="stable")
    begin = np.flatnonzero(np.diff(group[order], prepend=-2))
    out = np.empty(len(group))
    out[order] = np.arange(len(group)) - np.repeat(begin, np.diff(np.append(begin, len(group))))
    return out


def _mean_before(
    group: NDArray[np.signedinteger], value: Floats, prior: float | None = None, strength: float = 1
) -> Floats:
    """Mean of the group's earlier rows and of `strength` further rows of value `prior` (None: the mean of all rows)."""
    prior = float(value.mean()) if prior is None else prior
    order = np.argsort(group, kind="stable")
    begin = np.flatnonzero(np.diff(group[order], prepend=-2))
    size = np.diff(np.append(begin, len(group)))
    running = np.cumsum(value[order]) - value[order]
    out = np.empty(len(group))
    out[order] = running - np.repeat(running[begin], size)
    return (out + strength * prior) / (_count_before(group) + strength)


def _velocity(time_ms: Ints, user: Ints, window_ms: int) -> Floats:
    """Number of the user's earlier payments in the last `window_ms`."""
    order = np.lexsort((time_ms, user))
    stride = int(time_ms.max() - time_ms.min()) + window_ms + 1
    key = user[order] * stride + time_ms[order] - time_ms.min()
    low = np.searchsorted(key, np.maximum(key - window_ms, user[order] * stride))
    out = np.empty(len(user))
    out[order] = np.arange(len(user)) - low
    return out


def main() -> None:
    """Print both tables as Markdown for the default config."""
    table = generate(GeneratorConfig())
    lines = ["| feature | all | " + " | ".join(FRAUD_KINDS) + " |", "|---" * (2 + len(FRAUD_KINDS)) + "|"]
    rows = sorted(separability(table).items(), key=lambda item: -item[1]["all"])
    lines += [f"| {name} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |" for name, row in rows]
    lines += ["", "| known | bits |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in learnability(table).items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
