"""The log replayed, each decision under the model version that the stream's decision names.

Every version replays the whole log, and each event takes its decision from the version that was in force. That equals
the stream: when a user moves to another version, the stream encodes the user's whole window anew, as that version's
replay has done all along. Only the risk level in an event's code does not follow the version: it keeps the value of the
version that was live when the event came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from offline.parity.log import StreamLog
from offline.parity.online import Online
from offline.replay.replayer import Replayer
from panther_core.data.decision import DECISION, LATE, Degraded
from panther_core.data.table import TransactionTable
from panther_core.decide.decisions import make_decisions
from panther_core.serving_model import ServingModel

_CHUNK = 200_000
_SAME = 1e-9  # of thresholds, which pass through JSON as they are


@dataclass(frozen=True)
class ReplayedLog:
    """What the replay decided, a row for each row of the log [N]; `by_version[v]`: the decisions of version v alone."""

    decision: NDArray[np.void]  # DECISION, of the version that was in force
    kept: NDArray[np.bool_]  # false: a redelivery, answered as before
    version: NDArray[np.int32]  # in force when the event was decided
    risk: NDArray[np.uint8]
    past_risk: NDArray[np.uint8]  # of the rows of the past
    by_version: dict[int, NDArray[np.void]]


Thresholds = Mapping[int, Collection[float]]
"""By version, the thresholds that `models.updates` has announced for it."""


def decide_log(
    log: StreamLog, online: Online, replayers: Sequence[Replayer], announced: Thresholds = MappingProxyType({})
) -> ReplayedLog:
    """Replay the past of `log`, then `log`, with each of `replayers`, which must not know any user yet.

    A version decides by its own threshold and by those that were `announced` for it: by which one an event was decided
    its decision says, and a threshold that nobody announced is a mismatch.
    """
    own_threshold = {r.serving.live.version: r.serving.live.threshold for r in replayers}
    known = {v: [*dict.fromkeys([own, *announced.get(v, ())])] for v, own in own_threshold.items()}
    version = versions_in_force(log, online, known)
    threshold = _thresholds_in_force(log, online, version, known)
    risk = np.zeros(len(log), np.uint8)
    for replayer in replayers:
        own = version == replayer.serving.live.version
        risk[own] = _levels(log.table, replayer.serving)[own]
    rules = np.array([_degraded(online, place) == Degraded.RULES.word for place in log.place])
    decision, kept = np.zeros(len(log), DECISION), np.zeros(len(log), np.bool_)
    by_version: dict[int, NDArray[np.void]] = {}
    first = next(r.serving for r in replayers if r.serving.live.version == version[0])
    # seeding gave the levels of the version that was live then
    past_risk = _levels(log.past, first) if log.past is not None else np.zeros(0, np.uint8)
    for replayer in replayers:
        if log.past is not None:
            _decide_past(replayer, log.past, past_risk)
        made, serving = np.zeros(len(log), DECISION), replayer.serving
        own = version == serving.live.version
        for part in _stretches(threshold, own):
            table = log.table.take(part)
            if own[part].any():
                in_force = float(threshold[part][own[part]][0])
                replayer.serving = replace(serving, live=replace(serving.live, threshold=in_force))
            replayed = replayer.decide(table, risk[part])
            made[part], kept[part] = replayed.decision, replayed.kept
            without = np.flatnonzero(rules[part] & (version[part] == serving.live.version))
            if len(without):
                _decide_by_rules(made[part], without, replayed.features, replayer.serving)
        replayer.serving = serving
        decision[own], by_version[serving.live.version] = made[own], made
    return ReplayedLog(decision, kept, version, risk, past_risk, by_version)


def _decide_past(replayer: Replayer, past: TransactionTable, risk: NDArray[np.uint8]) -> None:
    for low in range(0, len(past), _CHUNK):
        part = slice(low, min(low + _CHUNK, len(past)))
        replayer.decide(past.take(part), risk[part])
    replayer.forget_decisions()


def _levels(table: TransactionTable, serving: ServingModel) -> NDArray[np.uint8]:
    return serving.risk.level(table.merchant_hashes())


def _decide_by_rules(
    made: NDArray[np.void], rows: NDArray[np.intp], features: NDArray[np.float32], serving: ServingModel
) -> None:
    """Replace the decisions in these rows by the rules' decisions, in place."""
    events, before = made[rows], made[rows]  # of an event only `transaction` is read, which a decision holds too
    none = np.zeros(len(rows), np.bool_)
    made[rows] = make_decisions(
        events,
        features[rows],
        serving.live,
        None,
        live=none,
        current=none,
        history_len=before["history_len"],
        late=(before["flags"] & LATE) > 0,
        expected=before["expected"],
    )


def _stretches(threshold: NDArray[np.float64], own: NDArray[np.bool_]) -> Iterator[slice]:
    """The rows in order, in parts of at most _CHUNK in which a version's `own` rows have one threshold."""
    rows = np.flatnonzero(own)
    moves = rows[1:][np.diff(threshold[rows]) != 0]
    bounds = np.unique(np.concatenate([moves, np.arange(0, len(own), _CHUNK), [len(own)]]))
    yield from (slice(int(low), int(high)) for low, high in pairwise(bounds))


def _thresholds_in_force(
    log: StreamLog, online: Online, version: NDArray[np.int32], known: Thresholds
) -> NDArray[np.float64]:
    """Threshold of each row [N] of its version: that of the row's decision, where it is a known one of the version;
    else that of the row before in its partition with this version, or the version's own, which is the first known."""
    out, last = np.zeros(len(log)), dict[tuple[int, int], float]()
    for row in _by_partition(log):
        at, of = log.place[row][0], int(version[row])
        told = online.decisions.get(log.place[row])
        if told is not None and any(abs(one - told.threshold) < _SAME for one in known[of]):
            last[at, of] = told.threshold
        out[row] = last.get((at, of), next(iter(known[of])))
    return out


def versions_in_force(log: StreamLog, online: Online, known: Thresholds) -> NDArray[np.int32]:
    """Model version behind each row [N]: that of the row's decision, else that of the row before in its partition.

    A decision by rules names no version; its version is the one of whose thresholds the decision carries one.
    """
    out = np.zeros(len(log), np.int32)
    last: dict[int, int] = {}
    for row in _by_partition(log):
        partition = log.place[row][0]
        decision = online.decisions.get(log.place[row])
        if decision is not None:
            named = decision.model.version
            if not named:
                fits = [v for v, all_of in known.items() if any(abs(t - decision.threshold) < _SAME for t in all_of)]
                named = last.get(partition, 0) if last.get(partition) in fits else (fits or [0])[0]
            if named in known:
                last[partition] = named
        out[row] = last.get(partition, 0)
    first: dict[int, int] = {}
    for row in reversed(_by_partition(log)):  # for the rows before a partition's first decision
        partition = log.place[row][0]
        first[partition] = int(out[row]) or first.get(partition, next(iter(known)))
        out[row] = first[partition]
    return out


def _by_partition(log: StreamLog) -> list[int]:
    partition = np.array([p for p, _ in log.place])
    return np.argsort(partition, kind="stable").tolist()  # type: ignore[no-any-return]


def _degraded(online: Online, place: tuple[int, int]) -> str | None:
    decision = online.decisions.get(place)
    return None if decision is None else decision.degraded
