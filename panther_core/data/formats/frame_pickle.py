"""Reads the columns of a pickled pandas DataFrame without running code of pandas, of numpy or of the file.

A pickle is a program: its author chooses which callables it calls. An allow-list of numpy's own callables would not be
safe either, since `dtype.__setstate__` takes flags that make bytes pass for object pointers. Therefore each name on the
list (ALLOWED) stands for an inert class of this module, which checks and keeps its arguments; the real classes are
never imported. Any other name is refused before anything is called, with an error that names the file and the global.

Frames of numbers, times (without zone), words and mixed objects can be read, as pandas 1.1 to 2.3 write them. pandas 3
pickles words in another way, so its frames are refused: save such a frame as Parquet.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.reading import fail

MAX_BYTES = 256 << 20  # a day of the handbook is 1 MB
_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"})
_UNITS = ((b"ns", "ns"), (b"us", "us"), (b"ms", "ms"), (b"s", "s"))
# those of the pickle machine's 68 instructions that a frame needs (protocol 4); persistent ids and the extension
# registry are left out
_OPCODES = (
    pickle.PROTO + pickle.FRAME + pickle.STOP + pickle.MARK + pickle.MEMOIZE + pickle.BINGET + pickle.LONG_BINGET
    + pickle.GLOBAL + pickle.STACK_GLOBAL + pickle.NEWOBJ + pickle.REDUCE + pickle.BUILD + pickle.NONE + pickle.NEWTRUE
    + pickle.NEWFALSE + pickle.BININT + pickle.BININT1 + pickle.BININT2 + pickle.LONG1 + pickle.BINFLOAT
    + pickle.SHORT_BINBYTES + pickle.BINBYTES + pickle.SHORT_BINUNICODE + pickle.BINUNICODE + pickle.EMPTY_LIST
    + pickle.APPEND + pickle.APPENDS + pickle.EMPTY_TUPLE + pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2
    + pickle.TUPLE3 + pickle.EMPTY_DICT + pickle.SETITEM + pickle.SETITEMS
)  # fmt: skip


class _Inert:
    """Base of the stand-ins: takes any arguments, keeps none, and refuses state, on an instance and on the class."""

    __slots__ = ()

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        raise TypeError(f"expected no state for {type(self).__name__[1:]}")


class _Dtype(_Inert):
    """Stands for numpy.dtype; accepts the codes of numbers, times and objects only."""

    __slots__ = ("name",)

    def __init__(self, code: str, *args: object) -> None:
        if not isinstance(code, str) or code not in _NUMBERS | {"M8", "O8"}:
            raise TypeError("expected a dtype of numbers, times or objects")
        self.name = code

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|"):
            raise TypeError("expected little-endian numbers")
        if self.name == "M8":
            [unit] = [word for code, word in _UNITS if code == state[-1][1][0]]
            self.name = f"M8[{unit}]"


class _Array(_Inert):
    """Stands for numpy.ndarray; holds bytes of a plain dtype, or a list of plain objects."""

    __slots__ = ("values",)
    values: NDArray[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, raw = state
        # a value of the file goes into a message only once its type is known: the text of nested tuples can be
        # exponentially long
        if type(shape) is not tuple or not 1 <= len(shape) <= 2 or any(type(n) is not int or n < 0 for n in shape):
            raise TypeError("expected an array of one or two dimensions")
        if not isinstance(dtype, _Dtype):
            raise TypeError("expected a dtype")
        values = _objects(raw) if dtype.name == "O8" else np.frombuffer(raw, f"<{dtype.name}")
        if math.prod(shape) != len(values):
            raise ValueError(f"expected {shape} values in an array, got {len(values)}")
        self.values = values.reshape(shape, order="F" if column_major else "C")


def _objects(raw: Any) -> NDArray[np.object_]:
    plain = (str, bool, int, float, type(None))
    if type(raw) is not list or any(type(value) not in plain for value in raw):
        raise TypeError("expected words and numbers in a column of objects")
    out = np.empty(len(raw), np.object_)
    out[:] = raw
    return out


class _Times(_Inert):
    """Stands for pandas' DatetimeArray, which wraps an array of times."""

    __slots__ = ("values",)
    values: NDArray[Any]

    def __setstate__(self, state: Any) -> None:
        [self.values] = [part.values for part in state if isinstance(part, _Array)]


class _Index(_Inert):
    """Stands for any index of pandas. Only the index of column names is read; a range of row numbers keeps nothing."""

    __slots__ = ("values",)

    def __init__(self, kind: object = None, state: Any = None) -> None:
        data = state.get("data") if isinstance(state, dict) else None
        self.values: NDArray[Any] | None = data.values if isinstance(data, _Array) else None


