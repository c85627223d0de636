"""Words columns of a file that is read in parts and sorted through temporary files: one numbering for all parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panther_core.data.table import Words


def numbered(column: Words, numbers: dict[str, int]) -> NDArray[np.int32]:
    """The column in the shared numbering, which grows by what is new; -1 where not given."""
    here = np.array([numbers.setdefault(word, len(numbers)) for word in column.words], np.int32)
    return column.map(here, missing=-1)


def named(numbers: NDArray[np.int32], words: Sequence[str]) -> Words:
    """The words column of shared numbers [N] (-1 = not given), with no other words than occur."""
    found, index = np.unique(numbers, return_inverse=True)
    missing = int(found[0] < 0) if len(found) else 0
    return Words((index - missing).astype(np.int32), tuple(words[i] for i in found[missing:].tolist()))


def joined(columns: Sequence[Words], separator: str) -> Words:
    """One word a row out of those of several columns, "" in place of one that is not given; not given if none is."""
    code = np.zeros(len(columns[0].index), np.int64)
    for column in columns:
        code = code * (len(column.words) + 1) + column.index + 1
    found, index = np.unique(code, return_inverse=True)
    parts: list[list[str]] = []
    for column in reversed(columns):
        size = len(column.words) + 1
        parts.append([("", *column.words)[i] for i in (found % size).tolist()])
        found = found // size
    words = tuple(separator.join(word) for word in zip(*reversed(parts), strict=True))
    given = int(not any(part[0] for part in parts))  # code 0, if it occurs, comes first: nothing is given
    return Words((index - given).astype(np.int32), words[given:])
