"""A user's state: one record of fixed size, so that a batch of states read from RocksDB is one array.

Layout (little endian, packed; offsets by `state_dtype(...).fields`). L and K are part of the layout; the
header names layout version and schema fingerprint, so that foreign bytes are refused, never misread.
States of an older layout (panther_core.state.layouts) are migrated when they are read, and written in this one.

    version        u2      LAYOUT_VERSION
    model_version  u4      model version `cached` came from, 0 = none (the next event re-encodes first)
    schema         u8      first 8 bytes of the attribute schema's sha256
    n              i8      events applied
    cached_n       i8      events that `cached` has seen; less than n when the encoder was down
    first_time_ms  i8      event time of the first event
    last_time_ms   i8      latest event time
    last_offset    i8      source offset (`at_source`) of the last applied event, -1 = none
    window_hash    u8      hash of the events in the context window (guards the server's cache)
    amount_mean    f8      exponentially weighted mean of log1p(amount)
    amount_var     f8      and its variance
    counts, sums   f8[4]   events and amounts, decayed with HALF_LIVES_MS, as of last_time_ms
    usual          f8[2]   sum and number of the amounts that make up the usual amount (panther_core.state.spending)
    odd_time_ms    i8      time of the newest unusual amount, 0 = none
    odd_ratio      f4      and how many times the usual amount it was
    day            i4      newest day that `days` has a place for
    days           u2[4,D] sums by day, day d at d mod D (panther_core.state.spending)
    merchants      u8[16]  hashes of the last merchants, ring
    country,device u8      last given, 0 = none
    profile        u1[8]   last given profile codes
    ring           CODE[L] the last L events; event i stands at i mod L
    cached         f4[K]   model outputs after the last event (opaque here: panther_core.model names the parts)
    expected       CODE[3] the behaviours the model held likeliest after the last event
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import FingerprintMismatch
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.decision import EXPECTED
from panther_core.data.schema import CODE, PROFILE_FIELDS, AttributeSchema
from panther_core.state.layouts import OLDER, migrate

LAYOUT_VERSION = 4
#: key of a partition's mark among its users' states, in the store and on the changelog; no id has a control character
MARK = b"\0source"
MERCHANTS = 16
DAYS = 32
HALF_LIVES_MS = np.array([HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS], np.float64)

_OFFSET_BITS = 48
_N, _LAST_OFFSET = slice(14, 22), slice(46, 54)  # bytes of `n` and `last_offset`, in every layout


@cache
def state_dtype(length: int, cached: int) -> np.dtype[np.void]:
    """Record layout for a context of `length` events (L) and `cached` floats of model outputs (K)."""
    return np.dtype(
        [
            ("version", "<u2"),
            ("model_version", "<u4"),
            ("schema", "<u8"),
            ("n", "<i8"),
            ("cached_n", "<i8"),
            ("first_time_ms", "<i8"),
            ("last_time_ms", "<i8"),
            ("last_offset", "<i8"),
            ("window_hash", "<u8"),
            ("amount_mean", "<f8"),
            ("amount_var", "<f8"),
            ("counts", "<f8", 4),
            ("sums", "<f8", 4),
            ("usual", "<f8", 2),
            ("odd_time_ms", "<i8"),
            ("odd_ratio", "<f4"),
            ("day", "<i4"),
            ("days", "<u2", (4, DAYS)),
            ("merchants", "<u8", MERCHANTS),
            ("country", "<u8"),
            ("device", "<u8"),
            ("profile", "u1", PROFILE_FIELDS),
            ("ring", CODE, length),
            ("cached", "<f4", cached),
            ("expected", CODE, EXPECTED),
        ]
    )


def take_rows(records: NDArray[np.void], at: NDArray[np.intp]) -> NDArray[np.void]:
    """Copy of the records at `at`, or the records themselves if `at` is all of them in their order.

    The copy is made as bytes: numpy copies records field by field, which takes ten times as long.
    """
    if _all_of(records, at):
        return records
    taken: NDArray[np.void] = _bytes_of(records)[at].reshape(-1).view(records.dtype)
    return taken


def put_rows(records: NDArray[np.void], at: NDArray[np.intp], rows: NDArray[np.void]) -> None:
    """Write back records that `take_rows` gave, after they were changed."""
    if rows is not records:
        _bytes_of(records)[at] = _bytes_of(rows)


def _all_of(records: NDArray[np.void], at: NDArray[np.intp]) -> bool:
    return len(at) == len(records) and bool((at == np.arange(len(at))).all())


def _bytes_of(records: NDArray[np.void]) -> NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)


def at_source(epoch: int, offset: int) -> int:
    """The `offset` of an event: its offset in its partition, above it how often the topic had been made anew.

    So an offset of a topic that was made anew, whose own offsets begin at 0, is never one that a state has seen.
    """
    return epoch << _OFFSET_BITS | offset


def epoch_and_offset(offset: Any) -> tuple[Any, Any]:
    """The two parts of `at_source`, of a number or of an array."""
    return offset >> _OFFSET_BITS, offset & ((1 << _OFFSET_BITS) - 1)


def mark_of(offset: int, value_hash: bytes) -> bytes:
    """What is kept under MARK: `at_source` of the newest applied record, and the hash (8 bytes) of the record's value.

    The offset stands where a state counts its events, so that a restore keeps the newest mark as it keeps states.
    """
    return value_hash.ljust(_N.start, b"\0") + offset.to_bytes(8, "little")


def read_mark(value: bytes) -> tuple[int, bytes]:
    """The two arguments of `mark_of`."""
    return events_applied(value), value[:8]


def last_offset(value: bytes) -> int:
    """`last_offset` of a stored state; -1 for a value that is no state."""
    return int.from_bytes(value[_LAST_OFFSET], "little", signed=True) if len(value) > _LAST_OFFSET.stop else -1


def events_applied(value: bytes) -> int:
    """`n` of a stored state: how many events it has seen."""
    return int.from_bytes(value[_N], "little", signed=True)


class StateCodec:
    """Bytes of RocksDB and the changelog to state arrays and back, for one layout and one schema."""

    def __init__(self, schema: AttributeSchema, length: int, cached: int) -> None:
        self.dtype = state_dtype(length, cached)
        self.length = length
        self._older = {version: layout(length, cached) for version, layout in OLDER.items()}
        #: what a state's bytes may count, in this layout or an older one
        self.sizes = frozenset({self.dtype.itemsize, *(dtype.itemsize for dtype in self._older.values())})
        self.schema_id = int(schema.fingerprint[:16], 16)

    def fresh(self, count: int) -> NDArray[np.void]:
        """States of users never seen."""
        states = np.zeros(count, self.dtype)
        states["version"] = LAYOUT_VERSION
        states["schema"] = self.schema_id
        states["last_offset"] = -1
        return states

    def decode(self, values: list[bytes | None]) -> NDArray[np.void]:
        """States of a batch; None (nothing stored) gives a fresh state, a state of an older layout is migrated.

        Raises FingerprintMismatch for bytes of another schema or model shape, or of a layout that is not known.
        """
        if not values:
            return self.fresh(0)
        empty = self.fresh(1).tobytes()
        size = self.dtype.itemsize
        if any(v is not None and len(v) != size for v in values):
            values = [v if v is None or len(v) == size else self._migrated(v) for v in values]
        # joined into a bytearray, since states are changed in place; one copy in all
        joined = bytearray().join([empty if v is None else v for v in values])
        states = np.frombuffer(joined, self.dtype)
        newest = int(states["version"].max())
        if newest > LAYOUT_VERSION:
            raise _of_a_newer_release(newest)
        if (states["version"] != LAYOUT_VERSION).any() or (states["schema"] != self.schema_id).any():
            raise FingerprintMismatch(
                f"expected layout {LAYOUT_VERSION} and schema {self.schema_id:016x}, got layouts "
                f"{sorted(set(states['version'].tolist()))} and schemas "
                f"{sorted({f'{s:016x}' for s in states['schema'].tolist()})}: start the worker with the schema the "
                "state was built with, or under a new application id (PANTHER_APP_ID)"
            )
        return states

    def _migrated(self, value: bytes) -> bytes:
        """The bytes of a state of an older layout, migrated to the current layout."""
        version = int.from_bytes(value[:2], "little")
        older = self._older.get(version)
        if older is not None and len(value) == older.itemsize:
            return migrate(np.frombuffer(value, older), self.fresh(1)).tobytes()
        if version > LAYOUT_VERSION:
            raise _of_a_newer_release(version)
        raise FingerprintMismatch(
            f"expected states of {self.dtype.itemsize} bytes (layout {LAYOUT_VERSION}, L = {self.length}), got "
            f"{len(value)} (layout {version}): this state folder or changelog was written for another model shape; "
            "use a new application id (PANTHER_APP_ID) or reset the application's state"
        )

    def encode(self, states: NDArray[np.void]) -> list[bytes]:
        """One value of `itemsize` bytes a state."""
        data, size = states.tobytes(), self.dtype.itemsize
        return [data[i : i + size] for i in range(0, len(data), size)]


def _of_a_newer_release(version: int) -> FingerprintMismatch:
    return FingerprintMismatch(
        f"expected states of layout {LAYOUT_VERSION} or older, got layout {version}: a newer release wrote them; "
        "start that release again, or this one under a new application id (PANTHER_APP_ID)"
    )
