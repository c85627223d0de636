"""Reads sequence-recommendation files, which say what items each user took, in which order, and nothing else.

Layouts, plain or gzip: `lines` has one line a user, `user item item ...`; `pairs` has one line an event, `user item`,
the lines of a user in order; `ratings` is MovieLens-1M's `user::item::rating::timestamp`, which is sorted by time (ties
in file order).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Literal, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput, InvalidFile

Layout = Literal["lines", "pairs", "ratings"]
LAYOUTS: tuple[Layout, ...] = ("lines", "pairs", "ratings")
_RATING = re.compile(r"0\.5|[1-4](\.[05])?|5(\.0)?")
_PROBE = 1000  # first lines, from which the layout is recognised
Event = tuple[str, str]


@dataclass(frozen=True)
class Sequences:
    """Items of all users in one array: user u (from 0) took items[bounds[u] : bounds[u + 1]], oldest first."""

    items: NDArray[np.int32]
    """[events] item ids 1..N, contiguous; 0 is free for padding."""
    bounds: NDArray[np.int64]
    """[users + 1]."""
    users: tuple[str, ...]
    """The file's name of each user, in order of appearance."""
    item_names: tuple[str, ...]
    """The file's name of item i at i - 1, in order of appearance."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[users] number of items each."""
        return np.diff(self.bounds)

    def of(self, user: int) -> NDArray[np.int32]:
        """Items of one user."""
        return self.items[self.bounds[user] : self.bounds[user + 1]]


@dataclass(frozen=True)
class LeaveOneOut:
    """Each user's last item is for the test, the item before it for validation, the items before both for training.

    Users with fewer than three items are trained on and not evaluated, as in SASRec (arXiv 1808.09781, 4.1).
    """

    sequences: Sequences
    train_end: NDArray[np.int64]
    """[users] index into `items` where each user's training items end: the validation item, then the test item."""
    evaluated: NDArray[np.intp]
    """Users that have validation and test items."""

    def repeats(self) -> bool:
        """Whether any user has the same item twice among the training items."""
        begins = self.sequences.bounds[:-1]
        parts = zip(begins, self.train_end, strict=True)
        return any(len(set(part)) < len(part) for part in (self.sequences.items[a:b].tolist() for a, b in parts))


def leave_one_out(sequences: Sequences) -> LeaveOneOut:
    """Split off the last two items of each user."""
    long = sequences.lengths >= 3
    return LeaveOneOut(sequences, sequences.bounds[1:] - 2 * long, np.flatnonzero(long))


def read_split(path: Path) -> LeaveOneOut:
    """The sequences in `path`, split. Raises InvalidFile, also where nothing could be trained or evaluated."""
    split = leave_one_out(read_sequences(path))
    if not (split.train_end - split.sequences.bounds[:-1] > 1).any() or not len(split.evaluated):
        raise InvalidFile(
            f"{path}: expected users with at least four items (two to train on, one each for validation and test), "
            f"got {int(split.sequences.lengths.max())} at most: give longer sequences"
        )
    return split


def read_sequences(path: Path, layout: Layout | None = None) -> Sequences:
    """The sequences in `path`. A layout that is not given is recognised by the first lines.

    Raises BadInput for an unknown layout, InvalidFile (file, row, what to do) for a file of another layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise BadInput(f"expected layout to be one of {', '.join(LAYOUTS)}, got {layout!r}")
    try:
        with _open(path) as file:
            layout = layout or _detect(islice(file, _PROBE))
        with _open(path) as file:
            events = {"lines": _lines, "pairs": _pairs, "ratings": _ratings}[layout](path, file)
            sequences = _collect(events)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}: expected a readable text file, .gz or not, got {error}: check the path") from None
    if not len(sequences):
        raise InvalidFile(f"{path}: expected sequences, found no row: check that the file is complete")
    return sequences


def _open(path: Path) -> IO[str]:
    return cast(
        IO[str], gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open("rt", encoding="utf-8")
    )


def _detect(lines: Iterable[str]) -> Layout:
    words = [line.split() for line in lines if line.strip()]
    if words and "::" in words[0][0]:
        return "ratings"
    return "pairs" if all(len(w) == 2 for w in words) else "lines"


def _lines(path: Path, file: Iterable[str]) -> Iterator[Event]:
    rows: dict[str, int] = {}
    for row, line in enumerate(file, 1):
        user, *items = line.split() or _fail(path, row, "`user item item ...`", line)
        if not items:
            _fail(path, row, "at least one item behind the user", line)
        if user in rows:
            _fail(path, row, f"one line a user (user {user} stands in row {rows[user]} already)", line)
        rows[user] = row
        yield from ((user, item) for item in items)


def _pairs(path: Path, file: Iterable[str]) -> Iterator[Event]:
    for row, line in enumerate(file, 1):
        words = line.split()
        if len(words) != 2:
            _fail(path, row, "`user item`", line)
        yield words[0], words[1]


def _ratings(path: Path, file: Iterable[str]) -> Iterator[Event]:
    events, times = [], []
    for row, line in enumerate(file, 1):
        words = line.strip().split("::")
        if len(words) != 4 or not all(words) or not words[3].isdecimal():
            _fail(path, row, "`user::item::rating::timestamp`", line)
        if not _RATING.fullmatch(words[2]):
            _fail(path, row, "a rating (column 3) from 0.5 to 5 stars", line)
        events.append((words[0], words[1]))
        times.append(int(words[3]))
    return (events[i] for i in np.argsort(times, kind="stable").tolist())


def _collect(events: Iterable[Event]) -> Sequences:
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    pairs = [(users.setdefault(user, len(users)), items.setdefault(item, len(items) + 1)) for user, item in events]
    user_item = np.array(pairs, np.int64).reshape(-1, 2)
    order = np.argsort(user_item[:, 0], kind="stable")
    bounds = np.searchsorted(user_item[order, 0], np.arange(len(users) + 1))
    return Sequences(user_item[order, 1].astype(np.int32), bounds.astype(np.int64), tuple(users), tuple(items))


def _fail(path: Path, row: int, expected: str, line: str) -> NoReturn:
    got = line.strip()[:80]
    raise InvalidFile(f"{path}, row {row}: expected {expected}, got {got!r}: correct that row or name another layout")
