"""A log whose world changes on one day: other fraud, other habits, a wave of compromised merchants.

The days before are those of the same config without a drift, so that nothing in them tells what is coming.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.generator.catalogue import CATEGORIES, CATEGORY, ONLINE
from panther_core.data.generator.config import FRAUD_KINDS, NEW_KINDS, GeneratorConfig
from panther_core.data.generator.fraud import by_person, compromised_merchant, push_payment
from panther_core.data.generator.habits import pay
from panther_core.data.generator.payments import World
from panther_core.data.generator.rows import Ints, Rows, stream, uniform

_WEEK, _WAVE_DAYS = 7, 14
_LATER_H = (2, 3, 4)  # hours by which the days of those who move begin later
_GIVES_WAY = 0.5  # share of the victims of the old kinds, about as many as the new fraud has: frauds stay as frequent
_OLD = [FRAUD_KINDS.index(kind) for kind in ("account_takeover", "card_testing", "slow_mimicry")]
# where those who move do what they did before; all else they buy where they bought it
_MOVES = {
    "restaurant": "fast_food",
    "clothing": "marketplace",
    "electronics": "marketplace",
    "entertainment": "streaming",
    "fuel": "transit",
    "parking": "transit",
    "cash": "transfer",
}
_NEW_CATEGORY = np.array([CATEGORY[_MOVES.get(category.name, category.name)] for category in CATEGORIES])
_SOLD_ONLINE = np.array([category.mix[ONLINE] > 0 for category in CATEGORIES])


def drifted(config: GeneratorConfig, world: World, rows: Rows) -> Rows:
    """The rows of a log, honest and fraudulent ones in any order, as they are with a drift on `config.drift_day`."""
    begin_ms, end_ms = world.start_ms + config.drift_day * DAY_MS, world.start_ms + config.days * DAY_MS
    gone = np.isin(rows["kind"], _OLD) & (rows["time_ms"] >= begin_ms)
    gone &= uniform(config.seed, 40, rows["user"], rows["kind"]) < _GIVES_WAY
    rows = rows[~gone]
    moved = _moves(config, world, rows)
    rows = np.concatenate([rows[~moved], _moved(config, world, rows[moved])])
    rows = rows[rows["time_ms"] < end_ms]
    after = rows[(rows["kind"] < 0) & (rows["time_ms"] >= begin_ms)]
    if not len(after):
        return rows
    wave = after[after["time_ms"] < begin_ms + _WAVE_DAYS * DAY_MS]
    parts = [rows]
    for number, (name, make, of, rate) in enumerate(
        (
            (NEW_KINDS[0], push_payment, after, config.push_payment),
            ("compromised_merchant", compromised_merchant, wave, config.merchant_wave),
        )
    ):
        count = round(rate * len(after))
        if not count or not len(of):
            continue
        made = make(world, by_person(of, config.users), count + count // 2 + 40, stream(config.seed, 6, number))
        made = made[(made["time_ms"] >= begin_ms) & (made["time_ms"] < end_ms)][:count]
        made["kind"] = config.fraud_kinds.index(name)
        parts.append(made)
    return np.concatenate(parts)


def _moves(config: GeneratorConfig, world: World, rows: Rows) -> NDArray[np.bool_]:
    """Which rows [N] are honest payments of people who have moved by then; subscriptions go on."""
    user = rows["user"]
    from_day = config.drift_day + _WEEK * uniform(config.seed, 41, user)
    subscribed = (rows["channel"] == ONLINE) & (rows["device"] < 0)
    out: NDArray[np.bool_] = (uniform(config.seed, 42, user) < config.moved_share) & (rows["kind"] < 0) & ~subscribed
    return out & (world.day_of(rows["time_ms"]) >= np.ceil(from_day))


def _moved(config: GeneratorConfig, world: World, rows: Rows) -> Rows:
    """The payments of those who have moved: hours later, at other kinds of shop, and online where that is sold."""
    rng, user = stream(config.seed, 5), rows["user"].astype(np.int64)
    later_h = np.array(_LATER_H)[(len(_LATER_H) * uniform(config.seed, 43, user)).astype(np.int64)]
    category: Ints = _NEW_CATEGORY[rows["category"]]
    out = pay(world, user, category, np.zeros_like(user), rows["time_ms"] + later_h * HOUR_MS, rng)
    online = _SOLD_ONLINE[category]
    out["channel"] = np.where(online, ONLINE, out["channel"])
    day = world.day_of(out["time_ms"])
    channel = out["channel"].astype(np.int64)
    out["country"] = world.country(user, channel, out["merchant"].astype(np.int64), day)
    out["device"] = world.device(user, channel, day, rng)
    return out
