"""Looks at an own file and proposes a mapping, with a reason for each line, and what only its owner can know."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.csv import parts_of
from panther_core.data.formats.known_sets import KnownSet, known_set
from panther_core.data.formats.reading import JSON_LINES, Dialect, fail, header_of, stream_columns

NOTHING = (None, "", "\\N", "NULL", "null")
_SAMPLE = 5000  # rows that are looked at
_WORDS = {  # what columns are called; the first that is there is taken
    "transaction_id": "transactionid txid transid trxid paymentid id reference ref uuid belegnummer transnum",
    "user_id": "userid user customerid customer custid cust clientid client accountid account kontonummer konto iban "
    "cardid card cardnumber ccnum payer sender nameorig from debtor wallet auftraggeber",
    "merchant_id": "merchantid merchant merchantname shopid shop store seller payee receiver recipient beneficiary "
    "creditor haendler handler empfaenger empfanger terminalid terminal vendor counterparty namedest to beguenstigter",
    "merchant_category": "merchantcategory category mcc mcccode kategorie type kind art",
    "amount": "amount amt transactionamount amounteur value eur usd gbp betrag umsatz summe total price "
    "montant importe sum",
    "currency": "currency ccy cur waehrung wahrung devise moneda",
    "channel": "channel entrymode entry method paymentmethod kanal zahlungsart",
    "country": "country land countrycode pays pais",
    "device": "device deviceid ip ipaddress geraet",
    "event_time": "eventtime timestamp datetime createdat created bookedat paidat ts time date when transactiondate "
    "transactiontime buchungstag datum bookingdate valuta step fecha",
    "label": "label isfraud fraud fraudlabel class target fraudulent betrug isfraudulent fraudflag",
}
_OF_ITS_OBJECT = ("id", "number", "nr", "name", "key")
_CLOCK = ["uhrzeit", "time", "hour", "zeit", "clock", "heure", "hora"]
_FRAUD = {"1", "true", "yes", "y", "t", "fraud", "ja"}
_HONEST = {"0", "false", "no", "n", "f", "legit", "ok", "nein", "legitimate", "genuine", "honest", "normal"}
UNKNOWN = {"unknown", "?", "na", "n/a", "none", "open", "-1"}
_FORMATS = tuple(
    f"{day}{clock}"
    for day in (
        "%d.%m.%Y",
        "%d.%m.%y",
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%d-%m-%Y",
        "%m-%d-%Y",
        "%Y/%m/%d",
        "%Y%m%d",
        "%m/%d/%y",
    )
    for clock in (" %H:%M:%S", " %H:%M", "T%H:%M:%S", " %I:%M:%S %p", " %I:%M %p", "")
)
_MAGNITUDES = (("s", 1e9), ("ms", 1e12), ("us", 1e15), ("ns", 1e18))


@dataclass
class Guess:
    """A proposal. `keys`: of the mapping, in its order; `reasons`: a line for each; `open`: what is not known, by key,
    as a question with the words that may answer it."""

    keys: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    open: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    known: KnownSet | None = None

    def say(self, key: str, value: Any, why: str) -> None:
        """Set a key, with the reason."""
        at = self.keys
        *path, last = key.split(".")
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
        self.reasons.append(f"{key} = {value!r}: {why}")

    @property
    def missing(self) -> list[str]:
        """Fields without which no log can be read, and for which no column was found."""
        columns = self.keys.get("columns", {})
        return [name for name in ("user_id", "merchant_id", "amount", "event_time") if name not in columns]


def guess(path: Path) -> Guess:
    """A proposal for a file, or a folder or pattern of parts. Raises InvalidFile for what cannot be opened."""
    out = Guess()
    if not (parts := parts_of(path)):
        fail(path, "expected a file, a folder of parts or a pattern, found nothing", "check the path")
    file = parts[0]
    dialect = _dialect(file, out)
    header = header_of(file, dialect)
    out.known = known_set(header)
    if out.known is not None:
        for key, value in out.known.mapping.items():
            out.say(key, value, f"the header is that of {out.known.name}")
        return out
    sample = _sample(file, header, dialect)
    for name in _WORDS:
        if found := _named(name, header, sample):
            out.say(f"columns.{name}", found, f"the column's name says so; its first value is {sample[found][0]!r}")
    columns = out.keys.get("columns", {})
    if "amount" in columns:
        _amounts(out, sample[columns["amount"]], columns["amount"])
    if "event_time" in columns:
        _times(out, header, sample, columns["event_time"])
    if "label" in columns:
        _labels(out, sample[columns["label"]], columns["label"])
    else:
        out.reasons.append("no column of labels was found: a model needs some to train on (docs/labels.md)")
    for name in out.missing:
        out.open[f"columns.{name}"] = (f"which column is the {name}?", tuple(header))
    return out


def _dialect(file: Path, out: Guess) -> Dialect:
    if {".parquet", *JSON_LINES} & {*file.suffixes}:
        return Dialect()
    encoding = "utf-8"
    start = _start_of(file)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        try:
            start[: start.rfind(b"\n") + 1].decode()
        except UnicodeDecodeError:
            encoding = "cp1252"
    if encoding != "utf-8":
        out.say("encoding", encoding, "the file is no UTF-8")
    line = start.decode(encoding, "replace").split("\n")[0]
    counts = {sign: line.count(sign) for sign in (",", ";", "\t", "|")}
    separator = max(counts, key=lambda sign: counts[sign])
    if separator != ",":
        out.say("separator", separator, f"the header has it {counts[separator]} times")
    return Dialect(separator, encoding=encoding)


def _start_of(file: Path) -> bytes:
    import pyarrow

    with pyarrow.input_stream(file) as raw:
        read: bytes = raw.read(1 << 18)
    return read


def _sample(file: Path, header: list[str], dialect: Dialect) -> dict[str, list[str]]:
    """Words of the first rows by column, without those that are not given; one empty word for a column without any."""
    for batch in stream_columns(file, header, dialect=dialect):
        rows = batch.slice(0, _SAMPLE).to_pydict()
        found = {name: [str(value) for value in values if value not in NOTHING] for name, values in rows.items()}
        return {name: words or [""] for name, words in found.items()}
    raise InvalidFile(f"{file}: expected rows, found only a header: check that the file is complete")


def _plain(name: str) -> str:
    folded = name.lower().replace("ä", "a").replace("ö", "o").replace("ü", "u").replace("ß", "ss")
    *around, last = (re.sub(r"[^a-z0-9]", "", part) for part in folded.split("."))
    return around[-1] if around and last in _OF_ITS_OBJECT else last  # the id of a card is a card's


def _named(field_name: str, header: list[str], sample: dict[str, list[str]]) -> str | None:
    plain = {_plain(name): name for name in reversed(header)}
    for word in _WORDS[field_name].split():
        if word in plain and _fits(field_name, sample[plain[word]]):
            return plain[word]
    return None


def _fits(field_name: str, words: list[str]) -> bool:
    if field_name == "amount":
        return all(re.fullmatch(r"[+-]?[\d.,' ]+([eE][+-]?\d+)?", word) for word in words)
    if field_name == "label":
        return len({word.lower() for word in words}) <= 6
    return True


def _amounts(out: Guess, words: list[str], column: str) -> None:
    comma = [word for word in words if re.search(r",\d{1,2}$|,\d{4,}$", word)]
    point = [word for word in words if re.search(r"\.\d{1,2}$|\.\d{4,}$", word)]
    signs = {sign for word in words for sign in re.findall(r"[.,' ]", word.strip())}
    if comma and not point:
        out.say("decimal", ",", f"amounts are like {comma[0]!r}")
        if others := sorted(signs - {","}):
            out.say("thousands", others[0], f"amounts are like {next(w for w in words if others[0] in w)!r}")
    elif point and signs - {"."}:
        sign = sorted(signs - {"."})[0]
        out.say("thousands", sign, f"amounts are like {next(w for w in words if sign in w)!r}")
    elif not comma and not point and signs & {".", ","}:
        shown = next(word for word in words if re.search(r"[.,]", word))
        out.open["decimal"] = (f"does {shown!r} in {column} have a decimal point or a decimal comma?", (".", ","))
    if negative := [word for word in words if word.strip().startswith("-")]:
        share = len(negative) / len(words)
        if share > 0.5:
            out.say("negative", "absolute", f"{share:.0%} of the amounts are negative: payments are, here")
        else:
            question = f"are negative amounts like {negative[0]} refunds to count with their size, or to leave out?"
            out.open["negative"] = (question, ("absolute", "skip"))


def _times(out: Guess, header: list[str], sample: dict[str, list[str]], column: str) -> None:
    words = sample[column]
    if _all_iso(words):
        if not any(re.search(r"(Z|[+-]\d\d(:?\d\d)?)$", word[10:]) for word in words):
            out.open["zone"] = (f"in which time zone are times like {words[0]!r}?", ("UTC", "Europe/Berlin", "..."))
        clock = [name for name in header if _plain(name) in _CLOCK and name != column]
        if clock and len(words[0]) == 10:
            out.say("columns.event_time", [column, clock[0]], "a day, and a time of day beside it")
        return
    if all(re.fullmatch(r"\d+(\.\d+)?([eE]\+?\d+)?", word) for word in words) and not _formats(words):
        largest = max(float(word) for word in words)
        for unit, size in _MAGNITUDES:
            if size <= largest < 5 * size:
                out.say("time", unit, f"numbers like {words[0]} are times since 1970 in {unit}")
                return
        out.open["time"] = (f"what does {words[0]!r} in {column} count?", ("s", "ms", "h", "d"))
        out.open["start"] = (f"which moment is 0 in {column}?", ("2024-01-01", "..."))
        return
    clock = [name for name in header if _plain(name) in _CLOCK and name != column]
    if clock and not any(":" in word for word in words):
        joined = [f"{day} {time}" for day, time in zip(words, sample[clock[0]], strict=False)]
        if _formats(joined):
            out.say("columns.event_time", [column, clock[0]], "a day, and a time of day beside it")
            words = joined
    fitting = _formats(words)
    if not fitting:
        out.open["time"] = (f"in which format are times like {words[0]!r}?", ("%d.%m.%Y %H:%M", "..."))
    elif len(fitting) > 1:
        out.open["time"] = (f"which format do times like {words[0]!r} have? each row fits them", tuple(fitting))
    else:
        out.say("time", fitting[0], f"every time is like {words[0]!r}")
    if fitting:
        out.open["zone"] = (f"in which time zone are times like {words[0]!r}?", ("UTC", "Europe/Berlin", "..."))


def _all_iso(words: list[str]) -> bool:
    short = (re.sub(r"(\.\d{6})\d+", r"\1", re.sub(r"([+-]\d\d)$", r"\1:00", w) if ":" in w else w) for w in words)
    return all(re.match(r"\d{4}-\d\d-\d\d", word) and _parses(word) for word in short)


def _parses(word: str) -> bool:
    try:
        datetime.fromisoformat(word)
    except ValueError:
        return False
    return True


def _formats(words: list[str]) -> list[str]:
    """The formats of _FORMATS that every word has."""
    left = list(_FORMATS)
    for word in dict.fromkeys(words):
        left = [each for each in left if _has(word, each)]
    return left


def _has(word: str, each: str) -> bool:
    try:
        datetime.strptime(word.strip(), each)
    except ValueError:
        return False
    return True


def _labels(out: Guess, words: list[str], column: str) -> None:
    counts = Counter(word.lower() for word in words if word)
    groups = {"fraud": _FRAUD, "honest": _HONEST, "unknown": UNKNOWN}
    found = {name: sorted(counts.keys() & group) for name, group in groups.items()}
    left = sorted(counts.keys() - _FRAUD - _HONEST - UNKNOWN)
    if left:
        out.open["fraud"] = (f"which of the labels {', '.join(sorted(counts))} means fraud?", tuple(sorted(counts)))
        return
    for name, its in found.items():
        if set(its) - {"fraud": {"1", "true", "yes"}, "honest": {"0", "false", "no"}}.get(name, set()):
            out.say(name, its, f"words of the column: {', '.join(f'{w} ({counts[w]})' for w in counts)}")
    if found["fraud"] and not found["honest"]:
        question = f"{column} marks frauds alone: is every other payment honest, once its fraud would be known?"
        out.open["others"] = (question, ("honest", "unknown"))
        return
    frauds = sum(counts[word] for word in found["fraud"])
    if len(words) and frauds > 0.5 * len(words):
        out.open["fraud"] = (
            f"{frauds:,} of the first {len(words):,} labels say fraud: which word means fraud?",
            tuple(sorted(counts)),
        )