class _Block(_Inert):
    """Columns of one dtype: values [k, rows] and their k places among the columns."""

    __slots__ = ("places", "values")

    def __init__(self, values: Any, places: Any, *args: object) -> None:
        if not isinstance(values, _Array | _Times | _Index) or values.values is None:
            raise TypeError("expected a block of plain columns (numbers, times, words)")
        self.values: NDArray[Any] = np.atleast_2d(values.values)
        at = range(places.stop)[places] if isinstance(places, slice) else places.values
        if len(at) != len(self.values):  # checked before the list below is made, since a slice can have any length
            raise ValueError("expected a place for each column of a block")
        self.places = [int(place) for place in at]


class _BlockMaker(_Inert):
    """Stands for functools.partial, which pandas 1.3 puts around the maker of a block; refuses any other callable."""

    __slots__ = ()

    def __init__(self, *args: object) -> None:
        if args != (_Block,):
            raise TypeError("expected functools.partial around new_block only")

    def __setstate__(self, state: Any) -> None:
        self.__init__(state[0])  # type: ignore[misc]

    def __call__(self, values: Any, places: Any) -> _Block:
        return _Block(values, places)


class _Manager(_Inert):
    """Stands for BlockManager, which gets blocks and axes as arguments (pandas 1.3 and later) or as state (before)."""

    __slots__ = ("axes", "blocks")

    def __init__(self, blocks: Any = (), axes: Any = ()) -> None:
        self.blocks, self.axes = blocks, axes

    def __setstate__(self, state: Any) -> None:
        named = state[3]["0.14.1"]
        self.axes = named["axes"]
        self.blocks = [_Block(block["values"], block["mgr_locs"]) for block in named["blocks"]]


class _Frame(_Inert):
    """Stands for DataFrame; keeps its block manager."""

    __slots__ = ("manager",)

    def __setstate__(self, state: Any) -> None:
        self.manager = state.get("_mgr", state.get("_data"))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns by name, in the order of the blocks."""
        names = self.manager.axes[0].values.tolist()
        out: dict[str, NDArray[Any]] = {}
        for block in self.manager.blocks:
            for place, values in zip(block.places, block.values, strict=True):
                out[str(names[place])] = values
        if len({len(values) for values in out.values()}) != 1:
            raise ValueError("expected columns of one length")
        return out


# left: every name that a frame's pickle may contain; right: what stands for it (slice is the real one: it only holds)
ALLOWED: dict[tuple[str, str], type] = {
    ("builtins", "slice"): slice,
    ("functools", "partial"): _BlockMaker,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): _Times,
    ("pandas.core.arrays.datetimes", "DatetimeArray"): _Times,
    ("pandas._libs.internals", "_unpickle_block"): _Block,
    ("pandas.core.internals.blocks", "new_block"): _Block,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas.core.indexes.base", "Index"): _Index,
    ("pandas.core.indexes.numeric", "Int64Index"): _Index,
    ("pandas.core.indexes.range", "RangeIndex"): _Index,
    ("pandas.core.frame", "DataFrame"): _Frame,
}


class _Reader(pickle._Unpickler):
    """Python's unpickler. The one in C reserves 16 bytes for every memo number up to the highest that a file names."""

    dispatch = {code: run for code, run in pickle._Unpickler.dispatch.items() if code in _OPCODES}  # noqa: RUF012

    def __init__(self, path: Path, file: Any) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> type:
        found = ALLOWED.get((module, name))
        if found is None:
            fail(
                self.path,
                f"expected a pickled DataFrame, got one that calls {module}.{name}, which was not run",
                "do not trust that file; if it is yours, save it as Parquet with the program that wrote it",
            )
        return found


def read_frame(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of the frame by name, each of one dimension. Raises InvalidFile naming the file (and the global)."""
    try:
        if path.stat().st_size > MAX_BYTES:
            fail(path, f"expected at most {MAX_BYTES >> 20} MB", "split the frame, or save it as Parquet")
        with path.open("rb") as file:
            frame = _Reader(path, file).load()
        if not isinstance(frame, _Frame):
            raise TypeError("expected a DataFrame, got something else")
        return frame.columns()
    except InvalidFile:
        raise
    except Exception as error:  # a damaged pickle raises anything at all
        fail(path, f"{type(error).__name__}: {error}"[:200], "check that it is a DataFrame pickled by pandas 1 or 2")
