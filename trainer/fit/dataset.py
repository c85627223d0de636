"""From a table to the data of a training: slices in time, events with risk codes, and their histories.

Leak rule (see panther_core.data.merchant_risk): a label matures one label delay after its event, or when it came, if
that is later. Each slice uses only the labels that had matured before the next slice began. So the risk table has seen
no label of a fine-tuning event, the head none of a validation event, and the threshold none of a test event. Where
slices are not `apart` (a refresh), each label that has come is still in one slice alone; only the pause of one label
delay between them is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema
from panther_core.data.table import TransactionTable
from panther_core.entities.merchant_history import MerchantHistory
from panther_core.state.history import History
from trainer.fit.arrived import Arrived
from trainer.fit.train_config import TrainConfig

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers where slices begin (rows are in time order), and the rows of each slice whose labels may be used."""

    validation_from: int
    test_from: int
    risk: Rows
    finetune: Rows
    validation: Rows
    test: Rows


def known_at(table: TransactionTable, moment_ms: int, label_delay_ms: int) -> TransactionTable:
    """What a training at this moment sees: earlier transactions, and the labels that had arrived."""
    seen = table.take(slice(0, int(np.searchsorted(table.time_ms, moment_ms))))
    return replace(seen, label=np.where(_mature_ms(seen, label_delay_ms) <= moment_ms, seen.label, -1).astype(np.int8))


def _mature_ms(table: TransactionTable, label_delay_ms: int, rows: slice = slice(None)) -> NDArray[np.int64]:
    """From when on the labels of rows [N] are used (epoch ms): once they have come, and a label delay after their
    payments, since payments whose labels come early are not a sample of all."""
    matures_ms = table.time_ms[rows] + label_delay_ms
    return matures_ms if table.told_ms is None else np.maximum(matures_ms, table.told_ms[rows])


def split(table: TransactionTable, config: TrainConfig, label_delay_ms: int) -> Split:
    """Cut the table by time, up to where labels are known.

    The slices for fine-tuning and validation last at least twice the label delay, so that half of their labels arrive
    before they end: a share of a short log may be less. Those that are not `apart` last at least one label delay, which
    has as many labels.
    A config that is `sized` moves the cuts where frauds come in few waves, so that each slice has some. Raises BadInput
    when a slice has no matured fraud or no matured legitimate row.
    """
    if not (table.label >= 0).any():
        raise BadInput(
            f"expected labels to train the fraud head on, got none in {len(table)} rows: give a log with labels "
            "(of your own file, map the column `label`; docs/labels.md)"
        )
    count = _labelled(table, label_delay_ms)
    cuts = [int(count * share) for share in (config.finetune_from, config.validation_from, config.test_from)]

    def matured(begin: int, end: int) -> Rows:
        rows = np.arange(begin, end)
        known = table.label[begin:end] >= 0
        if end < count and config.apart:
            known &= _mature_ms(table, label_delay_ms, slice(begin, end)) <= table.time_ms[end]
        return rows[known]

    def slices() -> list[Rows]:
        return [matured(begin, end) for begin, end in pairwise([*cuts, count])]

    def usable() -> list[bool]:
        return [bool(0 < table.label[rows].sum() < len(rows)) for rows in slices()]

    for i in (1, 0):
        least_ms = label_delay_ms * (2 if config.apart else 1)
        begin_ms = table.time_ms[min(cuts[i + 1], len(table) - 1)] - least_ms
        cuts[i] = min(cuts[i], int(np.searchsorted(table.time_ms, begin_ms)))
    if config.sized and not all(usable()):
        cuts = _cuts_between_waves(table, count, label_delay_ms) or cuts
    parts = slices()
    for name, rows in zip(("fine-tuning", "validation", "test"), parts, strict=True):
        frauds = int(table.label[rows].sum())
        if frauds == 0 or frauds == len(rows):
            raise BadInput(
                f"expected fraud and legitimate labels in the {name} slice that had matured "
                f"({label_delay_ms / DAY_MS:g} days) before the next slice, got {frauds} frauds in {len(rows)} of "
                f"{count} rows ({len(table)} with those too new for labels): give a longer log or a shorter "
                "label delay"
            )
    return Split(cuts[1], cuts[2], matured(0, cuts[0]), *parts)


