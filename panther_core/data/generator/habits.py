"""Legitimate payments: routines day by day, and subscriptions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.generator.catalogue import CATEGORY, ONLINE, ROUTINES, STEP_BAND, STEP_CATEGORY, STEPS
from panther_core.data.generator.config import GeneratorConfig
from panther_core.data.generator.payments import World
from panther_core.data.generator.people import KEEP, SLOTS
from panther_core.data.generator.rows import ROW, Floats, Ints, Rows, spread, stream, uniform

BLOCK_CELLS = 2_000_000  # (person, routine, day) cells drawn at a time, which bounds the memory used
_GAP_MIN = np.array([r.gap_min for r in ROUTINES])
_PAYDAY = np.array([r.payday for r in ROUTINES])
_SUBSCRIPTION = np.array(
    [CATEGORY[c] for c in ("streaming", "streaming", "utilities", "gaming", "entertainment", "utilities")]
)


def since_pay(world: World, user: Ints, day: Ints) -> Ints:
    """Days since the last pay day, 0..29; a month counts as 30 days."""
    date = (np.datetime64(world.start_ms, "ms").astype("M8[D]") + day).astype("M8[D]")
    day_of_month = (date - date.astype("M8[M]").astype("M8[D]")).astype(np.int64) + 1
    out: Ints = (day_of_month - world.people.pay_day[user]) % 30
    return out


def legitimate(config: GeneratorConfig, world: World) -> Rows:
    """All legitimate payments within the period, in no particular order."""
    days = max(1, BLOCK_CELLS // (config.users * SLOTS))
    parts = [_routines(config, world, first, min(days, config.days - first)) for first in range(0, config.days, days)]
    parts.extend(_subscriptions(config, world))
    rows = np.concatenate(parts)
    return rows[(rows["time_ms"] >= world.start_ms) & (rows["time_ms"] < world.start_ms + config.days * DAY_MS)]


def _routines(config: GeneratorConfig, world: World, first: int, count: int) -> Rows:
    """Payments of the routines that begin on days `first` to `first` + `count` - 1."""
    people, rng = world.people, stream(config.seed, 2, first)
    day = first + np.arange(count)
    # [U, D]; not base.odds.sigmoid: this divides in float32, and a seed must go on giving the same log
    after = 1 / (1 + np.exp(-np.clip((day - people.change_day[:, None]) / 6, -30, 30))).astype(np.float32)
    before_rate, after_rate = people.rate[0][:, :, None], people.rate[1][:, :, None]
    rate = before_rate + (after_rate - before_rate) * after[:, None, :]  # [U, SLOTS, D]
    weekday = (day + (world.start_ms // DAY_MS) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    rate *= people.weekday[:, :, weekday]
    since = since_pay(world, np.arange(config.users)[:, None], day)  # [U, D]
    paid = np.where(since <= 2, 5.0, 0.55).astype(np.float32)
    flush = (0.9 + 0.45 * np.exp(-since / 6)).astype(np.float32)
    rate *= np.where(_PAYDAY[people.routine][:, :, None], paid[:, None, :], flush[:, None, :])
    rate *= (day >= people.first_day[:, None])[:, None, :]
    chains = np.floor(rate + rng.random(rate.shape, np.float32)).astype(np.int64)
    cell = np.repeat(np.flatnonzero(chains), chains[chains > 0])
    user, slot, at = cell // (SLOTS * count), cell // count % SLOTS, first + cell % count
    return _chains(world, user, slot, at, rng)


def _chains(world: World, user: Ints, slot: Ints, day: Ints, rng: np.random.Generator) -> Rows:
    """Lay out the steps of each begun routine, some of them skipped."""
    people = world.people
    routine = people.routine[user, slot]
    start_h = np.clip(people.hour[user, slot] + rng.normal(0, 0.35, len(user)), 0.0, 23.95)
    chain, step = spread(STEPS[routine])
    kept = rng.random(len(chain), np.float32) < KEEP
    delay_min = np.where(step == 0, 0, _GAP_MIN[routine[chain]] * np.exp(rng.normal(0, 0.4, len(chain))))
    total = np.cumsum(delay_min)
    begin = np.flatnonzero(step == 0)
    elapsed_min = total - total[begin][chain]
    time_ms = world.start_ms + day[chain] * DAY_MS + (start_h[chain] * HOUR_MS + elapsed_min * 60_000).astype(np.int64)
    turned = (step + people.turn[user, slot][chain]) % STEPS[routine[chain]]
    chain, time_ms, turned = chain[kept], time_ms[kept], turned[kept]
    category = STEP_CATEGORY[routine[chain], turned].astype(np.int64)
    band = STEP_BAND[routine[chain], turned].astype(np.int64)
    return pay(world, user[chain], category, band, time_ms, rng)


def pay(world: World, user: Ints, category: Ints, band: Ints, time_ms: Ints, rng: np.random.Generator) -> Rows:
    """Rows of payments made as the person usually pays: merchant, channel, amount, country and device by habit."""
    day = world.day_of(time_ms)
    rows = np.zeros(len(user), ROW)
    merchant = world.usual_merchant(user, category, day, rng)
    channel = world.usual_channel(user, category, rng)
    rows["user"], rows["time_ms"], rows["category"] = user, time_ms, category
    rows["merchant"], rows["channel"], rows["kind"] = merchant, channel, -1
    rows["amount"] = world.amount(user, category, merchant, band, rng)
    rows["country"] = world.country(user, channel, merchant, day)
    rows["device"] = world.device(user, channel, day, rng)
    return rows


def _subscriptions(config: GeneratorConfig, world: World) -> Iterator[Rows]:
    """Up to four subscriptions a person: each the same merchant, amount and hour every 7, 14, 28 or 30 days."""
    rng, everyone = stream(config.seed, 3), np.arange(config.users)
    for number in range(4):

        def fact(purpose: int, n: int = number) -> Floats:
            return uniform(config.seed, 30 + purpose, everyone, n)

        # a config of little activity has few subscriptions too
        share = min(0.45, 0.225 * config.mean_transactions_per_day)
        owner = np.flatnonzero(fact(0) < share)
        period = np.array([7, 14, 28, 30, 30, 30])[(fact(1)[owner] * 6).astype(np.int64)]
        first = world.people.first_day[owner] + (fact(2)[owner] * period).astype(np.int64)
        who, nth = spread(np.maximum(0, -((first - config.days) // period)))
        user, day = owner[who], first[who] + nth * period[who]
        category = _SUBSCRIPTION[(fact(3)[user] * len(_SUBSCRIPTION)).astype(np.int64)]
        time_ms = (
            world.start_ms
            + day * DAY_MS
            + (fact(4)[user] * 24 * HOUR_MS).astype(np.int64)
            + rng.integers(0, 90_000, len(user))
        )
        rows = pay(world, user, category, np.zeros_like(user), time_ms, rng)
        rows["merchant"] = world.merchant(category, fact(5)[user])
        rows["amount"] = np.round(3 + 40 * fact(6)[user] ** 2, 0) + 0.99
        rows["channel"] = ONLINE
        rows["country"] = world.seller_country(rows["merchant"].astype(np.int64), world.people.region[user])
        rows["device"] = -1  # the seller bills a subscription; no device of the person takes part
        yield rows
