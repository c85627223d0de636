"""From a config to a table of payments in time order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from panther_core.base.errors import BadInput
from panther_core.data.generator.catalogue import CATEGORIES, CHANNELS, COUNTRIES
from panther_core.data.generator.config import GeneratorConfig
from panther_core.data.generator.drift import drifted
from panther_core.data.generator.fraud import by_person, fraudulent
from panther_core.data.generator.habits import legitimate
from panther_core.data.generator.payments import OWN_DEVICES, make_world
from panther_core.data.generator.people import make_people
from panther_core.data.generator.rows import Rows
from panther_core.data.table import TransactionTable, Words


def generate(config: GeneratorConfig) -> TransactionTable:
    """All payments of the config in time order (ties: legitimate payments first, then by person).

    The same config gives the same table. Raises BadInput if the config is so small that nobody pays.
    """
    people = make_people(config)
    world = make_world(config.seed, config.start_ms, people, config.merchants)
    honest = by_person(legitimate(config, world), config.users)
    if not len(honest.rows):
        raise BadInput("the generator made no transaction: raise users, days or mean_transactions_per_day")
    rows = np.concatenate([honest.rows, fraudulent(config, world, honest)])
    if config.drift_day:
        rows = drifted(config, world, rows)
    rows = rows[np.argsort(rows["time_ms"], kind="stable")]
    return _table(config, rows, people.profile, world.shared_devices)


def _table(
    config: GeneratorConfig, rows: Rows, profile: dict[str, list[object]], shared_devices: int
) -> TransactionTable:
    def words(column: str, names: tuple[str, ...]) -> Words:
        return Words(rows[column].astype(np.int32), names)

    devices = config.users * OWN_DEVICES + shared_devices
    return TransactionTable(
        transaction_id=np.array(zero_padded("t", range(len(rows)), 10)),
        user=words("user", _names("u", config.users)),
        merchant=words("merchant", _names("m", config.merchants)),
        category=words("category", tuple(category.name for category in CATEGORIES)),
        channel=words("channel", CHANNELS),
        currency=Words(np.zeros(len(rows), np.int32), ("EUR",)),
        amount=rows["amount"].copy(),
        time_ms=rows["time_ms"].copy(),
        label=(rows["kind"] >= 0).astype(np.int8),
        country=words("country", COUNTRIES),
        device=words("device", _names("d", devices)),
        fraud_kind=words("kind", config.fraud_kinds),
        profile=profile,
    )


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(zero_padded(prefix, range(count), max(5, len(str(count - 1)))))


def zero_padded(prefix: str, numbers: Iterable[int], digits: int) -> list[str]:
    """Each number behind `prefix`, with leading zeros up to `digits` digits."""
    return [f"{prefix}{number:0{digits}d}" for number in numbers]
