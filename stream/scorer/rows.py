"""Requests by row: which replica gets which rows, a request for some of them, one answer out of several."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def rendezvous(users: NDArray[np.uint64], seeds: Sequence[int]) -> NDArray[np.intp]:
    """Position in `seeds` of the replica that each user goes to: the one with the highest hash of both.

    Taking a seed away moves its own users only, evenly over the others. The order of seeds does not matter.
    """
    x = users[None, :] ^ np.asarray(seeds, np.uint64)[:, None]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    highest: NDArray[np.intp] = (x ^ (x >> np.uint64(31))).argmax(axis=0)
    return highest


def made_up(request: Any) -> Any:
    """One row of zeros in the shapes of `request`; no data of anybody."""
    fields = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    row = {name: np.zeros((1, *tensor.shape[1:]), tensor.dtype) for name, tensor in fields.items()}
    if "length" in row:  # of a window: one event
        row["length"][0] = row["codes"][0, 0] = 1
    return dataclasses.replace(request, **row)


def take(request: Any, rows: Any) -> Any:
    """The request for these rows alone."""
    return dataclasses.replace(request, **{f.name: getattr(request, f.name)[rows] for f in dataclasses.fields(request)})


def join(places: list[NDArray[np.intp]], answers: list[Any]) -> Any:
    """One answer in row order, from those to the rows at `places`."""
    count, columns = sum(map(len, places)), {}
    for field in dataclasses.fields(answers[0]):
        parts = [getattr(answer, field.name) for answer in answers]
        whole = np.empty((count, *parts[0].shape[1:]), parts[0].dtype)
        for rows, part in zip(places, parts, strict=True):
            whole[rows] = part
        columns[field.name] = whole
    return type(answers[0])(**columns)
