"""Names of slices."""

from __future__ import annotations

import numpy as np

from panther_core.data.table import Words
from panther_core.report.slices import by_word


def test_a_word_that_is_empty_or_not_given_is_named() -> None:
    words = Words(np.array([0, 0, 1, -1], np.int32), ("", "online"))
    names, index = by_word(words, np.ones(4, np.bool_))
    assert [names[place] for place in index] == ["not given", "not given", "online", "not given"]
