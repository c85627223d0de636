"""Labelled fraud, by kind. Each single payment would be ordinary for some person; the account, the time or the order of
the payments is what gives the fraud away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.generator.catalogue import (
    ATM,
    CATEGORY,
    CHIP,
    CONTACTLESS,
    COUNTRIES,
    MEDIAN,
    ONLINE,
    TRANSFER,
)
from panther_core.data.generator.config import FRAUD_KINDS, GeneratorConfig
from panther_core.data.generator.payments import World, price
from panther_core.data.generator.rows import ROW, Floats, Ints, Rows, spread, stream

_SMALL = np.array([CATEGORY[c] for c in ("gaming", "streaming", "marketplace", "transit")])
_LARGE = np.array([CATEGORY[c] for c in ("electronics", "marketplace", "clothing", "travel", "gaming")])
_GOODS = np.array(
    [
        CATEGORY[c]
        for c in ("electronics", "clothing", "fuel", "grocery", "marketplace", "restaurant", "fast_food", "transit")
    ]
)
_CLONES, _MIMICS, _TESTS, _PUSHED = (
    (1, 4),
    (4, 11),
    (3, 11),
    (3, 6),
)  # payments an incident: from (included) and to (excluded)


@dataclass(frozen=True)
class Honest:
    """Legitimate rows sorted by person, then time. Person u has the rows from first[u] to first[u] + count[u] - 1."""

    rows: Rows
    first: Ints
    count: Ints

    def random_row(self, user: Ints, rng: np.random.Generator) -> Ints:
        """A random row of each person in `user`; each of them must have at least one row."""
        return self.first[user] + (rng.random(len(user)) * self.count[user]).astype(np.int64)

    def hour_ms(self, user: Ints, rng: np.random.Generator) -> Ints:
        """Time of day of a random payment of each person."""
        return self.rows["time_ms"][self.random_row(user, rng)] % DAY_MS


def by_person(rows: Rows, users: int) -> Honest:
    """Sort the legitimate rows by person and time."""
    order = np.lexsort((rows["time_ms"], rows["user"]))
    count = np.bincount(rows["user"], minlength=users)
    return Honest(rows[order], np.cumsum(count) - count, count)


def fraudulent(config: GeneratorConfig, world: World, honest: Honest) -> Rows:
    """Fraud of all kinds within the period of the log. Each kind has exactly the number of rows that its rate gives."""
    kinds = {
        "account_takeover": _account_takeover,
        "card_testing": _card_testing,
        "compromised_merchant": compromised_merchant,
        "slow_mimicry": _slow_mimicry,
    }
    parts = []
    end_ms = world.start_ms + config.days * DAY_MS
    for number, (name, make) in enumerate(kinds.items()):
        target = round(config.fraud_rates[name] * len(honest.rows))
        if not target:
            continue
        # more rows than needed are made, since some fall past the end of the log
        rows = make(world, honest, target + target // 2 + 40, stream(config.seed, 4, number))
        rows = rows[(rows["time_ms"] >= world.start_ms) & (rows["time_ms"] < end_ms)][:target]
        rows["kind"] = FRAUD_KINDS.index(name)
        parts.append(rows)
    return np.concatenate(parts) if parts else np.zeros(0, ROW)


def _victims(honest: Honest, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Victims [n], and for each a time up to 20 hours after one of the victim's own payments.

    The payment is drawn from all payments, so active people are victims more often.
    """
    row = rng.integers(0, len(honest.rows), n)
    return honest.rows["user"][row].astype(np.int64), honest.rows["time_ms"][row] + rng.integers(0, 20 * HOUR_MS, n)


def _finish(world: World, rows: Rows, rng: np.random.Generator, own_device: float) -> Rows:
    """Set country and device of the rows. `own_device`: share of payments that come from the victim's own device; the
    others keep the device set before. A chip payment or a cash machine has no device."""
    user, channel = rows["user"].astype(np.int64), rows["channel"].astype(np.int64)
    day = world.day_of(rows["time_ms"])
    home = world.country(user, channel, rows["merchant"].astype(np.int64), day)
    abroad = rng.random(len(rows)) < 0.08
    rows["country"] = np.where(abroad & (channel != ONLINE), rng.integers(0, len(COUNTRIES), len(rows)), home)
    has_device = (channel != CHIP) & (channel != ATM)
    own = world.device(user, np.where(has_device, ONLINE, CHIP), day, rng)
    rows["device"] = np.where(has_device & (rng.random(len(rows)) >= own_device), rows["device"], own)
    return rows


