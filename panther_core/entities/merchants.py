"""A merchant's live history: what was paid there on each of the last DAYS days, and what labels said of it.

Everything is a sum by day, in whole numbers. So payments and labels may come in any order, and whoever has taken in the
same ones has the same state to the bit. A label counts on the day of its payment (was that day's payment a fraud?) and
on the day of its arrival (what was learnt lately?). What a decision at time t sees is the state as of the full hour
before t: payments of earlier hours, and labels that arrived in earlier hours.

Shapes: B merchants, D days, newest last. Days are counted from the epoch, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import FingerprintMismatch
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.entities.arrays import Floats, Ints
from panther_core.entities.episodes import Episode, chance

DAYS = 64
WEEKS, BINS = 5, 16  # of the deviations
_LOWEST, _BIN_WIDTH = -4.0, 1.0  # nats
WINDOWS_D = (1, 7, 14, 28)
SEEN_D = (1, 7, 28)
_RATIO_MAX = 8.0
_RATIO_UNIT, _SURPRISE_UNIT = 1 / 256, 1 / 1024  # ratios and nats are kept in whole numbers of these
_RARE = 1e-6  # lower bound of the chance that a payment is a fraud of another cause
_PRIOR, _NEVER_D = 2.0, 120.0

LAYOUT_VERSION = 2
#: as a payer's payment is unusual: amount over what is usual, and -log of the chance that a fraud at such a ratio has
#: another cause than the merchant
_RATIO_EDGES, _RATIO_SURPRISE = (1.5, 2.5, 4.0), (5.0, 4.0, 2.0, 0.5)
#: an episode of compromise as it is thought of where nothing is known: begins at one of a thousand merchants a day
EPISODE = Episode(hazard=1 / 1000, length_d=28, share=0.5)
_WITHOUT_BASE_RATE = 0.005

#: rings have a place for each day, `day % DAYS`. The head is that of users' states (panther_core.state.record), as far
#: as a restore reads it: `n` decides which of two states is the newer one
MERCHANT = np.dtype(
    [
        ("version", "<u2"),
        ("hour", "<i4"),  # newest hour in which something happened, from the epoch on
        ("spare", "V8"),
        ("n", "<i8"),  # events taken in
        ("last_offset", "<i8"),  # of the newest event taken in, in its partition of merchant.events
        ("day", "<i4"),  # the newest day that the rings have a place for; 0: nothing was taken in
        ("payments", "<u4", DAYS),  # by day of payment, as the next three
        ("ratios", "<u4", DAYS),  # amounts over the payer's usual amount
        ("honest", "<u4", DAYS),  # labels
        ("frauds", "<u4", DAYS),
        ("surprise", "<u4", DAYS),  # of frauds: -log of the chance that the payer is robbed elsewhere too
        ("told", "<u4", DAYS),  # labels by day of arrival
        ("told_frauds", "<u4", DAYS),
        ("known_ever", "<u4"),
        ("frauds_ever", "<u4"),
        ("deviations", "<u4", (WEEKS, BINS)),  # payments by week, `week % WEEKS`, and by deviation
        ("alerted", "<i4"),  # hour as of which there was an alert of it last; 0: never
    ]
)
_FIRST_LAYOUT = MERCHANT.fields["deviations"][1] if MERCHANT.fields else 0  # bytes; the second has more fields behind


def advance(states: NDArray[np.void], day: Ints | int) -> None:
    """Make room in MERCHANT states [B] for payments up to a day [B], in place: days that are DAYS old are forgotten."""
    passed = np.maximum(np.asarray(day) - states["day"], 0)
    place = (np.arange(DAYS) - states["day"][:, None] - 1) % DAYS
    stale = place < passed[:, None]
    if stale.any():
        for name in ("payments", "ratios", "honest", "frauds", "surprise", "told", "told_frauds"):
            states[name][stale] = 0
    weeks = np.asarray(day) // 7 - states["day"] // 7
    if (weeks > 0).any():
        gone = (np.arange(WEEKS) - states["day"][:, None] // 7 - 1) % WEEKS < weeks[..., None]
        states["deviations"][gone] = 0
    states["day"] = np.maximum(states["day"], day)


def take_payments(states: NDArray[np.void], merchant: Ints, day: Ints, ratio: Floats) -> None:
    """Add payments [N] to `states`, which have room for their days. `merchant`: index of a state; `ratio`: amount over
    the payer's usual amount. Payments of forgotten days are left out."""
    held = day > states["day"][merchant] - DAYS
    at = merchant[held], day[held] % DAYS
    _add(states["payments"], at, np.ones(len(at[0])))
    _add(states["ratios"], at, _whole(np.minimum(ratio[held], _RATIO_MAX), _RATIO_UNIT))


