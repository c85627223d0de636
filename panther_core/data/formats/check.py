"""What is wrong or odd in an own file, all of it and not only the first: for `panther data check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.csv import files_of
from panther_core.data.formats.mapping import Mapping, load_mapping
from panther_core.data.formats.own_columns import OwnPart
from panther_core.data.formats.own_words import WrongRows
from panther_core.data.formats.reading import Dialect, read_columns


class Problem(msgspec.Struct):
    """`what` is wrong or odd, in how many rows, and the first of them. `fatal`: nothing can be trained on it."""

    what: str
    count: int
    first: str = ""
    fatal: bool = True


class FileCheck(msgspec.Struct):
    """Of the files of a mapping: their rows, and what is wrong in them."""

    mapping: dict[str, Any]
    rows: int
    problems: list[Problem]


def check_files(path: Path) -> FileCheck:
    """Read every column of every file, and go on after what is wrong. Raises InvalidFile where no mapping is found."""
    mapping, file = load_mapping(path)
    rows, found = 0, dict[str, Problem]()
    for data in files_of(mapping, file):
        dialect = Dialect(mapping.separator, mapping.quote, mapping.encoding)
        try:
            table = read_columns(data, mapping.needed(), dialect=dialect)
        except InvalidFile as error:
            if "found no row" not in str(error):
                _add(found, Problem(str(error), 1))
            continue
        rows += table.num_rows
        part = OwnPart(data, table, 1, mapping)
        for convert in _conversions(mapping, part):
            try:
                convert()
            except WrongRows as error:
                _add(found, Problem(error.what, error.count, f"{data.name}, row {error.row}: {error.got}"))
            except InvalidFile as error:
                _add(found, Problem(str(error), 1))
        _naive_times(mapping, part, found)
    return FileCheck(msgspec.to_builtins(mapping), rows, [*found.values()])


def _conversions(mapping: Mapping, part: OwnPart) -> list[Callable[[], Any]]:
    columns = mapping.columns
    out: list[Callable[[], Any]] = [
        lambda: part.required_words(columns.user_id),
        lambda: part.required_words(columns.merchant_id),
        lambda: part.own_amounts(columns.amount),
        lambda: part.own_times(columns.event_time),
    ]
    if columns.label:
        out.append(lambda: part.own_labels(columns.label or ""))
    if columns.currency:
        out.append(
            lambda: part.in_one_currency(
                columns.currency or "", np.zeros(len(part)), part.words(columns.currency or "")
            )
        )
    return out


def _naive_times(mapping: Mapping, part: OwnPart, found: dict[str, Problem]) -> None:
    """Times of which nobody has said the zone."""
    name = mapping.columns.event_time
    if mapping.time != "iso" or mapping.zone != "UTC" or not isinstance(name, str):
        return
    column = part.array(name)
    if not pa.types.is_string(column.type):
        return
    naive = pc.fill_null(pc.invert(pc.match_substring_regex(column, r":.*(Z|[+-]\d\d(:?\d\d)?)$")), False)
    rows = np.flatnonzero(naive.to_numpy(zero_copy_only=False))
    if len(rows):
        what = f"times in {name} have no offset and are taken for UTC: say `zone` if they are not"
        first = f"{part.path.name}, row {rows[0] + 1}: {column[int(rows[0])].as_py()}"
        _add(found, Problem(what, len(rows), first, fatal=False))


def _add(found: dict[str, Problem], problem: Problem) -> None:
    known = found.setdefault(problem.what, problem)
    if known is not problem:
        known.count += problem.count
