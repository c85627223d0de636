"""The report of a tokenizer says what is true, by name."""

import json
from pathlib import Path

import msgspec
import numpy as np

from panther_core.data.schema import CODE, AttributeSchema
from panther_core.data.token_report import REPORT, TOKENIZER, TokenReport, lines, report, token_names, write
from panther_core.data.vocabulary import Combinations, Vocabulary, radix_of

SCHEMA = AttributeSchema((10.0, 25.5), ("food", "fuel"), ("chip",))
RADIX = radix_of(SCHEMA)
# (amount, channel, category, risk) and how often
KINDS = {(1, 1, 1, 1): 6, (2, 1, 2, 1): 2, (3, 0, 2, 0): 1, (3, 1, 1, 0): 1}


def codes(kinds: dict[tuple[int, ...], int]) -> np.ndarray:  # type: ignore[type-arg]
    rows = [kind for kind, count in kinds.items() for _ in range(count)]
    out = np.zeros(len(rows), CODE)
    for at, name in enumerate(("amount", "channel", "category", "risk")):
        out[name] = [row[at] for row in rows]
    return out


FITTED = Combinations.of(codes(KINDS), RADIX)
LATER = Combinations.of(codes({(1, 1, 1, 1): 1, (1, 1, 2, 1): 3}), RADIX)
VOCABULARY = Vocabulary(FITTED.keys(2), RADIX)


def test_shares_and_what_falls_out() -> None:
    found = report(SCHEMA, VOCABULARY, FITTED, LATER)
    assert (found.vocabulary, found.combinations, found.product) == (3, 4, 4 * 2 * 3 * 5)
    assert (found.fitted.events, found.fitted.covered, found.fitted.unknown) == (10, 0.8, 0.2)
    assert found.later is not None
    assert (found.later.events, found.later.covered) == (4, 0.25)
    assert found.tokens_needed == {"0.5": 1, "0.8": 2, "0.9": 3, "0.95": 4, "0.96": 4, "0.99": 4, "1": 4}
    amount, channel = found.attributes["amount"], found.attributes["channel"]
    assert (amount.codes, amount.not_given) == (4, 0)
    assert [(loss.value, loss.events, loss.unknown, loss.share) for loss in amount.falls_out] == [("25.5-", 2, 2, 1.0)]
    assert channel.not_given == 0.1
    assert [(loss.value, loss.events, loss.unknown) for loss in channel.falls_out] == [("?", 1, 1), ("chip", 9, 1)]
    assert report(SCHEMA, VOCABULARY, FITTED).later is None


def test_tokens_have_names_in_the_order_of_their_ids() -> None:
    names = token_names(SCHEMA, VOCABULARY)
    assert names == ["[UNK]", "0-10 | chip | food | risk 1", "10-25.5 | chip | fuel | risk 1"]
    assert VOCABULARY.tokens(codes({(2, 1, 2, 1): 1})).tolist() == [2]
    assert token_names(SCHEMA, Vocabulary((), RADIX)) == ["[UNK]"]


def test_files_are_json_that_names_its_versions(tmp_path: Path) -> None:
    found = report(SCHEMA, VOCABULARY, FITTED, LATER)
    write(tmp_path, SCHEMA, VOCABULARY, found)
    assert msgspec.json.decode((tmp_path / REPORT).read_bytes(), type=TokenReport) == found
    tokenizer = json.loads((tmp_path / TOKENIZER).read_text())
    assert tokenizer["tokens"] == token_names(SCHEMA, VOCABULARY)
    assert tokenizer["values"]["category"] == ["?", "food", "fuel"]
    assert tokenizer["format_version"] == 1
    assert tokenizer["tokenizer_version"] == found.tokenizer_version
    assert tokenizer["schema_fingerprint"] == SCHEMA.fingerprint
    assert len((tmp_path / TOKENIZER).read_text().splitlines()) > 10, "a token a line"


def test_text_says_the_same_in_a_few_lines() -> None:
    text = lines(report(SCHEMA, VOCABULARY, FITTED, LATER))
    assert text[0].startswith("2 tokens and [UNK] (version ")
    assert "80.00% covered, 20.00% [UNK]" in text[1]
    assert "25.00% covered" in text[2]
    assert any("amount: 4 codes, 0.00% not given; falls out: 25.5- (2 of 2)" in line for line in text)
