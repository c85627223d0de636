"""The watch after a switch: what the new version does in the stream, beside what the one before it did, and what the
gate saw of it. A version that fails is taken back.

Bounds are wide, since a rollback of a good version costs more than a minute of a slow one. Each must be crossed at
three looks in a row, on at least _LEAST decisions; counts of errors and of alerts beyond what chance does (3.3 standard
errors, one in a thousand at one side).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import DEAD_LETTERS, TRANSACTIONS
from panther_core.kafka.reading import make_reader, partitions_of
from panther_core.kafka.updates import updates
from trainer.drift.reference import score_bins
from trainer.drift.stability import stability_index
from trainer.rollout.checks import Check
from trainer.rollout.decided import decisions_since
from trainer.rollout.gate import FEW_FRAUDS
from trainer.rollout.shadow_report import ShadowReport

_LEAST = 300  # decisions from which on anything is said
_SETTLE_MS = 15_000  # after a switch, which are not judged: every user is encoded anew, and caches fill
_EVERY_S = 5.0
_LOOKS = 3  # in a row at which a check must fail: one stall of a broker is not the version's
_STALLED_S, _PATIENCE_S = 45.0, 15.0  # payments between these, or of longer where few come, are to be decided by now
_STALLED = 0.1  # share of payments that are decided at least: a sender's transactions have records of their own
_Z = 3.3
_DEGRADED = 0.02  # share of decisions without the model's newest answer that a version may have
_SLOWER, _SLOWER_MS = 2.0, 20.0  # times the version before it, and so many ms more
_ALERTS = 3.0  # times as many alerts as expected
_SURELY = 30  # alerts that were expected, from which on none at all is a fault
_SHIFT = 0.5  # stability index of the scores; they follow the population too, so twice the gate's


def judge_live(
    version: int,
    before: NDArray[np.void],
    after: NDArray[np.void],
    alert_share: float,
    expected: Sequence[int] | None,
) -> list[Check]:
    """Checks of a `version` in the stream; where there are too few decisions, one that says so.

    `before`, `after`: DECIDED rows of the version before it and of its own, without those while it settled.
    `alert_share`: of its alerts that is expected; `expected`: its scores on the payments that the gate judged, as
    counts (trainer.drift.reference.score_bins); None where it did not.
    """
    own = after[(after["version"] == version) | (after["version"] == 0)]  # 0: the rules, which no model has answered
    if len(after) >= _LEAST and not len(own):
        others = sorted({int(other) for other in after["version"]})
        why = f"{len(after)} decisions since, all by other versions ({others}): no worker takes it; see the logs"
        return [Check("live_version", False, None, 0.0, None, why)]
    after = own
    if len(after) < _LEAST:
        return [too_few("live_decisions", len(after))]
    out = [_errors(before, after), _alert_rate("live_alert_rate", int(after["alert"].sum()), len(after), alert_share)]
    model = after[after["version"] > 0]
    if len(before) >= _LEAST:
        out.append(_latency(before, after))
    if expected is not None and len(model) >= _LEAST:
        out.append(_scores(expected, score_bins(model["score"])))
    return out


@dataclass(frozen=True)
class Look:
    """How far the stream is at a moment (s): payments that have come, and those that were decided or refused."""

    at_s: float
    came: int
    answered: int


def judge_stall(looks: Sequence[Look], before: int) -> list[Check]:
    """The check of a version that keeps workers from deciding at all; none where `looks` are too few to say so, or
    payments, or decisions in the time `before` the switch."""
    now = looks[-1]
    until = next((look for look in reversed(looks) if look.at_s <= now.at_s - _PATIENCE_S), None)
    if until is None or before < _LEAST:
        return []
    # a stream of a few payments a second has enough of them after some minutes, and is to be judged then
    earlier = (look for look in reversed(looks) if look.at_s <= now.at_s - _STALLED_S)
    since = next((look for look in earlier if until.came - look.came >= _LEAST), None)
    if since is None:
        return []
    came, answered = until.came - since.came, now.answered - since.answered
    why = (
        f"of {came} payments that came {now.at_s - since.at_s:.0f} to {_PATIENCE_S:.0f} s ago, {answered} were decided "
        f"or refused since; {_STALLED:.0%} is asked (before the switch there were {before} decisions)"
    )
    return [Check("live_decided", answered >= _STALLED * came, None, answered / came, None, why)]


def judge_shadow(found: ShadowReport, alert_share: float) -> list[Check]:
    """Checks of a challenger that followed the stream without a say: its alerts beside the share of them that is
    expected, and precision where enough frauds have matured. Where it has made too few decisions, one that says so."""
    if found.payments < _LEAST:
        return [too_few("shadow_decisions", found.payments)]
    out = [_alert_rate("shadow_alert_rate", found.alerts_shadow, found.payments, alert_share)]
    if found.interval is not None and found.frauds >= FEW_FRAUDS:
        before, after = found.average_precision_live, found.average_precision_shadow
        why = (
            f"on the shadow's {found.judged} matured payments average precision is {after:.4f}, live {before:.4f}: "
            f"difference [{found.interval[0]:+.4f}, {found.interval[1]:+.4f}]"
        )
        out.append(Check("shadow_average_precision", found.interval[1] >= 0, before, after, found.interval, why))
    return out


def too_few(check: str, decisions: int) -> Check:
    """What is said of a version in place of all else, where it has made fewer than _LEAST decisions: nothing against
    it, which whoever reads the report is to know."""
    why = f"{decisions} decisions to judge it by; fewer than {_LEAST} say nothing, for it or against it"
    return Check(check, True, None, float(decisions), None, why)


def _errors(before: NDArray[np.void], after: NDArray[np.void]) -> Check:
    was, now = (float(rows["degraded"].mean()) if len(rows) else 0.0 for rows in (before, after))
    low = now - _Z * math.sqrt(max(now * (1 - now), 1 / len(after)) / len(after))
    most = max(_DEGRADED, 2 * was)
    why = f"{now:.2%} of {len(after)} decisions were made without the model's newest answer (before: {was:.2%})"
    return Check("live_errors", low <= most, was, now, None, f"{why}; at most {most:.2%} is asked")


def _latency(before: NDArray[np.void], after: NDArray[np.void]) -> Check:
    was, now = (float(np.percentile(rows["latency_ms"], 95)) for rows in (before, after))
    most = max(_SLOWER * was, was + _SLOWER_MS)
    why = f"95 % of its decisions take {now:.0f} ms at most (before: {was:.0f}); {most:.0f} is asked"
    return Check("live_latency_ms", now <= most, was, now, None, why)


def _alert_rate(name: str, count: int, payments: int, share: float) -> Check:
    wanted = share * payments
    too_many = count - _Z * math.sqrt(count + 1) > _ALERTS * wanted
    none = count == 0 and wanted >= _SURELY
    why = f"{count} alerts in {payments} decisions, where {wanted:.1f} were expected; {_ALERTS:g} times is the most"
    return Check(name, not (too_many or none), share, count / payments, None, why)


def _scores(expected: Sequence[int], now: NDArray[np.int64]) -> Check:
    found = stability_index(np.asarray(expected, np.int64), now)
    why = f"its scores differ from those that the gate saw: stability index {found:.3f}; at most {_SHIFT:g} is asked"
    return Check("live_scores", found <= _SHIFT, None, found, None, why)


def watch(
    kafka: KafkaSettings,
    settings: PantherSettings,
    version: int,
    switched_ms: int,
    seconds: float,
    alert_share: float,
    expected: Sequence[int] | None,
    told: Callable[[Sequence[Check]], None] = lambda _: None,
) -> list[Check]:
    """Watch `version`, which is live, until `seconds` after `switched_ms` (epoch ms of the broker's clock), until a
    check does not hold, or until another version is live.

    Returns the last checks; none where another version is live.
    `told`: called with each look.
    """

    async def go() -> list[Check]:
        checks, looks = list[Check](), list[Look]()
        failing, began_s = 0, time.monotonic()
        async with (
            decisions_since(kafka, settings.app_id, switched_ms - round(1000 * seconds)) as decisions,
            make_reader(kafka) as counter,
        ):
            payments, letters = await partitions_of(counter, TRANSACTIONS), await partitions_of(counter, DEAD_LETTERS)
            while True:
                if (await updates(kafka))[-1].version != version:
                    return []
                rows = await decisions.so_far()
                # by the broker's clock, which this machine's may be far ahead of, and where nothing comes by a timer
                newest_ms = int(rows["appended_ms"].max(initial=0))
                over = newest_ms >= switched_ms + 1000 * seconds or time.monotonic() >= began_s + seconds
                before = rows[rows["appended_ms"] < switched_ms]
                came, refused = await _written(counter, payments), await _written(counter, letters)
                looks.append(Look(time.monotonic(), came, len(rows) + refused))
                checks = judge_live(
                    version, before, rows[rows["appended_ms"] >= switched_ms + _SETTLE_MS], alert_share, expected
                )
                checks += judge_stall(looks, len(before))
                told(checks)
                failing = failing + 1 if any(not check.held for check in checks) else 0
                if failing >= _LOOKS or (over and not failing):
                    return checks
                await asyncio.sleep(_EVERY_S)

    return asyncio.run(go())


async def _written(consumer: AIOKafkaConsumer, parts: list[TopicPartition]) -> int:
    """Records that a topic's partitions have got so far."""
    return sum((await consumer.end_offsets(parts)).values())
