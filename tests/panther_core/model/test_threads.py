"""Threads side by side: every part once, each computing alone, errors raised, the setting as it was before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numba
import pytest
import torch

from panther_core.model.kernels.threads import side_by_side


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_parts_meet_on_two_threads_that_compute_alone() -> None:
    meet, seen, alone = threading.Barrier(2, timeout=20), set[int](), set[tuple[int, int]]()

    def work(part: int) -> None:
        meet.wait()  # passes only if two parts are under way at once
        alone.add((torch.get_num_threads(), numba.get_num_threads()))
        seen.add(part)

    side_by_side(work, range(6))
    assert seen == set(range(6))
    assert alone == {(1, 1)}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_what_a_part_raises_is_raised() -> None:
    def work(part: int) -> None:
        if part == 3:
            raise ValueError("part 3")

    with pytest.raises(ValueError, match="part 3"):
        side_by_side(work, range(6))
    assert torch.get_num_threads() == 2