def _account_takeover(world: World, honest: Honest, n: int, rng: np.random.Generator) -> Rows:
    """A stretch of another person's (the donor's) payments, closer together in time, on the victim's account."""
    incidents = max(1, n // 6)
    victim, start_ms = _victims(honest, incidents, rng)
    donors = np.flatnonzero(honest.count >= 12)
    if not len(donors):
        donors = np.flatnonzero(honest.count)
    incident, place = spread(rng.integers(4, 10, incidents))
    donor = donors[rng.integers(0, len(donors), incidents)]
    begin = honest.random_row(donor, rng)
    source = np.minimum(begin[incident] + place, honest.first[donor][incident] + honest.count[donor][incident] - 1)
    rows = honest.rows[source].copy()
    gap_ms = np.exp(rng.normal(np.log(80), 1.1, len(rows))) * 60_000
    rows["time_ms"] = start_ms[incident] + _running(gap_ms, place)
    rows["user"] = victim[incident]
    rows["amount"] = price(
        rows["amount"] * np.exp(rng.normal(0.12, 0.15, len(rows))), rows["category"].astype(np.int64)
    )
    # a thief has no card, so half of what the donor paid by chip is paid contactless, by phone
    remote = (rows["channel"] == CHIP) & (rng.random(len(rows)) < 0.5)
    rows["channel"] = np.where(remote, CONTACTLESS, rows["channel"])
    rows["device"] = world.strange_device(incidents, rng)[incident]
    return _finish(world, rows, rng, own_device=0.35)


def _running(gap: Floats, place: Ints) -> Ints:
    """Sum of the gaps within each incident; 0 at its first payment."""
    total = np.cumsum(np.where(place == 0, 0, gap))
    begin = np.flatnonzero(place == 0)
    out: Ints = (total - np.repeat(total[begin], np.diff(np.append(begin, len(place))))).astype(np.int64)
    return out


def _card_testing(world: World, honest: Honest, n: int, rng: np.random.Generator) -> Rows:
    """Small online payments minutes apart, then mostly one large one."""
    incidents = max(1, n // 7)
    victim, start_ms = _victims(honest, incidents, rng)
    size = rng.integers(*_TESTS, incidents)
    incident, place = spread(size)
    last = (place == size[incident] - 1) & (rng.random(incidents) < 0.8)[incident]
    rows = np.zeros(len(incident), ROW)
    category = np.where(
        last, _LARGE[rng.integers(0, len(_LARGE), incidents)][incident], _SMALL[rng.integers(0, len(_SMALL), len(rows))]
    )
    rows["user"], rows["category"], rows["channel"] = victim[incident], category, ONLINE
    rows["merchant"] = world.merchant(category, rng.random(len(rows)))
    amount = MEDIAN[category] * np.exp(
        np.where(last, rng.normal(0.7, 0.5, len(rows)), rng.normal(-0.7, 0.5, len(rows)))
    )
    rows["amount"] = price(amount, category)
    gap_ms = np.exp(rng.normal(np.log(5), 1.2, len(rows))) * 60_000 * np.where(last, 8, 1)
    rows["time_ms"] = start_ms[incident] + _running(gap_ms, place)
    rows["device"] = world.strange_device(incidents, rng)[incident]
    return _finish(world, rows, rng, own_device=0.3)


def compromised_merchant(world: World, honest: Honest, n: int, rng: np.random.Generator) -> Rows:
    """Cards copied at a compromised merchant over two to five weeks, used days later at the ring's five outlets."""
    low, high = _CLONES
    rings = max(1, n // 60)
    seed_row = rng.integers(0, len(honest.rows), rings)  # by visits: popular merchants first
    merchant, begin_ms = honest.rows["merchant"][seed_row], honest.rows["time_ms"][seed_row]
    weeks_ms = rng.integers(14, 36, rings) * DAY_MS
    order = np.lexsort((honest.rows["time_ms"], honest.rows["merchant"]))
    key = honest.rows["merchant"][order].astype(np.int64) << 42
    key += honest.rows["time_ms"][order] - world.start_ms
    ring_key = (merchant.astype(np.int64) << 42) + begin_ms - world.start_ms
    visit_from, visit_to = np.searchsorted(key, ring_key), np.searchsorted(key, ring_key + weeks_ms)
    copied, _ = spread(np.minimum(np.full(rings, 1 + 2 * n // (rings * (low + high - 1))), visit_to - visit_from) * 2)
    visit = order[visit_from[copied] + (rng.random(len(copied)) * (visit_to - visit_from)[copied]).astype(np.int64)]
    victim = honest.rows["user"][visit].astype(np.int64)
    start_ms = honest.rows["time_ms"][visit] + (rng.uniform(0.5, 10, len(visit)) * DAY_MS).astype(np.int64)
    card, place = spread(rng.integers(low, high, len(visit)))
    outlet = rng.integers(0, 5, len(card))  # five outlets a ring
    ring = copied[card]
    category = _GOODS[(ring * 5 + outlet * 3) % len(_GOODS)]
    rows = np.zeros(len(card), ROW)
    rows["user"], rows["category"] = victim[card], category
    rows["merchant"] = world.merchant(category, (ring * 0.618 + outlet * 0.377) % 1.0)
    rows["amount"] = price(MEDIAN[category] * np.exp(rng.normal(0.15, 0.55, len(card))), category)
    rows["channel"] = world.usual_channel(rng.integers(0, len(world.people), len(card)), category, rng)
    rows["time_ms"] = start_ms[card] + _running(np.exp(rng.normal(np.log(240), 1.2, len(card))) * 60_000, place)
    rows["device"] = world.strange_device(len(visit), rng)[card]
    return _finish(world, rows[rng.permutation(len(rows))], rng, own_device=0.0)


def _slow_mimicry(world: World, honest: Honest, n: int, rng: np.random.Generator) -> Rows:
    """Payments like the victim's own, spread over weeks, but in another order, at other hours and, in each category, at
    one other merchant."""
    incidents = max(1, n // 6)
    victim, start_ms = _victims(honest, incidents, rng)
    incident, place = spread(rng.integers(*_MIMICS, incidents))
    rows = honest.rows[honest.random_row(victim[incident], rng)].copy()
    gap_ms = rng.exponential(2.5, len(rows)) * DAY_MS
    time_ms = start_ms[incident] + _running(gap_ms, place)
    hour_ms = honest.hour_ms(victim[incident], rng) + rng.integers(-HOUR_MS, HOUR_MS, len(rows))
    rows["time_ms"] = np.maximum(time_ms // DAY_MS * DAY_MS + hour_ms % DAY_MS, start_ms[incident])
    category = rows["category"].astype(np.int64)
    rows["merchant"] = world.merchant(category, (rng.random(incidents)[incident] + category * 0.618) % 1.0)
    rows["amount"] = price(rows["amount"] * np.exp(rng.normal(0.1, 0.2, len(rows))), category)
    rows["device"] = np.where(rows["device"] < 0, -1, world.strange_device(incidents, rng)[incident])
    return _finish(world, rows, rng, own_device=0.7)


def push_payment(world: World, honest: Honest, n: int, rng: np.random.Generator) -> Rows:
    """The victim, on the phone with a fraudster, transfers round sums to one of a few new accounts: a small one first,
    then two to four large ones within the hour."""
    incidents = max(1, n // 4)
    victim, start_ms = _victims(honest, incidents, rng)
    # callers keep office hours
    start_ms = start_ms // DAY_MS * DAY_MS + rng.integers(9 * HOUR_MS, 17 * HOUR_MS, incidents)
    incident, place = spread(rng.integers(*_PUSHED, incidents))
    category = np.full(len(incident), CATEGORY["transfer"])
    rows = np.zeros(len(incident), ROW)
    rows["user"], rows["category"], rows["channel"] = victim[incident], category, TRANSFER
    rows["merchant"] = world.merchant(category, rng.random(incidents)[incident])
    amount = MEDIAN[category] * np.exp(
        np.where(place == 0, rng.normal(-1, 0.4, len(rows)), rng.normal(1, 0.5, len(rows)))
    )
    rows["amount"] = np.maximum(10, np.round(amount, -1))
    gap_ms = np.exp(rng.normal(np.log(12), 0.8, len(rows))) * 60_000
    rows["time_ms"] = start_ms[incident] + _running(gap_ms, place)
    return _finish(world, rows, rng, own_device=1.0)
