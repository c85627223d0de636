"""Yelp open dataset: `yelp_academic_dataset_review.json` and `yelp_academic_dataset_business.json`, JSON lines.

The event is a review; no money is paid. The columns follow PANTHER's token for this set (city, category, stars and
review count of the business):
- user is `user_id`, merchant `business_id`, time `date`, taken for UTC, and the id `review_id`;
- category is the business's city and category in one word (`Tucson|Restaurants`): of several categories the one that
  most businesses have (ties by name), since the order in which Yelp lists them means nothing;
- channel is the stars of the business (`3.5 stars`), amount its number of reviews.
Stars and review count of a business are those of the day Yelp made the file, so they contain a little of what came
after the review. This set is therefore for comparing next-event models as the paper does, not for claims about
foresight. The review's own stars and text are not read. No labels, currency, country, device, profile.

The 7 million reviews (5 GB) are in no order of time: they are read line by line and sorted through temporary files
(56 bytes a review). Memory holds the ids of users and businesses, one part, then one month.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.data.events import MAX_TIME_MS, MIN_TIME_MS
from panther_core.data.formats.columns import none_given
from panther_core.data.formats.period import Period
from panther_core.data.formats.reading import fail, locate
from panther_core.data.formats.shared_words import named
from panther_core.data.formats.spool import by_time, regroup
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable, Words

PROFILE: tuple[ProfileField, ...] = ()
_RECORD = np.dtype([("time_ms", "i8"), ("id", "S32"), ("user", "i4"), ("business", "i4"), ("spare", "V8")])
_PART_LINES = 100_000
T = TypeVar("T")


class Review(msgspec.Struct, frozen=True):
    """The fields of a review that are used."""

    review_id: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,32}$")]  # 22 in Yelp's files, ASCII
    user_id: Annotated[str, msgspec.Meta(min_length=1)]
    business_id: str
    date: Annotated[str, msgspec.Meta(min_length=10)]


class Business(msgspec.Struct, frozen=True):
    """The fields of a business that are used; `categories` are separated by commas."""

    business_id: str
    city: str
    stars: Annotated[float, msgspec.Meta(ge=0, le=5)]
    review_count: Annotated[int, msgspec.Meta(ge=0)]
    categories: str | None = None


@dataclass(frozen=True)
class _Businesses:
    """Businesses by number, and the facts of each that become part of a token."""

    number: dict[str, int]
    category: NDArray[np.int32]
    categories: tuple[str, ...]
    stars: NDArray[np.int32]
    reviews: NDArray[np.float64]


def tables(path: Path, period: Period, batch_rows: int) -> Iterator[TransactionTable]:
    """See panther_core.data.formats.read."""
    file = locate(path, ("yelp_academic_dataset_review.json",))
    businesses = _businesses(locate(file.parent, ("yelp_academic_dataset_business.json",)))
    numbers: dict[str, int] = {}
    users: list[str] = []
    shops = list(businesses.number)
    for records in regroup(by_time(_parse(file, period, businesses.number, numbers)), batch_rows):
        users = users or list(numbers)  # `by_time` has read all reviews before it gives the first records
        yield _table(records, businesses, users, shops)


def _lines(file: Path, kind: type[T]) -> Iterator[tuple[int, T]]:
    """Row number (from 1) and content of each line. Raises InvalidFile."""
    decode = msgspec.json.Decoder(kind).decode
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for row, line in enumerate(lines, 1):
                try:
                    yield row, decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    _blame(file, row, str(error))
    except (EOFError, OSError) as error:
        fail(file, str(error), "check that the file is readable and complete")


def _blame(file: Path, row: int, problem: str) -> NoReturn:
    column = re.search(r"\$\.(\w+)`|field `(\w+)`", problem)
    name = (column[1] or column[2]) if column else None
    fail(file, problem, "expected one JSON object a line, as Yelp publishes it: correct or remove that line", row, name)


def _businesses(file: Path) -> _Businesses:
    found = [business for _, business in _lines(file, Business)]
    if not found:
        fail(file, "expected businesses, found no line", "check that the file is complete")
    kinds = [[word.strip() for word in (business.categories or "").split(",")] for business in found]
    common = Counter(word for words in kinds for word in set(words))
    best = [min(words, key=lambda word: (-common[word], word)) for words in kinds]
    words, category = np.unique(
        [f"{b.city.strip()}|{k}" for b, k in zip(found, best, strict=True)], return_inverse=True
    )
    return _Businesses(
        number={business.business_id: i for i, business in enumerate(found)},
        category=category.astype(np.int32),
        categories=tuple(words.tolist()),
        stars=np.array([round(2 * business.stars) for business in found], np.int32),
        reviews=np.array([business.review_count for business in found], np.float64),
    )


def _parse(file: Path, period: Period, shops: dict[str, int], users: dict[str, int]) -> Iterator[NDArray[np.void]]:
    lines = _lines(file, Review)
    while part := list(islice(lines, _PART_LINES)):
        out = np.zeros(len(part), _RECORD)
        out["time_ms"] = _times(file, part)
        out["business"] = [shops.get(review.business_id, -1) for _, review in part]
        if (out["business"] < 0).any():
            row, review = part[int(np.argmax(out["business"] < 0))]
            problem = f"expected a business of the other file, got {review.business_id[:40]!r}"
            fail(file, problem, "use both files of one release", row, "business_id")
        out["user"] = [users.setdefault(review.user_id, len(users)) for _, review in part]
        out["id"] = [review.review_id for _, review in part]
        yield out[period.rows(out["time_ms"])]


def _times(file: Path, part: list[tuple[int, Review]]) -> NDArray[np.int64]:
    def ms(dates: list[str]) -> NDArray[np.int64]:
        out: NDArray[np.int64] = np.array(dates, "M8[ms]").astype(np.int64)
        if not ((out >= MIN_TIME_MS) & (out <= MAX_TIME_MS)).all():
            raise ValueError
        return out

    try:
        return ms([review.date for _, review in part])
    except ValueError:
        for row, review in part:
            try:
                ms([review.date])
            except ValueError:
                problem = f"expected a date like 2018-07-07 22:09:11, got {review.date[:40]!r}"
                fail(file, problem, "correct or remove that line", row, "date")
        raise


def _table(records: NDArray[np.void], businesses: _Businesses, users: list[str], shops: list[str]) -> TransactionTable:
    shop, rows = records["business"], len(records)
    return TransactionTable(
        transaction_id=records["id"].astype(np.str_),
        user=named(records["user"], users),
        merchant=named(shop, shops),
        category=named(businesses.category[shop], businesses.categories),
        channel=Words(businesses.stars[shop], tuple(f"{half / 2:g} stars" for half in range(11))),
        currency=none_given(rows),
        amount=businesses.reviews[shop],
        time_ms=records["time_ms"].copy(),
        label=np.full(rows, -1, np.int8),
    )
