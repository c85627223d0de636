"""The risk from which on a merchant is an alert, for a number of alerts a day."""

from __future__ import annotations

import numpy as np

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.table import TransactionTable
from panther_core.entities.merchant_alerts import threshold_within
from panther_core.entities.merchant_history import MerchantHistory
from trainer.fit.dataset import Split, end_ms


def merchant_threshold(
    merchants: MerchantHistory, table: TransactionTable, rows: Split, budget: float, label_delay_ms: int
) -> float | None:
    """Log odds; lowest threshold at which the share `budget` of the merchants alerts a day, from the validation slice
    to the log's end. None where no fraud is known there. `merchants` has taken in the whole table."""
    merchants.end()
    looks, begin, end = merchants.take_looks(), int(table.time_ms[rows.validation_from]), end_ms(table, label_delay_ms)
    late = (looks["hour"] * HOUR_MS > begin) & (looks["hour"] * HOUR_MS <= end + HOUR_MS)
    if not late.any():
        return None
    return threshold_within(looks[late], budget * len(np.unique(table.merchant.index)) * (end - begin) / DAY_MS)
