"""Requests and responses of a model by row: some rows of a request, several requests as one, one answer out of several.

These work for every dataclass of arrays whose first dimension is the rows (panther_core.decide.scoring).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from panther_core.decide.scoring import tensors

T = TypeVar("T")


def take(request: T, rows: Any) -> T:
    """The same request or answer for these rows (an index or a slice) alone."""
    return type(request)(*(getattr(request, name)[rows] for name in tensors(type(request))))


def concatenated(requests: Sequence[T]) -> T:
    """Several requests of one class as one, in their order."""
    kind = type(requests[0])
    return kind(*(np.concatenate([getattr(request, name) for request in requests]) for name in tensors(kind)))


def split(answer: T, sizes: Sequence[int]) -> list[T]:
    """The answers to requests of `sizes` rows each, which were asked as one."""
    ends = np.cumsum(sizes).tolist()
    return [take(answer, slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


def gathered(places: Sequence[NDArray[np.intp]], answers: Sequence[T]) -> T:
    """One answer in row order, from those to the rows at `places`."""
    count, columns = sum(map(len, places)), {}
    for name in tensors(type(answers[0])):
        parts = [getattr(answer, name) for answer in answers]
        whole = np.empty((count, *parts[0].shape[1:]), parts[0].dtype)
        for rows, part in zip(places, parts, strict=True):
            whole[rows] = part
        columns[name] = whole
    return type(answers[0])(**columns)


def dummy_row(request: T) -> T:
    """One row of zeros in the shapes of `request`, to probe a model with: no data of anybody."""
    row = {name: getattr(request, name) for name in tensors(type(request))}
    row = {name: np.zeros((1, *tensor.shape[1:]), tensor.dtype) for name, tensor in row.items()}
    if "length" in row:  # of a window: one event
        row["length"][0] = row["codes"][0, 0] = 1
    return type(request)(**row)
