"""Words that are numbered once for all parts of a file."""

import numpy as np

from panther_core.data.formats.shared_words import joined, named, numbered
from panther_core.data.table import Words, factorise


def words(*values: str | None) -> Words:
    return factorise(values)


def test_numbers_hold_over_parts_and_come_back_as_words() -> None:
    numbers: dict[str, int] = {}
    first, second = numbered(words("b", "a", None), numbers), numbered(words("c", "b"), numbers)
    column = named(np.concatenate([first, second]), list(numbers))
    assert [column[row] for row in range(5)] == ["b", "a", None, "c", "b"]
    assert named(second, list(numbers)).words == ("b", "c"), "no other words than occur"
    assert named(first[:0], list(numbers)).words == ()


def test_joined_words_keep_the_places_of_what_is_missing() -> None:
    column = joined((words("1", "2", None, None), words("x", None, "y", None)), "|")
    assert [column[row] for row in range(4)] == ["1|x", "2|", "|y", None]
    assert len(column.words) == 3
    assert joined((words("1"), words("x")), "|")[0] == "1|x"
