"""Report on a tokenizer, for people: its tokens, the share of events that they cover, and the values lost to [UNK].

tokenizer.json         names of the tokens in the order of their ids, and the buckets and words that make them up
tokenizer_report.json  TokenReport

Both files lie in a model artifact, under its checksums, and name the tokenizer's version. Training and serving do not
read them: they use schema.json and vocabulary.json.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.base.files import written_whole
from panther_core.data.schema import AttributeSchema
from panther_core.data.vocabulary import ATTRIBUTES, Combinations, Vocabulary

TOKENIZER, REPORT = "tokenizer.json", "tokenizer_report.json"
FORMAT_VERSION = 1
_SHARES = (0.5, 0.8, 0.9, 0.95, 0.96, 0.99, 1.0)
_WORST = 5


class ValueLoss(msgspec.Struct, frozen=True):
    """A value of an attribute and the events with it that have no token."""

    value: str
    events: int
    unknown: int
    share: float
    """unknown / events."""


class AttributeUse(msgspec.Struct, frozen=True):
    """One attribute: the number of its codes, and the share of events with code 0 (not given, or never fitted)."""

    codes: int
    not_given: float
    falls_out: list[ValueLoss]
    """The values that lose most events to [UNK]."""


class Coverage(msgspec.Struct, frozen=True):
    """Coverage of some events: their number, the share that has a token, and the share that is [UNK]."""

    events: int
    covered: float
    unknown: float


class TokenReport(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are of the events that the tokenizer was fitted on; those of `later` are of the events after them."""

    format_version: int = FORMAT_VERSION
    tokenizer_version: str
    schema_fingerprint: str
    vocabulary: int
    """Tokens, [UNK] included."""
    combinations: int
    """Different combinations that occur."""
    product: int
    """Combinations that the codes allow."""
    fitted: Coverage
    later: Coverage | None
    tokens_needed: dict[str, int]
    """By share of the events: the number of tokens that covers it."""
    attributes: dict[str, AttributeUse]


def tokenizer_version(vocabulary: Vocabulary) -> str:
    """Names a vocabulary: the first 12 hex digits of its sha256."""
    return hashlib.sha256(msgspec.json.encode(vocabulary)).hexdigest()[:12]


def report(
    schema: AttributeSchema, vocabulary: Vocabulary, fitted: Combinations, later: Combinations | None = None
) -> TokenReport:
    """Measure a tokenizer on the combinations in the events that it was fitted on, and in later events where given."""
    names = value_names(schema)
    lost = ~_known(vocabulary, fitted)
    return TokenReport(
        tokenizer_version=tokenizer_version(vocabulary),
        schema_fingerprint=schema.fingerprint,
        vocabulary=vocabulary.size,
        combinations=len(fitted.numbers),
        product=math.prod(fitted.radix),
        fitted=_coverage(vocabulary, fitted),
        later=_coverage(vocabulary, later) if later is not None and later.events else None,
        tokens_needed={f"{share:g}": fitted.needed(share) for share in _SHARES},
        attributes={name: _use(fitted, lost, name, names[name]) for name in ATTRIBUTES},
    )


def _known(vocabulary: Vocabulary, found: Combinations) -> NDArray[np.bool_]:
    return np.isin(found.numbers, np.asarray(vocabulary.keys, np.int64))


def _coverage(vocabulary: Vocabulary, found: Combinations) -> Coverage:
    known = int(found.counts[_known(vocabulary, found)].sum())
    total = max(1, found.events)
    return Coverage(found.events, round(known / total, 6), round(1 - known / total, 6))


def _use(found: Combinations, lost: NDArray[np.bool_], name: str, names: list[str]) -> AttributeUse:
    code = found.attribute(name)
    events = np.bincount(code, weights=found.counts, minlength=len(names)).astype(np.int64)
    unknown = np.bincount(code[lost], weights=found.counts[lost], minlength=len(names)).astype(np.int64)
    worst = [at for at in np.argsort(-unknown, kind="stable")[:_WORST].tolist() if unknown[at]]
    losses = [
        ValueLoss(names[at], int(events[at]), int(unknown[at]), round(int(unknown[at]) / int(events[at]), 6))
        for at in worst
    ]
    return AttributeUse(len(names), round(int(events[0]) / max(1, found.events), 6), losses)


def value_names(schema: AttributeSchema) -> dict[str, list[str]]:
    """A name for each code of each attribute; code 0 is "?"."""
    edges = [f"{edge:g}" for edge in schema.amount_edges]
    amounts = [f"{low or '0'}-{high or ''}" for low, high in zip(["", *edges], [*edges, ""], strict=True)]
    risks = [f"risk {level}" for level in range(1, schema.risk_levels + 1)]
    values = {"amount": amounts, "channel": schema.channels, "category": schema.categories, "risk": risks}
    return {name: ["?", *words] for name, words in values.items()}


def token_names(schema: AttributeSchema, vocabulary: Vocabulary) -> list[str]:
    """A name for each token, in the order of ids: `25-40 | chip | groceries | risk 1`."""
    names, codes = value_names(schema), vocabulary.codes()
    columns = [[names[name][code] for code in codes[name][1:].tolist()] for name in ATTRIBUTES]
    return ["[UNK]", *(" | ".join(parts) for parts in zip(*columns, strict=True))]


def write(folder: Path, schema: AttributeSchema, vocabulary: Vocabulary, found: TokenReport) -> None:
    """Write tokenizer.json and tokenizer_report.json into `folder`, indented."""
    tokenizer: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "tokenizer_version": found.tokenizer_version,
        "schema_fingerprint": found.schema_fingerprint,
        "values": {**value_names(schema), "gap_edges_ms": list(schema.gap_edges_ms)},
        "profile": schema.profile,
        "tokens": token_names(schema, vocabulary),
    }
    for name, content in ((TOKENIZER, tokenizer), (REPORT, found)):
        with written_whole(folder / name) as part:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def lines(found: TokenReport) -> list[str]:
    """The report in a few lines of text."""
    fitted, later = found.fitted, found.later
    out = [
        f"{found.vocabulary - 1:,} tokens and [UNK] (version {found.tokenizer_version}) "
        f"out of {found.combinations:,} combinations that occur, {found.product:,} possible",
        f"fitted on {fitted.events:,} events: {fitted.covered:.2%} covered, {fitted.unknown:.2%} [UNK]",
    ]
    if later is not None:
        out.append(f"then {later.events:,} later ones: {later.covered:.2%} covered, {later.unknown:.2%} [UNK]")
    out.append("tokens for " + ", ".join(f"{float(s):.0%}: {n:,}" for s, n in found.tokens_needed.items()))
    for name, use in found.attributes.items():
        worst = ", ".join(f"{loss.value} ({loss.unknown:,} of {loss.events:,})" for loss in use.falls_out)
        out.append(f"{name}: {use.codes} codes, {use.not_given:.2%} not given; falls out: {worst or 'nothing'}")
    return out
