"""Encoding and scoring of whole known histories: which windows to encode, and the request that scores each event.

The worker encodes one window for each event. Training and replay know all events beforehand, so that one window can
yield the outputs after many of its events.

Plain numpy. K cached floats, L context length; places are positions in `History.order`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from panther_core.decide.scoring import ScoreRequest
from panther_core.state.history import History
from panther_core.state.window import RECENT, blocks, window_start

_NEAR = 32  # windows whose starts lie in the same stretch of so many events go into one batch


@dataclass(frozen=True)
class EncodedHistory:
    """Outputs after each kept event (one that is no redelivery), by place (position in `History.order`)."""

    cached: NDArray[np.float32]  # [kept, K]
    expected: NDArray[np.uint64]  # [kept, 3]
    codes: NDArray[np.uint64]  # [kept] packed CODE of the event
    place: NDArray[np.int64]  # [N] place of each event, -1 for one that was not kept


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
    out: list[tuple[int, int, int]] = []
    profile = np.ascontiguousarray(history.profile[history.order]).view(np.uint64)[:, 0]
    changes = np.flatnonzero(profile[1:] != profile[:-1]) + 1
    earlier = [0] * (len(history.bounds) - 1) if known is None else known.tolist()
    for (begins, high), before in zip(pairwise(history.bounds.tolist()), earlier, strict=True):
        low = begins - window_start(before, length)  # where the user's very first event would stand
        for start, stop, first in blocks(high - low, length, before):
            a, b = np.searchsorted(changes, (low + first, low + stop), side="right")
            cuts = [low + first, *(c for c in changes[a:b].tolist() if c < low + stop), low + stop]
            out.extend((low + start, end, begin) for begin, end in pairwise(cuts))
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


def places(history: History) -> NDArray[np.int64]:
    """Place of each event in `history.order`, [N]; -1 for an event that was not kept."""
    place = np.full(len(history.code), -1, np.int64)
    place[history.order] = np.arange(len(history.order))
    return place


def score_request(history: History, encoded: EncodedHistory, rows: NDArray[np.int64]) -> ScoreRequest:
    """The request that the worker made when the (kept) events `rows` arrived, with the outputs after the event
    before."""
    place, known = encoded.place[rows], history.history_len[rows]
    back = np.arange(RECENT, 0, -1)
    recent = np.where(back <= known[:, None], encoded.codes[np.maximum(place[:, None] - back, 0)], np.uint64(0))
    cached = np.where((known > 0)[:, None], encoded.cached[np.maximum(place - 1, 0)], np.float32(0))
    return ScoreRequest(
        features=history.features[rows],
        code=history.code[rows],
        recent=recent,
        profile=history.profile[rows],
        cached=cached,
        history_len=known.astype(np.int32),
    )
