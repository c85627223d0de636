"""Transactions as columns: generators and file readers make such tables, training and replay read them.

Words (users, merchants, categories, ...) are factorised: an integer column plus the tuple of words it indexes, so
that a word is hashed and looked up in the schema once, and not in every row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.data.events import Transaction
from panther_core.data.merchant_events import RISK_NAMES, RISK_UNKNOWN
from panther_core.data.merchant_risk import Risk, risk_levels
from panther_core.data.schema import CODE, PROFILE_FIELDS, AttributeSchema, hash64, hour_of_week

_MIX, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)

EVENT = np.dtype(
    [
        ("transaction", "u8"),  # 64-bit hashes of the ids
        ("content", "u8"),  # hash of what was paid: `content_of`
        ("user", "u8"),
        ("merchant", "u8"),
        ("device", "u8"),  # 0 = not given
        ("country", "u8"),  # 0 = not given
        ("time_ms", "i8"),  # event time, epoch ms
        ("offset", "i8"),  # source offset in its partition; row number in files
        ("amount", "f8"),
        ("code", CODE),  # gap and flags are filled by the engine, from the user's state
        ("profile", "u1", PROFILE_FIELDS),  # all 0 = not given
        ("seller", "f4", len(RISK_NAMES)),  # what is known of the merchant as of the full hour (RISK_NAMES)
    ]
)

#: of a merchant of whom nothing is known
NO_MERCHANT = "unknown"  # in records of payments for which a log names no merchant
UNKNOWN_SELLER = np.array([*RISK_UNKNOWN.values()], np.float32)


@dataclass(frozen=True)
class Words:
    """A factorised column: `index` (int32, row -> word, -1 = not given) into `words`."""

    index: NDArray[np.int32]
    words: tuple[str, ...]

    def __getitem__(self, row: int) -> str | None:
        at = self.index[row]
        return None if at < 0 else self.words[at]

    def map(self, values: NDArray[Any], missing: Any = 0) -> NDArray[Any]:
        """`values` (one for each word) spread over the rows; `missing` where no word is given."""
        if not len(self.words):
            return np.full(len(self.index), missing, values.dtype)
        return np.where(self.index < 0, np.asarray(missing, values.dtype), values[self.index])


@dataclass(frozen=True)
class TransactionTable:
    """N transactions in time order. `label`: 1 fraud, 0 not, -1 unknown.

    `profile`: by the name of the fact, a list with a value (None: unknown) for each of `user.words`; or, in a table
    with a `profile_row`, for each profile that was ever given. `transaction_id`: ids, or their hashes where the reader
    keeps only these (trainer.log.reading).
    """

    transaction_id: NDArray[np.str_] | NDArray[np.uint64]
    user: Words
    merchant: Words
    category: Words
    channel: Words
    currency: Words
    amount: NDArray[np.float64]
    time_ms: NDArray[np.int64]
    label: NDArray[np.int8]
    country: Words | None = None
    device: Words | None = None
    fraud_kind: Words | None = None
    profile: dict[str, list[Any]] = field(default_factory=dict)
    profile_row: NDArray[np.int32] | None = None
    """Place [N] of each row's profile in the lists of `profile`; None: that of its user, for life."""
    received_ms: NDArray[np.int64] | None = None
    """Times [N] of the records that held the transactions; None for rows of a file."""
    seller: NDArray[np.float32] | None = None
    """What a stream's decisions knew of the merchants [N, S] (EVENT); None: it follows from the log itself."""
    told_ms: NDArray[np.int64] | None = None
    """Times [N] of the labels (nothing where there is none); None: each comes a label delay after its payment."""

    def __len__(self) -> int:
        return len(self.amount)

    def take(self, rows: NDArray[np.intp] | slice) -> TransactionTable:
        """A table of the given rows; it shares the word lists of this table."""

        def cut(column: Words | None) -> Words | None:
            return None if column is None else Words(column.index[rows], column.words)

        names = ("user", "merchant", "category", "channel", "currency", "country", "device", "fraud_kind")
        words: dict[str, Any] = {name: cut(getattr(self, name)) for name in names}
        arrays: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in ("transaction_id", "amount", "time_ms", "label")
        }
        for name in ("profile_row", "received_ms", "seller", "told_ms"):
            column = getattr(self, name)
            arrays[name] = None if column is None else column[rows]
        return replace(self, **words, **arrays)

    def labels_told_ms(self, label_delay_ms: int) -> NDArray[np.int64]:
        """When each row's label came [N], epoch ms; where the log does not say it, so long after its payment."""
        return self.time_ms + label_delay_ms if self.told_ms is None else self.told_ms

    def with_unknown_merchants(self) -> TransactionTable:
        """The table as a stream without `panther merchants` sees it."""
        return replace(self, seller=np.repeat(UNKNOWN_SELLER[None], len(self), axis=0))

    @property
    def profile_places(self) -> NDArray[np.int32]:
        """Place [N] of each row's profile in the lists of `profile`."""
        return self.user.index if self.profile_row is None else self.profile_row

    def rows(self) -> Iterator[Transaction]:
        """Each row as the record that a producer sends; every transaction carries the profile of its row."""
        facts = [[(name, value) for value in values] for name, values in self.profile.items()]
        profiles = [{name: value for name, value in known if value is not None} for known in zip(*facts, strict=True)]
        place = self.profile_places
        for i in range(len(self)):
            yield Transaction(
                transaction_id=str(self.transaction_id[i]),
                user_id=self.user.words[self.user.index[i]],
                merchant_id=self.merchant[i] or NO_MERCHANT,
                merchant_category=self.category[i] or "",
                amount=float(self.amount[i]),
                currency=self.currency[i] or "",
                channel=self.channel[i] or "",
                event_time=int(self.time_ms[i]),
                country=self.country[i] if self.country else None,
                device=self.device[i] if self.device else None,
                profile=profiles[place[i]] if profiles else None,
            )

    def merchant_hashes(self) -> NDArray[np.uint64]:
        """Hash [N] of each row's merchant, as in `EVENT`; 0 where none is given."""
        return self.merchant.map(hash_words(self.merchant.words))

    def transaction_hashes(self) -> NDArray[np.uint64]:
        """Hash [N] of each row's id, as in `EVENT`."""
        ids = self.transaction_id
        return ids.view(np.uint64) if ids.dtype == np.uint64 else hash_words(ids.tolist())

    def events(self, schema: AttributeSchema, risk: Risk, first_offset: int = 0) -> NDArray[np.void]:
        """EVENT array [N] for the engine; `risk` gives the counterparty risk codes."""
        return EventRows(self, schema, risk).of(slice(None), first_offset)


