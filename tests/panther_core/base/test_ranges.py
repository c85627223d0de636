"""Ranges on fields: the same check and text for a constructor, a copy and a decoded config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import pytest

from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges


class Oven(msgspec.Struct, frozen=True):
    name: str = "first"
    degrees: Annotated[float, Range(0, 250)] = 180.0
    minutes: Annotated[int, Range(1, 60)] = 20

    def __post_init__(self) -> None:
        check_ranges(self, "the oven's config")


@pytest.mark.parametrize(
    "make",
    [
        lambda value: Oven(degrees=value),
        lambda value: msgspec.structs.replace(Oven(), degrees=value),
        lambda value: msgspec.convert({"degrees": value}, Oven),
    ],
)
def test_a_value_out_of_its_range_is_refused_however_it_came(make: Callable[[float], Oven]) -> None:
    assert make(250).degrees == 250
    for value in (-1.0, 250.5, float("nan"), float("inf")):
        with pytest.raises(BadInput, match=r"expected 0 <= degrees <= 250, got .* in the oven's config"):
            make(value)
