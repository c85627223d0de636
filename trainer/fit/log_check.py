"""What is wrong or odd in a log that can be read, before anything is trained on it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.formats.check import Problem
from panther_core.data.table import TransactionTable
from trainer.fit.dataset import split
from trainer.fit.train_config import preset

_MOST_FRAUDS = 0.2  # share from which on the words of the labels are likely swapped
_ONE_EVENT = 0.5  # share of users with one event from which on little can be learnt of habits


def check_log(table: TransactionTable, label_delay_ms: int) -> list[Problem]:
    """Problems of a log, those that keep a model from being trained among them."""
    out = [*_repeated(table), *_users(table), *_times(table)]
    out += _labels(table, label_delay_ms)
    return out


def facts(table: TransactionTable) -> dict[str, str]:
    """What a log holds, for people."""
    days = (table.time_ms[-1] - table.time_ms[0]) / DAY_MS
    labelled, frauds = int((table.label >= 0).sum()), int((table.label == 1).sum())
    share = f", {frauds / labelled:.2%} of the labelled" if labelled else ""
    return {
        "days": f"{_day(table.time_ms[0])} to {_day(table.time_ms[-1])} ({days:.0f} days)",
        "users": f"{len(np.unique(table.user.index)):,}",
        "merchants": f"{len(np.unique(table.merchant.index)):,}",
        "labelled": f"{labelled:,}",
        "frauds": f"{frauds:,}{share}",
    }


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(int(time_ms) / 1000, UTC):%Y-%m-%d}"


def _repeated(table: TransactionTable) -> list[Problem]:
    """Ids that a user has twice: copies, which count once everywhere, or other payments, which count on their own."""
    _, ids = np.unique(table.transaction_id, return_inverse=True)
    order = np.lexsort((ids, table.user.index))
    same = (np.diff(ids[order]) == 0) & (np.diff(table.user.index[order]) == 0)
    columns = (table.amount, table.time_ms, table.merchant.index)
    equal = np.all([np.diff(column[order]) == 0 for column in columns], axis=0)
    out = []
    for mask, what in (
        (
            same & equal,
            "payments come again with the same id and content: copies count once, here and in the stream",
        ),
        (same & ~equal, "payments have an id that their user has used before, for another payment: each counts"),
    ):
        rows = order[1:][mask]
        if len(rows):
            row = int(rows.min())
            first = f"{table.transaction_id[row]} of {table.user[row]} on {_day(table.time_ms[row])}"
            out.append(Problem(what, len(rows), first, fatal=False))
    return out


def _users(table: TransactionTable) -> list[Problem]:
    users, counts = np.unique(table.user.index, return_counts=True)
    single = users[counts == 1]
    if len(single) < _ONE_EVENT * len(users):
        return []
    what = f"of {len(users):,} users have one payment: nothing can be learnt of the habits of these"
    return [Problem(what, len(single), str(table.user.words[single[0]]), fatal=False)]


def _times(table: TransactionTable) -> list[Problem]:
    midnight = int((table.time_ms % DAY_MS == 0).sum())
    if len(table) > 1 and midnight > 0.9 * len(table):
        what = "payments are at midnight UTC: without times of day the order within a day is that of the file"
        return [Problem(what, midnight, _day(table.time_ms[0]), fatal=False)]
    return []


def _labels(table: TransactionTable, label_delay_ms: int) -> list[Problem]:
    labelled, frauds = int((table.label >= 0).sum()), int((table.label == 1).sum())
    if labelled and frauds == labelled:
        what = 'labels are all of frauds: if the other payments are honest, set others = "honest" (docs/labels.md)'
        return [Problem(what, frauds)]
    out = []
    if frauds > _MOST_FRAUDS * max(labelled, 1):
        what = f"of {labelled:,} labels say fraud: are the words in `fraud` and `honest` the right way round?"
        out.append(Problem(what, frauds, fatal=False))
    try:
        rows = split(table, preset("default"), label_delay_ms)
    except BadInput as error:
        return [*out, Problem(str(error), 1)]
    for name, part in (("fine-tuning", rows.finetune), ("validation", rows.validation), ("test", rows.test)):
        own = int((table.label[part] == 1).sum())
        if own < 20:
            begin = _day(table.time_ms[part[0]])
            what = f"frauds are in the {name} slice (payments from {begin} on): its figures will be chance"
            out.append(Problem(what, own, fatal=False))
    return out
