"""Sorts more rows than fit in memory by time: records of fixed size go to one temporary file a month, and each month is
sorted by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_time(parts: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
    """Records with a field `time_ms`, in time order (ties in the order of arrival), a month at a time.

    All `parts` are read before the first month is given. The records take their size on disk, in the folder for
    temporary files (TMPDIR), until the iterator ends or is closed. Memory holds one part, then one month.
    """
    with tempfile.TemporaryDirectory(prefix="panther-sort-") as folder:
        dtype: np.dtype[Any] | None = None
        months: set[int] = set()
        for part in parts:
            if not len(part):  # no record of the part lies in the period
                continue
            dtype = part.dtype
            month = part["time_ms"].astype("M8[ms]").astype("M8[M]").astype(np.int64)
            order = np.argsort(month, kind="stable")
            values, begin = np.unique(month[order], return_index=True)
            for value, rows in zip(values.tolist(), np.split(order, begin[1:]), strict=True):
                with (Path(folder) / f"{value}.bin").open("ab") as file:
                    file.write(part[rows].tobytes())
                months.add(value)
        for value in sorted(months):
            name = Path(folder) / f"{value}.bin"
            records = np.fromfile(name, dtype=dtype)
            name.unlink()
            yield records[np.argsort(records["time_ms"], kind="stable")]


def regroup(parts: Iterable[NDArray[np.void]], rows: int) -> Iterator[NDArray[np.void]]:
    """The same records in arrays of exactly `rows`, the last one shorter."""
    waiting: list[NDArray[np.void]] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= rows:
            whole = np.concatenate(waiting)
            for first in range(0, count - rows + 1, rows):
                yield whole[first : first + rows]
            waiting = [whole[count - count % rows :]]
            count %= rows
    if count:
        yield np.concatenate(waiting)
