"""Words columns of a file that is read in parts: one numbering of the words for all parts, so that each part becomes
records of fixed size, which can be sorted through temporary files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panther_core.data.table import Words


def numbered(column: Words, numbers: dict[str, int]) -> NDArray[np.int32]:
    """The column in the shared numbering `numbers`, to which new words are added; -1 where not given."""
    here = np.array([numbers.setdefault(word, len(numbers)) for word in column.words], np.int32)
    return column.map(here, missing=-1)


def named(numbers: NDArray[np.int32], words: Sequence[str]) -> Words:
    """The words column of shared numbers [N] (-1 = not given); words that do not occur in it are left out."""
    found, index = np.unique(numbers, return_inverse=True)
    missing = int(found[0] < 0) if len(found) else 0
    return Words((index - missing).astype(np.int32), tuple(words[i] for i in found[missing:].tolist()))


def joined(columns: Sequence[Words], separator: str) -> Words:
    """Several columns joined into one word a row. A column without a value contributes ""; a row without any value is
    not given."""
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
    given = int(not any(part[0] for part in parts))  # 1 if code 0 occurs (a row without any value): it comes first
    return Words((index - given).astype(np.int32), words[given:])