class EventRows:
    """EVENT rows of a table, made when they are asked for. Words are hashed and looked up once, not for each part."""

    def __init__(self, table: TransactionTable, schema: AttributeSchema, risk: Risk) -> None:
        self._table, self._schema, self._risk = table, schema, risk
        names = ("user", "merchant", "category", "channel", "currency", "device", "country")
        given: dict[str, Words | None] = {name: getattr(table, name) for name in names}
        self._hash = {name: hash_words(column.words) for name, column in given.items() if column is not None}
        self._category = schema.category_codes(table.category.words)
        self._channel = schema.channel_codes(table.channel.words)
        profiles = zip(*table.profile.values(), strict=True)
        facts = [dict(zip(table.profile, values, strict=True)) for values in profiles]
        self._profile = schema.profile_codes(facts) if table.profile else None

    def of(self, rows: NDArray[np.intp] | slice, first_offset: int = 0) -> NDArray[np.void]:
        """Those of rows [N], with offsets from `first_offset` on."""
        part = self._table.take(rows)

        def hashed(name: str) -> NDArray[np.uint64]:
            column: Words | None = getattr(part, name)
            return np.zeros(len(part), np.uint64) if column is None else column.map(self._hash[name])

        profile = np.zeros((len(part), PROFILE_FIELDS), np.uint8)
        if self._profile is not None:
            profile = self._profile[part.profile_places]
        return assemble(
            self._schema,
            self._risk[rows] if isinstance(self._risk, np.ndarray) else self._risk,
            words=mixed([hashed("category"), hashed("channel"), hashed("currency")]),
            transaction=part.transaction_hashes(),
            user=hashed("user"),
            merchant=hashed("merchant"),
            device=hashed("device"),
            country=hashed("country"),
            time_ms=part.time_ms,
            offset=np.arange(first_offset, first_offset + len(part)),
            amount=part.amount,
            category=part.category.map(self._category),
            channel=part.channel.map(self._channel),
            profile=profile,
        )


def hash_words(words: Iterable[str | None]) -> NDArray[np.uint64]:
    """64-bit hash of each word; 0 where none is given."""
    return np.array([hash64(word) if word else 0 for word in words], np.uint64)


def assemble(
    schema: AttributeSchema,
    risk: Risk,
    *,
    time_ms: NDArray[np.int64],
    amount: NDArray[np.float64],
    category: NDArray[np.uint16],
    channel: NDArray[np.uint8],
    words: NDArray[np.uint64],
    **columns: NDArray[Any],
) -> NDArray[np.void]:
    """EVENT array from columns. Online, in replay and in training, transactions get their codes here and nowhere else.

    `columns` are the remaining fields of EVENT; without `seller` nothing is known of any merchant. `words` [N]:
    `mixed` hashes of category, channel and currency as they were given. The engine fills in gap and flags.
    """
    out = np.zeros(len(amount), EVENT)
    out["seller"] = UNKNOWN_SELLER
    out["time_ms"], out["amount"] = time_ms, amount
    for name, column in columns.items():
        out[name] = column
    code = out["code"]
    code["amount"] = schema.amount_code(out["amount"])
    code["hour"] = hour_of_week(out["time_ms"])
    code["category"], code["channel"] = category, channel
    code["risk"] = risk_levels(risk, out["merchant"])
    out["content"] = _content_of(out, words)
    return out


def _content_of(events: NDArray[np.void], words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash [N] of what was paid, to whom, when and how: two records of one payment agree in it, 0 is never the hash.

    The profile is left out: it holds facts of the user, which may be newer in a record that is sent again.
    """
    others = (events["merchant"], events["device"], events["country"], words)
    return content_hash(events["amount"], events["time_ms"], *others)


def content_hash(
    amount: NDArray[np.float64], time_ms: NDArray[np.int64], *others: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Hash [N] of payments' amounts, times and `others`, hashes of what else they are told apart by; never 0."""
    paid = (amount + 0.0).view(np.uint64)  # + 0.0: -0.0 and 0.0 are one amount
    return mixed([paid, time_ms.view(np.uint64), *others]) | np.uint64(1)


def mixed(columns: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """One hash [N] of several columns of hashes; their order counts."""
    out: Any = np.uint64(0)
    for column in columns:
        out = (out ^ column) * _MIX
        out = out ^ (out >> _SHIFT)
    return np.asarray(out, np.uint64)


def factorise(values: Any) -> Words:
    """The factorised column of a sequence of strings (None or "" = not given), its words sorted."""
    array = np.asarray(["" if v is None else v for v in values], dtype=np.str_)
    words, index = np.unique(array, return_inverse=True)
    if len(words) and words[0] == "":
        return Words((index - 1).astype(np.int32), tuple(words[1:].tolist()))
    return Words(index.astype(np.int32), tuple(words.tolist()))