def _cuts_between_waves(table: TransactionTable, count: int, label_delay_ms: int) -> list[int] | None:
    """Begins of the three slices, in those two pauses between frauds that leave most frauds to the slice with fewest;
    None where there are no two pauses longer than the label delay."""
    frauds = np.flatnonzero(table.label[:count] == 1)
    before = np.flatnonzero(np.diff(table.time_ms[frauds]) > label_delay_ms) + 1  # [pauses] frauds before each
    if len(before) < 2:
        return None
    first, second = (before[i] for i in np.triu_indices(len(before), 1))
    best = int(np.minimum(first, np.minimum(second - first, len(frauds) - second)).argmax())
    cuts = [int(frauds[0]) // 2]
    for left in (int(first[best]), int(second[best])):
        known = int(np.searchsorted(table.time_ms, table.time_ms[frauds[left - 1]] + label_delay_ms))
        cuts.append((known + int(frauds[left])) // 2)
    return cuts


def _labelled(table: TransactionTable, label_delay_ms: int) -> int:
    """Number of rows before the labels end. The newest rows of a log that is still written have no labels, or only
    those of payments that were investigated early, which are not a sample of all payments."""
    legitimate = np.flatnonzero(table.label == 0)
    count = int(legitimate[-1]) + 1 if len(legitimate) else len(table)
    if (table.label[count:] >= 0).all():  # the last payments may be frauds
        return len(table)
    return min(count, int(np.searchsorted(table.time_ms, end_ms(table, label_delay_ms) - label_delay_ms, "right")))


def end_ms(table: TransactionTable, label_delay_ms: int) -> int:
    """Time of the log's last row, without a few rows of a clock that is far ahead.

    Those are at most a hundredth of the rows, after a gap of more than a day and more than the label delay. Were they
    taken for the end of the log, all labels would seem to have had the time to come.
    """
    time_ms = table.time_ms[-(len(table) // 100 + 2) :]
    ahead = np.flatnonzero(np.diff(time_ms) > max(DAY_MS, label_delay_ms))
    return int(time_ms[ahead[0]] if len(ahead) else time_ms[-1])


def prepare_events(
    table: TransactionTable,
    schema: AttributeSchema,
    rows: Split,
    length: int,
    label_delay_ms: int,
    risk: MerchantRisk | None = None,
    merchants: MerchantHistory | None = None,
    wanted: Callable[[Arrived], Rows] | None = None,
) -> tuple[History, MerchantRisk]:
    """History of the whole table, counterparty risk filled in, and the risk table that filled it.

    What is known of a merchant are payments of earlier hours and labels that had arrived by then, or what the table
    says that was known. `risk`: the risk table to use. When it is not given, one is fitted on the rows `rows.risk`.
    `merchants`: takes all that happened at merchants in. `wanted`: gives the rows that get features; all if not given.
    """
    if risk is None:
        known = table.merchant_hashes()[rows.risk]
        risk = MerchantRisk.fit(known, table.label[rows.risk], schema.risk_levels)
    arrived = Arrived.of(table, schema, risk)
    own = None if wanted is None else wanted(arrived)
    return arrived.history(length, label_delay_ms, merchants or MerchantHistory(), own), risk


def before(history: History, row: int) -> History:
    """The same history without the events from `row` on; columns are shared."""
    return keep(history, np.arange(len(history.code)) < row)


def keep(history: History, keep_N: NDArray[np.bool_]) -> History:
    """The history of the events in `keep_N` alone. These must be, for each user, the first events of the history (all,
    some or none), so that what was known before each event is unchanged. Columns are shared."""
    kept = keep_N[history.order]
    bounds = np.concatenate([[0], np.cumsum(kept)])[history.bounds]
    return replace(history, order=history.order[kept], bounds=bounds)
