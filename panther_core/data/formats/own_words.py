"""Words of an own file: what stands for nothing, ids of several columns, and what is said of rows that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.columns import Part
from panther_core.data.formats.mapping import HELP, Mapping, Name
from panther_core.data.table import Words

_JOIN = "|"  # between the parts of an id of several columns


class WrongRows(InvalidFile):
    """Rows whose column cannot be read: what was expected, in how many rows, the first one and what it has."""

    def __init__(self, text: str, what: str, count: int, row: int, got: str) -> None:
        super().__init__(text)
        self.what, self.count, self.row, self.got = what, count, row, got


class OwnWords(Part):
    """Some rows of an own file, and its words."""

    def __init__(self, path: Path, data: pa.RecordBatch | pa.Table, first_row: int, mapping: Mapping) -> None:
        super().__init__(path, data, first_row)
        self._mapping = mapping
        self._nulls = pa.array([*mapping.nulls, ""], pa.string())

    def array(self, name: str) -> pa.Array:
        """As Part.array; words of `nulls` are null."""
        column = super().array(name)
        if pa.types.is_large_string(column.type):
            column = pc.cast(column, pa.string())
        if pa.types.is_string(column.type):
            return pc.if_else(pc.is_in(column, value_set=self._nulls), pa.scalar(None, pa.string()), column)
        return column

    def joined(self, name: Name) -> pa.Array:
        """Text of a column, or of several with a sign between them: null where all parts are."""
        if isinstance(name, str):
            return self.text(name)
        parts = [self.text(part) for part in name]
        joined = pc.binary_join_element_wise(*(pc.fill_null(part, "") for part in parts), _JOIN)
        empty = parts[0].is_null()
        for part in parts[1:]:
            empty = pc.and_(empty, part.is_null())
        return pc.if_else(empty, pa.scalar(None, pa.string()), joined)

    def word_column(self, name: Name) -> Words:
        """As Part.words, of one column or of several joined."""
        coded = self.joined(name).dictionary_encode()
        index = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        return Words(index, tuple(coded.dictionary.to_pylist()))

    def required_words(self, name: Name) -> Words:
        """As `word_column`; raises InvalidFile at the first row without a value."""
        self.require_given(name, self.joined(name), "a value")
        return self.word_column(name)

    def require_given(self, name: Name, text: pa.Array, what: str) -> None:
        """Raise InvalidFile at the first row without a value."""
        shown = name if isinstance(name, str) else ", ".join(name)
        self._refuse_column(shown, text, np.asarray(text.is_null()), f"expected {what}", None)

    def _refuse(self, name: str, bad: NDArray[np.bool_], expected: str, advice: str | None) -> None:
        self._refuse_column(name, self.array(name), bad, expected, advice)

    def _refuse_column(
        self, shown: str, column: pa.Array, bad: NDArray[np.bool_], expected: str, advice: str | None
    ) -> None:
        """Raise InvalidFile at the first bad row, with advice on the mapping, and on the row if others are good."""
        bad = np.asarray(bad, np.bool_)
        if bad.any():
            at = int(np.argmax(bad))
            got = column[at].as_py()
            many = f" (so are {bad.sum():,} of {len(bad):,} rows)" if bad.sum() > 1 else ""
            problem = f"{expected}, got {'nothing' if got is None else repr(got)}{many}"
            place = self.first_row + at
            text = f"{self.path}, row {place}, column {shown!r}: {problem}: {self._remedy(bad, advice)}"
            raise WrongRows(text, f"{shown}: {expected}", int(bad.sum()), place, "nothing" if got is None else str(got))

    @staticmethod
    def _remedy(bad: NDArray[np.bool_], advice: str | None = None) -> str:
        """What to do: the mapping is wrong where most rows are so, a row where few are."""
        row = "correct or remove that row" if bad.sum() == 1 else "correct or remove these rows"
        told = f"{advice}; {HELP}" if advice else HELP
        if bad.all() and len(bad) > 1:
            return told
        return f"{told}; or {row}" if advice else f"{row}; {HELP}"
