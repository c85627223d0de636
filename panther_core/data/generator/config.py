"""What to generate: every knob of the generator, with its check."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec

from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges
from panther_core.base.times import DAY_MS


class GeneratorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size, period and fraud of a generated log. Fraud rates are shares of the legitimate transactions.

    Raises BadInput when a value is out of its range. The same config gives the same bytes.
    """

    users: Annotated[int, Range(2, 5_000_000)] = 5000
    """People in the log, newcomers included."""
    days: Annotated[int, Range(1, 3650)] = 180
    """Length of the log in days."""
    start: str = "2025-01-01"
    """First day, ISO 8601; people live in UTC."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of every random number."""
    merchants: Annotated[int, Range(20, 1_000_000)] = 2000
    """Merchants, spread over 20 categories (so 20 at least)."""
    mean_transactions_per_day: Annotated[float, Range(0.01, 50)] = 2.0
    """Legitimate transactions a day of an average active person."""
    newcomer_share: Annotated[float, Range(0, 1)] = 0.1
    """Share of people whose first transaction comes after the start of the log."""
    account_takeover: Annotated[float, Range(0, 0.05)] = 0.0025
    """Somebody else's ordinary shopping, on this account, mostly from a device new to it."""
    card_testing: Annotated[float, Range(0, 0.05)] = 0.0012
    """Bursts of small online payments, then a large one."""
    compromised_merchant: Annotated[float, Range(0, 0.05)] = 0.0020
    """Cards copied at a merchant in some weeks, used elsewhere days later."""
    slow_mimicry: Annotated[float, Range(0, 0.05)] = 0.0015
    """The victim's own kinds of payment over weeks, in the wrong order, at other hours, to one other merchant."""

    drift_day: Annotated[int, Range(0, 3649)] = 0
    """Day from which on fraud and habits are others, of which earlier days show nothing; 0 = never. What follows is of
    the days from then on."""
    moved_share: Annotated[float, Range(0, 1)] = 0.35
    """Share of the people who take up other hours, channels and kinds of shop within a week."""
    push_payment: Annotated[float, Range(0, 0.05)] = 0.0018
    """A new kind of fraud: the victim is talked into transfers to somebody new, from the own device."""
    merchant_wave: Annotated[float, Range(0, 0.05)] = 0.0008
    """More of `compromised_merchant`, all of it from cards copied within two weeks."""

    def __post_init__(self) -> None:
        check_ranges(self, "the generator's config")
        if self.drift_day >= self.days and self.drift_day:
            raise BadInput(
                f"expected drift_day before the end of the log, got day {self.drift_day} of {self.days} in the "
                "generator's config: raise days"
            )
        try:
            first = date.fromisoformat(self.start)
        except ValueError:
            raise BadInput(f"expected start as a date like 2025-01-01, got {self.start!r}") from None
        if not date(2000, 1, 1) <= first <= date(2100, 1, 1):
            raise BadInput(f"expected start between 2000-01-01 and 2100-01-01, got {self.start}")

    @property
    def start_ms(self) -> int:
        """Start of the log, epoch ms."""
        return (date.fromisoformat(self.start) - date(1970, 1, 1)).days * DAY_MS

    @property
    def fraud_rates(self) -> dict[str, float]:
        """Share of fraud by kind, of the legitimate transactions."""
        return {name: getattr(self, name) for name in FRAUD_KINDS}

    @property
    def fraud_kinds(self) -> tuple[str, ...]:
        """Kinds of fraud in the log, in the order in which a table numbers them."""
        return (*FRAUD_KINDS, *NEW_KINDS) if self.drift_day else FRAUD_KINDS


FRAUD_KINDS = ("account_takeover", "card_testing", "compromised_merchant", "slow_mimicry")
NEW_KINDS = ("push_payment",)  # begin with a drift; a log without one does not name them
