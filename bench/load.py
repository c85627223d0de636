"""What a benchmark of the whole system plays: the size of the load, the generated log it comes from, and a disturbance.

Behind `panther bench e2e`, `swap`, `outage`, `parity`, `replay` and `fuzz`, and `panther chaos`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.table import TransactionTable


@dataclass(frozen=True)
class Load:
    """Users with `history` events each, and the phases of `panther bench e2e`; other commands take what they need.

    The log is played in its order, but thousands of times faster than it happened. With few users, events that a user
    made minutes apart therefore arrive milliseconds apart, and each waits until the event before it is encoded. The
    default of 10,000 users avoids that.
    """

    users: int = 10_000
    history: int = 256
    backlog: int = 60_000
    """Transactions of the capacity phase."""
    rate: float = 2600
    """Transactions a second offered in the sustained phase."""
    seconds: float = 300
    """Length of the sustained phase."""
    share: float = 0.5
    """Of the sustained rate, offered in the latency phase."""
    latency_seconds: float = 60
    """Length of the latency phase."""
    seed: int = 11


@dataclass(frozen=True)
class Disturbance:
    """Something done to the running system under load.

    Times are wall clock, epoch seconds; at `end_s` the cause is gone, its effects may last longer.
    """

    name: str
    begin_s: float
    end_s: float
    what: str = ""
    """Which part was hit and for how long, for people."""


def long_table(load: Load, live: int) -> TransactionTable:
    """A generated log: `load.users` x `load.history` events of the past, followed by `live` transactions."""
    total = load.users * load.history + live
    mean = 4.0
    config = GeneratorConfig(
        users=load.users,
        days=int(1.15 * total / (load.users * mean)) + 1,  # 15 % more than `total` on average, then cut
        mean_transactions_per_day=mean,
        newcomer_share=0,
        seed=load.seed,
        start="2010-01-01",
    )
    return generate(config).take(slice(0, total))


def label_delay_ms(seen: TransactionTable) -> int:
    """A label delay of 1/50 of the log's length, so that every slice of a training has labels that have arrived."""
    return int(np.ptp(seen.time_ms)) // 50
