"""The engine's steps with models that answer at once, and a file of payments: what several suites feed the same way."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from panther_core.engine import Answer, Decided, Request, Steps
from panther_core.scoring import ExplainRequest, ScoreRequest
from panther_core.table import TransactionTable

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


def decided(steps: Steps, ask: Callable[[Request], Answer]) -> Iterator[Decided]:
    """What the engine decides, in its order; `ask` gives the models' answers, or None for one that is down."""
    answer: Answer = None
    while True:
        try:
            need = steps.send(answer)
        except StopIteration:
            return
        answer = None
        if isinstance(need, Decided):
            yield need
        else:
            answer = ask(need)


def asking(model: Any) -> Callable[[Request], Answer]:
    """The three calls of a PantherModel."""

    def ask(need: Request) -> Answer:
        if isinstance(need, ScoreRequest):
            return model.score(need)  # type: ignore[no-any-return]
        if isinstance(need, ExplainRequest):
            return model.explain(need.scored)  # type: ignore[no-any-return]
        return model.encode(need.codes, need.length, need.profile)  # type: ignore[no-any-return]

    return ask


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
