"""What payments of a known log see of their merchants: the rule of the full hour.

A payment sees what had happened at its merchant in earlier hours of event time: payments of earlier rows, and labels
that had arrived (panther_core.entities.merchants has the states).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.merchant_events import RISK_NAMES
from panther_core.entities.arrays import Ints
from panther_core.entities.merchant_alerts import LOOK, REPORTS, look_at
from panther_core.entities.merchants import (
    advance,
    decode_merchants,
    elsewise,
    risk_of,
    take_labels,
    take_payments,
)
from panther_core.state.features import against_usual, put_seller
from panther_core.state.history import History

_AT_ONCE = 4096  # states whose columns are computed together


class MerchantHistory:
    """What decisions see of their merchants, for a known log that comes in chunks: the rule of the full hour.

    A payment sees what had happened at its merchant in earlier hours of event time: payments of earlier rows, and
    labels that had arrived. A row whose time lies before that of an earlier row sees what that one saw.
    """

    def __init__(self, threshold: float | None = None) -> None:
        """`threshold`: from which log odds on a merchant is an alert; None: no merchant is."""
        self._threshold = threshold
        self._looks: list[NDArray[np.void]] = []
        self._reported = np.zeros((0, REPORTS), np.uint64)  # [slots] LOOK's `payments`
        self._slot: dict[int, int] = {}  # merchant's hash -> row of `_states`
        self._states = decode_merchants([])
        self._hashes = np.zeros(0, np.uint64)  # of the slots
        self._hour = np.iinfo(np.int64).min
        self._waiting: dict[int, list[NDArray[np.void]]] = {}  # hour of event time -> events that count after it

    def seen(self, rows: NDArray[np.void]) -> NDArray[np.float32]:
        """What each of the next payments [N] sees [N, RISK_NAMES]; `rows`: PAYMENT, in the order of arrival."""
        out = np.empty((len(rows), len(RISK_NAMES)), np.float32)
        if not len(rows):
            return out
        hour = np.maximum(np.maximum.accumulate(rows["came_ms"] // HOUR_MS), self._hour)
        slots = self._slots(rows["merchant"])
        events = np.zeros(len(rows), _EVENT)
        for name in ("time_ms", "ratio", "label", "payment"):
            events[name] = rows[name]
        events["slot"], events["told_ms"] = slots, -1
        known = np.flatnonzero(rows["label"] >= 0)
        told = events[known]
        told["told_ms"] = np.maximum(rows["told_ms"][known], rows["time_ms"][known])
        told_hour = np.maximum(told["told_ms"] // HOUR_MS, hour[known])
        order = np.argsort(told_hour, kind="stable")
        for at in np.split(order, np.flatnonzero(np.diff(told_hour[order])) + 1):
            if len(at):
                self._waiting.setdefault(int(told_hour[at[0]]), []).append(told[at])
        # of hours whose columns are computed together: rows, their places among the states, and the states
        seen_by, places, states, held = list[Ints](), list[Ints](), list[NDArray[np.void]](), 0

        def read() -> None:
            if states:
                out[np.concatenate(seen_by)] = risk_of(np.concatenate(states))[np.concatenate(places)]
                for part in (seen_by, places, states):
                    part.clear()

        for at in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(hour)) + 1):
            now = int(hour[at[0]])
            self._pass_hours(now)
            who, place = np.unique(slots[at], return_inverse=True)
            own = self._states[who]
            advance(own, now // 24)
            self._states[who] = own
            if held + len(own) > _AT_ONCE:
                read()
                held = 0
            seen_by.append(at)
            places.append(place + held)
            states.append(own)
            held += len(own)
            self._waiting.setdefault(now, []).append(events[at])
        read()
        return out

    def end(self) -> tuple[list[int], NDArray[np.void]]:
        """Hashes and MERCHANT states of all merchants once the last hour is over. Labels that arrive later are not in
        them."""
        self._pass_hours(self._hour + 1)
        return list(self._slot), self._states[: len(self._slot)]

    def take_looks(self) -> NDArray[np.void]:
        """The looks (LOOK) since they were last taken, at hours that are over."""
        looks, self._looks = self._looks, []
        return np.concatenate([np.zeros(0, LOOK), *looks])

    def _pass_hours(self, now: int) -> None:
        """Let what happened before an hour count."""
        self._hour = now
        for hour in sorted(hour for hour in self._waiting if hour < now):
            events = np.concatenate(self._waiting.pop(hour))
            who, place = np.unique(events["slot"], return_inverse=True)
            own = self._states[who]
            paid_day, told_day = events["time_ms"] // DAY_MS, events["told_ms"] // DAY_MS
            days = np.full(len(own), max(hour // 24, 0))
            np.maximum.at(days, place, np.where(events["told_ms"] < 0, paid_day, told_day))
            advance(own, days)  # also for a day that a clock is ahead
            paid, told = np.flatnonzero(events["told_ms"] < 0), np.flatnonzero(events["told_ms"] >= 0)
            take_payments(own, place[paid], paid_day[paid], events["ratio"][paid])
            fraud, otherwise = events["label"][told] == 1, elsewise(events["ratio"][told])
            take_labels(own, place[told], paid_day[told], told_day[told], fraud, otherwise)
            np.add.at(own["n"], place, 1)
            own["hour"] = np.maximum(own["hour"], hour)
            if fraud.any():
                newest = told[fraud][np.argsort(events["told_ms"][told[fraud]], kind="stable")]
                self._report(who[place[newest]], events["payment"][newest])
                looked = np.unique(place[told[fraud]])
                part = own[looked]
                self._look(who[looked], part, hour + 1)
                own[looked] = part
            self._states[who] = own

    def _report(self, slots: Ints, payments: NDArray[np.uint64]) -> None:
        for slot, payment in zip(slots.tolist(), payments.tolist(), strict=True):
            newest = self._reported[slot]
            newest[1:], newest[0] = newest[:-1].copy(), payment

    def _look(self, slots: Ints, states: NDArray[np.void], hour: int) -> None:
        looks = np.zeros(len(slots), LOOK)
        looks["merchant"] = self._names()[slots]
        looks["hour"], looks["payments"] = hour, self._reported[slots]
        looks["seller"], alerts = look_at(states, looks["hour"], self._threshold)
        looks["alert"][alerts] = True
        self._looks.append(looks)

    def _names(self) -> NDArray[np.uint64]:
        if len(self._hashes) < len(self._slot):
            self._hashes = np.fromiter(self._slot, np.uint64, len(self._slot))
        return self._hashes

    def _slots(self, merchant: NDArray[np.uint64]) -> Ints:
        hashes, place = np.unique(merchant, return_inverse=True)
        slots = np.array([self._slot.setdefault(h, len(self._slot)) for h in hashes.tolist()], np.int64)
        if (missing := len(self._slot) - len(self._states)) > 0:
            room = max(missing, len(self._states) // 2)
            self._states = np.concatenate([self._states, decode_merchants([None] * room)])
            self._reported = np.concatenate([self._reported, np.zeros((room, REPORTS), np.uint64)])
        return slots[place]

    def memory(self) -> dict[str, NDArray[Any]]:
        """All that is known, as arrays: what `restore` takes."""
        waiting = [(hour, part) for hour, parts in self._waiting.items() for part in parts]
        hours = [np.full(len(part), hour) for hour, part in waiting]
        return {
            "merchants": np.fromiter(self._slot, np.uint64, len(self._slot)),
            "merchant_states": self._states[: len(self._slot)],
            "merchant_reported": self._reported[: len(self._slot)],
            "merchant_hour": np.array([self._hour]),
            "merchant_waiting": np.concatenate([np.zeros(0, _EVENT), *(part for _, part in waiting)]),
            "merchant_waiting_hour": np.concatenate([np.zeros(0, np.int64), *hours]),
        }

    def restore(self, memory: Mapping[str, NDArray[Any]]) -> None:
        """Continue from where `memory` was taken."""
        self._slot = {merchant: slot for slot, merchant in enumerate(memory["merchants"].tolist())}
        self._states, self._hour = memory["merchant_states"].copy(), int(memory["merchant_hour"][0])
        self._reported = memory["merchant_reported"].copy()
        hours, events = memory["merchant_waiting_hour"], memory["merchant_waiting"]
        self._waiting = {hour: [events[hours == hour]] for hour in np.unique(hours).tolist()}


def payment_hash(user: NDArray[np.uint64], transaction: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """By which looks name payments [N], from the hashes of their users and ids: an id alone is only its user's."""
    return transaction ^ (user * np.uint64(0x9E3779B97F4A7C15))


