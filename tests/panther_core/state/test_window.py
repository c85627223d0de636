import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from panther_core.state.window import blocks, window_length, window_start

LENGTHS = st.sampled_from([8, 16, 256])


@given(st.integers(0, 2000), LENGTHS)
def test_length_is_bounded_and_every_event_appends_or_falls(n: int, length: int) -> None:
    size, after = window_length(n, length), window_length(n + 1, length)
    assert size == n if n < length else length // 2 <= size < length
    assert after in (size + 1, length // 2)
    assert (after == size + 1) == (window_start(n + 1, length) == window_start(n, length))


@given(st.integers(0, 1500), LENGTHS)
def test_blocks_give_every_output_once_from_its_own_window(n: int, length: int) -> None:
    seen = []
    for start, stop, first in blocks(n, length):
        assert stop - start < length
        for newest in range(first, stop):
            assert window_start(newest + 1, length) == start
            seen.append(newest)
    assert seen == list(range(n))


def test_arrays_and_integers_agree() -> None:
    n = np.arange(1000)
    assert window_start(n, 16).tolist() == [window_start(int(i), 16) for i in n]
