"""Ranges of settings, written on the fields themselves: `layers: Annotated[int, Range(1, 32)] = 4`."""

from __future__ import annotations

from typing import NamedTuple, get_type_hints

from panther_core.base.errors import BadInput


class Range(NamedTuple):
    """Lowest and highest value of a field, both allowed."""

    low: float
    high: float


def check_ranges(config: object, where: str) -> None:
    """Compare each field that has a Range with its value; call it from `__post_init__`. Raises BadInput naming `where`.

    Range takes the place of `msgspec.Meta(ge=, le=)`, which msgspec checks when it decodes but not in a constructor,
    and whose error names one bound alone. With Range every way to make a config gives the same text.
    """
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        for low, high in (mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Range)):
            value = getattr(config, name)
            if not low <= value <= high:
                raise BadInput(f"expected {low:g} <= {name} <= {high:g}, got {value!r} in {where}: use a value within")