def see_merchants(
    history: History,
    events: NDArray[np.void],
    label: NDArray[np.int8],
    told_ms: NDArray[np.int64],
    merchants: MerchantHistory,
    received_ms: NDArray[np.int64] | None = None,
) -> None:
    """Let the events of a history, in the order of a log, see their merchants: `history`'s features and what it knows
    of merchants are changed in place. `label` [N]: -1 unknown; `told_ms` [N]: when it arrives. Copies see nothing."""
    kept = np.flatnonzero(history.kept)
    rows = np.zeros(len(kept), PAYMENT)
    rows["merchant"], rows["time_ms"] = events["merchant"][kept], events["time_ms"][kept]
    rows["ratio"], rows["label"] = against_usual(history.features[kept]), label[kept]
    rows["payment"] = payment_hash(events["user"][kept], events["transaction"][kept])
    rows["told_ms"] = told_ms[kept]
    came_ms = events["time_ms"] if received_ms is None else np.minimum(events["time_ms"], received_ms)
    rows["came_ms"] = came_ms[kept]
    history.seller[kept] = merchants.seen(rows)
    put_seller(history.features, history.seller)


#: a payment (payment_hash) with its label (-1: none is known) and when that arrives; `came_ms`: its time, at
#: the latest when it came, since a clock that is ahead brings no label earlier
PAYMENT = np.dtype(
    [
        ("merchant", "u8"),
        ("payment", "u8"),
        ("time_ms", "i8"),
        ("came_ms", "i8"),
        ("ratio", "f8"),
        ("label", "i1"),
        ("told_ms", "i8"),
    ]
)
_EVENT = np.dtype(
    [
        ("slot", "i8"),
        ("payment", "u8"),
        ("time_ms", "i8"),
        ("ratio", "f8"),
        ("label", "i1"),
        ("told_ms", "i8"),
    ]
)
