"""The attribute schema: how a transaction becomes eight bytes (CODE), and how the schema is fitted.

The `AttributeSchema` (bucket edges, category and channel lists) gives the codes kept in every user's state, so the
schema is fixed for the life of that state. The vocabulary (panther_core.data.vocabulary) belongs to a model version: a
new vocabulary needs no rebuilt states.

CODE layout, 8 bytes, little endian, also readable as one uint64:
    amount u1    1 + index of the amount bucket
    channel u1   1 + index in `channels`, 0 unknown
    category u2  1 + index in `categories`, 0 unknown
    risk u1      counterparty risk level, 0 unknown
    gap u1       1 + index of the time-gap bucket, 0 first event
    hour u1      hour of week, UTC, Monday 00:00 is 0, 0..167
    flags u1     bit 0 merchant not among the recent ones, bit 1 country changed, bit 2 device changed
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS, HOUR_MS

CODE = np.dtype(
    [
        ("amount", "u1"),
        ("channel", "u1"),
        ("category", "<u2"),
        ("risk", "u1"),
        ("gap", "u1"),
        ("hour", "u1"),
        ("flags", "u1"),
    ]
)
PROFILE_FIELDS = 8  # bytes of profile codes in the state
NEW_MERCHANT, NEW_COUNTRY, NEW_DEVICE = 1, 2, 4
WEEK_MS = 7 * DAY_MS
Scale = Literal["quantile", "log"]
SCALES: tuple[Scale, ...] = ("quantile", "log")
_TAILS = (0.001, 0.999)  # log buckets lie between these quantiles, so that one absurd amount does not widen them all
_MONDAY_MS = 4 * DAY_MS  # 1970-01-05 was a Monday


def hash64(text: str) -> int:
    """64-bit hash of an identifier; states and columns hold it in place of the identifier."""
    return xxhash.xxh3_64_intdigest(text.encode())


def hour_of_week(time_ms: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Hour of week in UTC, 0..167."""
    return (((time_ms - _MONDAY_MS) % WEEK_MS) // HOUR_MS).astype(np.uint8)


class ProfileField(msgspec.Struct, frozen=True):
    """A static user attribute: a word out of `values`, or a number bucketed by `edges`. Code 0 is unknown."""

    name: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Number of codes, unknown included."""
        return 1 + (len(self.values) or len(self.edges) + 1)

    def code(self, value: str | float | int | None) -> int:
        """Code of one value. An unexpected value is unknown (0) and no error, because a profile is optional."""
        if value is None or value == "":
            return 0
        if self.values:
            return _word_places(self.values).get(str(value), 0)
        try:
            number = float(value)
        except (ValueError, OverflowError):  # a word, or an integer beyond any float
            return 0
        return 0 if math.isnan(number) else 1 + bisect.bisect_right(self.edges, number)


class AttributeSchema(msgspec.Struct, frozen=True):
    """Bucket edges and word lists. Amounts are in the log's own currency unit, gaps in milliseconds."""

    amount_edges: tuple[float, ...]
    categories: tuple[str, ...]
    channels: tuple[str, ...]
    gap_edges_ms: tuple[int, ...] = tuple(
        int(s * 1000) for s in (10, 60, 300, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 345600, 604800, 1209600)
    )
    risk_levels: int = 4
    profile: tuple[ProfileField, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of codes of each attribute in CODE order, unknown included."""
        return {
            "amount": len(self.amount_edges) + 2,
            "channel": len(self.channels) + 1,
            "category": len(self.categories) + 1,
            "risk": self.risk_levels + 1,
            "gap": len(self.gap_edges_ms) + 2,
            "hour": 168,
            "flags": 8,
        }

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the canonical JSON; states and artifacts with another fingerprint do not fit this schema."""
        stored = msgspec.json.decode(msgspec.json.encode(self), type=AttributeSchema)  # an edge of 1 is stored as 1.0
        return hashlib.sha256(msgspec.json.encode(stored, order="sorted")).hexdigest()

    def problem(self) -> str | None:
        """What is wrong with a schema from elsewhere ("expected ..." without that word): a code that does not fit into
        its place in CODE, or edges out of order. None where nothing is."""
        sizes, room = self.sizes, {name: 1 << (8 * CODE[name].itemsize) for name in CODE.names or ()}
        if self.risk_levels < 1 or any(sizes[name] > room[name] for name in sizes):
            return f"at most {room} codes and at least one risk level, got {sizes}"
        if len(self.profile) > PROFILE_FIELDS or any(field.size > 256 for field in self.profile):
            return f"at most {PROFILE_FIELDS} profile facts of at most 256 codes, got others"
        for edges in (self.amount_edges, self.gap_edges_ms, *(field.edges for field in self.profile)):
            if any(abs(edge) > 2**53 for edge in edges) or any(low >= high for low, high in pairwise(edges)):
                return "ascending edges within 2^53, got others"
        return None

    def amount_code(self, amount: NDArray[np.float64]) -> NDArray[np.uint8]:
        """1 + bucket of each amount; a bucket includes its lower edge."""
        return (1 + np.searchsorted(self.amount_edges, amount, side="right")).astype(np.uint8)

    def gap_code(self, gap_ms: NDArray[np.int64]) -> NDArray[np.uint8]:
        """1 + bucket of each time gap."""
        return (1 + np.searchsorted(self.gap_edges_ms, gap_ms, side="right")).astype(np.uint8)

    def category_codes(self, words: Iterable[str]) -> NDArray[np.uint16]:
        """Code of each category word, 0 for a word that the data of the fit did not have."""
        place = self._places["category"]
        return np.array([place.get(word, 0) for word in words], np.uint16)

    def channel_codes(self, words: Iterable[str]) -> NDArray[np.uint8]:
        """Code of each channel word, 0 for an unknown one."""
        place = self._places["channel"]
        return np.array([place.get(word, 0) for word in words], np.uint8)

    @property
    def _places(self) -> dict[str, dict[str, int]]:
        return _places(self.categories, self.channels)

    def profile_codes(self, profiles: Sequence[Mapping[str, str | float | int | None] | None]) -> NDArray[np.uint8]:
        """Codes [B, PROFILE_FIELDS] of users' profiles; unused places are 0."""
        out = np.zeros((len(profiles), PROFILE_FIELDS), np.uint8)
        known = [profile or {} for profile in profiles]
        for i, (name, code) in enumerate(_profile_coders(self.profile)):
            out[:, i] = [code(profile.get(name)) for profile in known]
        return out


@cache
def _places(categories: tuple[str, ...], channels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    return {"category": _word_places(categories), "channel": _word_places(channels)}


@cache
def _profile_coders(fields: tuple[ProfileField, ...]) -> list[tuple[str, Callable[[str | float | int | None], int]]]:
    """Name and `code` of each field. The values of users who come again are remembered: 1, 1.0 and "1" apart."""
    return [(field.name, lru_cache(1 << 14, typed=True)(field.code)) for field in fields]


@cache
def _word_places(words: tuple[str, ...]) -> dict[str, int]:
    return {word: i for i, word in reversed(list(enumerate(words, 1)))}  # of equal words the first gives the code


def bucket_edges(values: NDArray[np.float64], buckets: int, scale: Scale = "quantile") -> tuple[float, ...]:
    """At most buckets - 1 ascending inner edges, six digits each.

    "quantile": buckets of equal counts; fewer where values repeat. "log": buckets of equal ratio between the outer
    thousandths of the positive values; what is outside falls into the first and the last bucket.
    """
    if scale == "quantile":
        edges = np.quantile(values, np.linspace(0, 1, buckets + 1)[1:-1])
    else:
        positive = values[values > 0]
        low, high = np.quantile(positive, _TAILS) if len(positive) else (1.0, 1.0)
        edges = np.geomspace(low, high, buckets - 1)
    return tuple(sorted({float(f"{edge:.6g}") for edge in edges}))


def fit_schema(
    amounts: NDArray[np.float64],
    categories: Sequence[str],
    channels: Sequence[str],
    profile: tuple[ProfileField, ...] = (),
    amount_buckets: int = 20,
    amount_scale: Scale = "quantile",
) -> AttributeSchema:
    """Fit on a training window: `amount_buckets` buckets (<= 253), words sorted (order is part of the code).

    `categories` and `channels` are the distinct words seen; words that come later are unknown (code 0). Raises
    BadInput when there are more words than a code has room for.
    """
    if not len(amounts):
        raise ValueError("expected at least one amount to fit the schema on, got none")
    for name, words, room in (("category", categories, 65_535), ("channel", channels, 255)):
        if len(set(words)) > room:
            raise BadInput(f"expected at most {room} words of {name}, got {len(set(words))}: join the rare ones")
    return AttributeSchema(
        amount_edges=bucket_edges(amounts, amount_buckets, amount_scale),
        categories=tuple(sorted(set(categories) - {""})),
        channels=tuple(sorted(set(channels) - {""})),
        profile=profile,
    )
