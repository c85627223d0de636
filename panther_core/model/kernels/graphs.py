"""A CUDA graph for each batch size. The layers of a step are some hundred GPU kernels of microseconds each; without a
graph each is launched by itself, with one all are launched at once.

Shapes as in panther_core.model.kernels.pool; B rows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor

from panther_core.model.kernels.step_interface import Step

#: records the work of a function: returns a function that repeats the work, and the output that each repetition fills
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


class _Captured(NamedTuple):
    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    out_BD: Tensor


def cuda_capture(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record `work` as a CUDA graph. torch asks for a first run on another stream, which compiles kernels and
    allocates."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()
    return graph.replay, out


class GraphedStep:
    """A step whose `advance` is captured at the first batch of each size, sizes rounded up to powers of two.

    Rows that are added to fill the size are copies of the last row, and write the same values to the same places. For
    the same reason the slabs are right after the first batch, which capturing runs more than once.
    """

    def __init__(self, step: Step, capture: Capture = cuda_capture) -> None:
        self._step, self._capture = step, capture
        self._captured: dict[int, _Captured] = {}

    def advance(self, x_BD: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        rows = len(x_BD)
        size = 1 << (rows - 1).bit_length()
        graph = self._captured.get(size)
        if graph is None:
            inputs = tuple(torch.cat([t, t[-1:].expand(size - rows, *t.shape[1:])]) for t in (x_BD, slot_B, at_B))
            graph = _Captured(inputs, *self._capture(lambda: self._step.advance(*inputs)))
            self._captured[size] = graph
        for fixed, given in zip(graph.inputs, (x_BD, slot_B, at_B), strict=True):
            fixed[:rows] = given
            fixed[rows:] = given[-1]
        graph.replay()
        return graph.out_BD[:rows]

    def pooled(self, new_BP: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        return self._step.pooled(new_BP, slot_B, at_B)

    def computing(self) -> AbstractContextManager[object]:
        return self._step.computing()
