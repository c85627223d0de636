"""A log as a file of payments with its mapping, as a user would bring them."""

from __future__ import annotations

import csv
from pathlib import Path

from panther_core.data.table import TransactionTable

_MAPPING = """
data = "payments.csv"
sorted = true
time = "ms"
[columns]
transaction_id = "id"
user_id = "user"
merchant_id = "merchant"
merchant_category = "category"
channel = "channel"
amount = "amount"
event_time = "time"
"""


def write_payments(log: TransactionTable, folder: Path, amounts: list[str]) -> Path:
    """The log as payments.csv with these amounts, and the mapping that reads it; returns the mapping's path."""
    (folder / "mapping.toml").write_text(_MAPPING)
    with (folder / "payments.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "user", "merchant", "category", "channel", "amount", "time"])
        for t, amount in zip(log.rows(), amounts, strict=True):
            row = [t.transaction_id, t.user_id, t.merchant_id, t.merchant_category, t.channel, amount, t.event_time]
            writer.writerow(row)
    return folder / "mapping.toml"
