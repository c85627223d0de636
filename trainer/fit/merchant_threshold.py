"""The risk from which on a merchant is an alert, for a number of alerts a day."""

from __future__ import annotations

import numpy as np

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.table import TransactionTable
from panther_core.entities.merchant_alerts import threshold_within
from panther_core.entities.merchant_history import MerchantHistory
from trainer.fit.dataset import Split


def merchant_threshold(merchants: MerchantHistory, table: TransactionTable, rows: Split, budget: float) -> float:
    """Log odds; lowest threshold at which the share `budget` of the merchants alerts a day, from the validation slice
    to the log's end. `merchants` has taken in the whole table; what has happened in its last hour counts too."""
    merchants.end()
    looks, begin_ms, end_ms = merchants.take_looks(), table.time_ms[rows.validation_from], table.time_ms[-1]
    late = (looks["hour"] * HOUR_MS > begin_ms) & (looks["hour"] * HOUR_MS <= end_ms + HOUR_MS)
    count = len(np.unique(table.merchant.index[table.merchant.index >= 0]))
    return threshold_within(looks[late], budget * count * float(end_ms - begin_ms) / DAY_MS)