def take_deviations(states: NDArray[np.void], merchant: Ints, day: Ints, deviation: Floats) -> None:
    """Add the deviations of payments [N] to `states`, which have room for their days; NaN says that there is none."""
    held = (day // 7 > states["day"][merchant] // 7 - WEEKS) & np.isfinite(deviation)
    place = np.clip((deviation[held] - _LOWEST) // _BIN_WIDTH, 0, BINS - 1).astype(np.int64)
    _add(states["deviations"], (merchant[held], day[held] // 7 % WEEKS, place), np.ones(len(place)))


def deviation_of(states: NDArray[np.void], quantile: float = 0.9) -> Floats:
    """R_m [B] (paper 4.1.3): the quantile of the deviations of a merchant's payments, in nats, to a bin's width; NaN
    where no payment has one."""
    counts = states["deviations"].sum(axis=1, dtype=np.int64)
    total = counts.sum(axis=1)
    at = (counts.cumsum(axis=1) >= np.ceil(quantile * total)[:, None]).argmax(axis=1)
    return np.where(total > 0, _LOWEST + _BIN_WIDTH * (at + 0.5), np.nan)


def take_labels(
    states: NDArray[np.void],
    merchant: Ints,
    paid_day: Ints,
    told_day: Ints,
    fraud: NDArray[np.bool_],
    elsewise: Floats,
    before: Ints | None = None,
) -> None:
    """Add labels [N] of payments to `states`, which have room for the days of their arrival.

    `elsewise` [N]: chance that the payment is a fraud of another cause than its merchant, by the payer's history.
    `before` [N]: the label that a payment had until then, -1 for none; if not given, no payment had any.
    """
    before = np.full(len(merchant), -1) if before is None else before
    surprise = _whole(-np.log(np.clip(elsewise, _RARE, 1)), _SURPRISE_UNIT)
    robbed = fraud.astype(np.int64)
    more = robbed - (before == 1)
    _add(states["known_ever"], merchant, before < 0)
    _add(states["frauds_ever"], merchant, more)
    for day, parts in (
        (paid_day, {"honest": 1 - robbed - (before == 0), "frauds": more, "surprise": more * surprise}),
        (told_day, {"told": np.ones_like(robbed), "told_frauds": robbed}),
    ):
        held = day > states["day"][merchant] - DAYS
        for name, values in parts.items():
            _add(states[name], (merchant[held], day[held] % DAYS), values[held])


def _add(sums: NDArray[np.uint32], at: Any, values: NDArray[Any]) -> None:
    """Add whole numbers, which may be negative: sums are modulo 2^32, and so is what is taken from them."""
    np.add.at(sums, at, values.astype(np.int64).astype(np.uint32))


def elsewise(ratio: Floats) -> Floats:
    """Chance [N] that a fraud at these ratios of amount to usual amount has another cause than its merchant."""
    return np.asarray(np.exp(-np.array(_RATIO_SURPRISE)[np.searchsorted(_RATIO_EDGES, ratio)]))


def risk_of(states: NDArray[np.void]) -> NDArray[np.float32]:
    """What a record of merchant.risk holds [B, RISK_NAMES], of MERCHANT states with room up to the day asked for."""
    inside = episode_odds(states, EPISODE)
    odds = np.log(np.maximum(inside, _RARE) / np.maximum(1 - inside, _RARE))
    columns = merchant_features(states, _WITHOUT_BASE_RATE) | {"episode_log_odds": odds}
    return np.column_stack([columns[name] for name in RISK_NAMES]).astype(np.float32)


def decode_merchants(values: Iterable[bytes | None]) -> NDArray[np.void]:
    """MERCHANT states from their stored bytes; None is a merchant never seen. Raises FingerprintMismatch."""
    fresh = np.zeros(1, MERCHANT)
    fresh["version"], fresh["last_offset"], fresh["hour"] = LAYOUT_VERSION, -1, -1
    empty = fresh.tobytes()
    held = [empty if value is None else _migrated(value, empty) for value in values]
    if wrong := [v for v in held if len(v) != MERCHANT.itemsize or v[:2] != empty[:2]]:
        raise FingerprintMismatch(
            f"expected merchants' states of layout {LAYOUT_VERSION}, {MERCHANT.itemsize} bytes, got one of "
            f"{len(wrong[0])}: they were written by another release; start under a new PANTHER_APP_ID"
        )
    return np.frombuffer(b"".join(held), MERCHANT).copy()


def _migrated(value: bytes, empty: bytes) -> bytes:
    """A value of this layout, of one of the first layout too, which ends where the fields of the second begin."""
    first = len(value) == _FIRST_LAYOUT and int.from_bytes(value[:2], "little") == 1
    return empty[:2] + value[2:] + empty[_FIRST_LAYOUT:] if first else value


def encode_merchants(states: NDArray[np.void]) -> list[bytes]:
    """The bytes that are stored of MERCHANT states."""
    whole, size = states.tobytes(), MERCHANT.itemsize
    return [whole[i * size : (i + 1) * size] for i in range(len(states))]


def merchant_features(states: NDArray[np.void], base_rate: float) -> dict[str, Floats]:
    """Columns [B] of MERCHANT states that have room up to the day that is asked for.

    `base_rate`: fraud rate of all labels so far, towards which rates of few labels are drawn.
    """
    told, told_frauds, payments, ratios = (_days(states, n) for n in ("told", "told_frauds", "payments", "ratios"))
    out: dict[str, Floats] = {}
    for days in WINDOWS_D:
        out[f"known_{days}d"], out[f"frauds_{days}d"] = told[:, -days:].sum(axis=1), told_frauds[:, -days:].sum(axis=1)
    out["known_all"], out["frauds_all"] = (states[n].astype(np.float64) for n in ("known_ever", "frauds_ever"))
    for span in (*(f"{days}d" for days in WINDOWS_D), "all"):
        out[f"rate_{span}"] = (out[f"frauds_{span}"] + _PRIOR * base_rate) / (out[f"known_{span}"] + _PRIOR)
    out |= _streak(states)
    for days in SEEN_D:
        count = payments[:, -days:].sum(axis=1)
        out[f"count_{days}d"] = count
        out[f"mean_ratio_{days}d"] = (ratios[:, -days:].sum(axis=1) * _RATIO_UNIT + 2) / (count + 2)
    return out


def episode_odds(states: NDArray[np.void], episode: Episode) -> Floats:
    """Chance [B] that a merchant is in an episode of compromise on the newest day of its state."""
    frauds, honest = _days(states, "frauds"), _days(states, "honest")
    share = float(np.clip(episode.share, _RARE, 1 - _RARE))
    evidence = _days(states, "surprise") * _SURPRISE_UNIT + frauds * np.log(share) + honest * np.log(1 - share)
    return chance(evidence.T, episode)


def _streak(states: NDArray[np.void]) -> Mapping[str, Floats]:
    """The frauds since the last day with an honest payment (as far as labels tell): their number and days; days since
    that day, and since the newest known payment; the surprise of a fraud of the streak, on average."""
    honest, frauds, surprise = (_days(states, name) for name in ("honest", "frauds", "surprise"))
    age = np.arange(DAYS)[::-1].astype(np.float64)  # of each day, before the newest
    last_honest, last_fraud = _newest(honest > 0), _newest(frauds > 0)
    within = (np.arange(DAYS) > last_honest[:, None]) & (frauds > 0)
    count = np.where(within, frauds, 0).sum(axis=1)
    first = np.where(within.any(axis=1), within.argmax(axis=1), DAYS)
    ages = np.append(age, _NEVER_D)
    return {
        "streak": count,
        "streak_day": ages[first],
        "honest_day": ages[np.where(last_honest < 0, DAYS, last_honest)],
        "last_fraud_day": ages[np.where(last_fraud < 0, DAYS, last_fraud)],
        "streak_surprise": np.where(within, surprise, 0).sum(axis=1) * _SURPRISE_UNIT / np.maximum(count, 1),
    }


def _days(states: NDArray[np.void], name: str) -> Floats:
    """A ring [B, D], oldest day first."""
    if len(states) and (states["day"] == states["day"][0]).all():  # a tenth of the time
        return np.roll(states[name], -(int(states["day"][0]) + 1) % DAYS, axis=1).astype(np.float64)
    place = (states["day"][:, None] + 1 + np.arange(DAYS)) % DAYS
    return np.take_along_axis(states[name], place, axis=1).astype(np.float64)


def _newest(mask_BD: NDArray[np.bool_]) -> Ints:
    """Index [B] of the newest day for which `mask` holds, -1 for none."""
    return np.asarray(np.where(mask_BD.any(axis=1), DAYS - 1 - mask_BD[:, ::-1].argmax(axis=1), -1), np.int64)


def _whole(values: Floats, unit: float) -> Ints:
    return np.round(values / unit).astype(np.int64)
