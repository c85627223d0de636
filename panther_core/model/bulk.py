"""Encoding and scoring of whole known histories: which windows to encode, and the request that scores each event.

The worker encodes one window for each event. Training and replay know all events beforehand, so that one window can
yield the outputs after many of its events.

Plain numpy. K cached floats, L context length; places are positions in `History.order`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from panther_core.data.decision import EXPECTED
from panther_core.decide.scoring import ScoreRequest
from panther_core.state.history import History, held, places_in
from panther_core.state.window import RECENT, blocks, window_start

_WANTED = 1 << 17
_NEAR = 32  # windows whose starts lie in the same stretch of so many events go into one batch


@dataclass(frozen=True)
class EncodedHistory:
    """Outputs after each kept event (one that is no redelivery), by place (position in `History.order`).

    `cached` and `expected` may be those of W events alone: `at` [kept] says which row is a place's, -1 for none.
    """

    cached: NDArray[np.float32]  # [kept or W, K]
    expected: NDArray[np.uint64]  # [kept or W, 3]
    codes: NDArray[np.uint64]  # [kept] packed CODE of the event
    place: NDArray[np.int32]  # [N] place of each event, -1 for one that was not kept
    at: NDArray[np.int32] | None = None

    @classmethod
    def empty(cls, history: History, width: int, wanted: NDArray[np.int64] | None = None) -> EncodedHistory:
        """Room for `width` outputs after the events at places `wanted`, or after all."""
        count = len(history.order) if wanted is None else len(wanted)
        cached, expected = np.empty((count, width), np.float32), np.empty((count, EXPECTED), np.uint64)
        at = None if wanted is None else places_in(len(history.order), wanted)
        return cls(cached, expected, history.code[history.order], places(history), at)

    def wanted_before(self) -> NDArray[np.int64]:
        """How many of the places before each, and before the end, have room."""
        return np.append(0, np.cumsum(np.ones(len(self.codes), np.bool_) if self.at is None else self.at >= 0))

    def put(self, place: NDArray[np.int64], cached: NDArray[np.float32], expected: NDArray[np.uint64]) -> None:
        """Keep outputs after the events at these places, of those that have room."""
        if self.at is None:
            self.cached[place], self.expected[place] = cached, expected
            return
        row = self.at[place]
        own = row >= 0
        self.cached[row[own]], self.expected[row[own]] = cached[own], expected[own]

    def after(self, place: NDArray[np.int64]) -> NDArray[np.float32]:
        """Outputs [B, K] after the events at these places. Raises KeyError for a place without any."""
        return self.cached[place if self.at is None else held(self.at, place)]


@dataclass(frozen=True)
class Windows:
    """W windows to encode: window w holds the events at places begin..end-1; its outputs from place `first` on count.

    Each output that counts is the one the worker had after that event. A window ends where the user's profile changes,
    because the profile in force at the newest event enters at every position.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.begin)

    def take(self, index: NDArray[np.intp]) -> Windows:
        """The windows with these numbers."""
        return Windows(self.begin[index], self.end[index], self.first[index])


def plan(history: History, length: int, known: NDArray[np.int64] | None = None) -> Windows:
    """Windows that yield the outputs after every kept event exactly once.

    `known` [U]: how many events each user had before this history. Those that windows still reach are the user's first
    in `history.order` (panther_core.model.carried); their outputs are known and not asked for again.
    """
    out = array("q")  # begin, end and first of each window, 24 bytes and no Python objects
    profile = np.ascontiguousarray(history.profile[history.order]).view(np.uint64)[:, 0]
    changes = np.flatnonzero(profile[1:] != profile[:-1]) + 1
    earlier = [0] * (len(history.bounds) - 1) if known is None else known.tolist()
    for (begins, high), before in zip(pairwise(history.bounds.tolist()), earlier, strict=True):
        low = begins - window_start(before, length)  # where the user's very first event would stand
        for start, stop, first in blocks(high - low, length, before):
            a, b = np.searchsorted(changes, (low + first, low + stop), side="right")
            cuts = [low + first, *(c for c in changes[a:b].tolist() if c < low + stop), low + stop]
            for begin, end in pairwise(cuts):
                out.extend((low + start, end, begin))
    begin, end, first_ = np.array(out, np.int64).reshape(-1, 3).T
    return Windows(begin, end, first_)


def chunks(
    length: NDArray[np.int64], positions: int, start: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.intp]]:
    """Indices of windows by ascending length, in groups whose padded size is at most `positions`, or of one window.

    `start`: first position of each window whose output counts. Windows with close starts come together, since what is
    computed of a group begins at its earliest start.
    """
    near = np.zeros(len(length), np.int64) if start is None else start // _NEAR
    order = np.lexsort((length, near))
    low = 0
    while low < len(order):
        high = low + 1
        while high < len(order) and near[order[high]] == near[order[low]]:
            if (high - low + 1) * length[order[high]] > positions:
                break
            high += 1
        yield order[low:high]
        low = high


def padded(values: NDArray[np.uint64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Rows values[begin:end] as one array [W, longest], zeros on the right."""
    at = begin[:, None] + np.arange(int((end - begin).max(initial=0)))
    return np.where(at < end[:, None], values[np.minimum(at, len(values) - 1)], np.uint64(0))


def places(history: History) -> NDArray[np.int32]:
    """Place of each event in `history.order`, [N]; -1 for an event that was not kept."""
    place = np.full(len(history.code), -1, np.int32)
    place[history.order] = np.arange(len(history.order))
    return place


def places_before(history: History, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the events before the (kept) events `rows`, of the same users: whose outputs these are scored with."""
    return np.unique(places(history)[rows[history.history_len[rows] > 0]] - 1)


def by_users(history: History, wanted: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """The places `wanted` (ascending) in stretches of whole users, each of at most `_WANTED` places or of one user; and
    the first place of these users, and the one after their last. For callers of encode_history that need not hold all
    outputs at once: one takes half a kilobyte."""
    before, low = np.searchsorted(wanted, history.bounds), 0
    while low < len(before) - 1:
        high = max(low + 1, int(np.searchsorted(before, before[low] + _WANTED, side="right")) - 1)
        yield wanted[before[low] : before[high]], int(history.bounds[low]), int(history.bounds[high])
        low = high


def score_request(history: History, encoded: EncodedHistory, rows: NDArray[np.int64]) -> ScoreRequest:
    """The request that the worker made when the (kept) events `rows` arrived, with the outputs after the event
    before."""
    place, known = encoded.place[rows].astype(np.int64), history.history_len[rows]
    back = np.arange(RECENT, 0, -1)
    recent = np.where(back <= known[:, None], encoded.codes[np.maximum(place[:, None] - back, 0)], np.uint64(0))
    cached = np.zeros((len(rows), encoded.cached.shape[1]), np.float32)
    cached[known > 0] = encoded.after(place[known > 0] - 1)
    return ScoreRequest(
        features=history.features[history.held(rows)],
        code=history.code[rows],
        recent=recent,
        profile=history.profile[rows],
        cached=cached,
        history_len=known,
    )
