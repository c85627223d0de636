"""Yelp: reviews and businesses as JSON lines."""

import shutil
from pathlib import Path

import pytest

from panther_core.base.errors import InvalidFile
from panther_core.data.events import Transaction
from panther_core.data.formats import read
from tests import DATA

FOLDER = DATA / "yelp"


def rows(path: Path) -> list[Transaction]:
    return [row for table in read("yelp", path) for row in table.rows()]


def test_yelp() -> None:
    ghost, diner, tacos, tie = rows(FOLDER)
    assert (ghost.merchant_category, ghost.channel, ghost.amount) == ("Reno|", "1 stars", 7)
    # of "Restaurants, Diners" the category that more businesses have; the stars are the business's, not the review's
    assert (diner.merchant_category, diner.channel, diner.amount) == ("Tucson|Restaurants", "5 stars", 5)
    assert (tacos.merchant_category, tacos.channel, tacos.amount) == ("Tucson|Restaurants", "3.5 stars", 24)
    assert (tacos.transaction_id, tie.transaction_id) == ("r000000000000000000001", "r000000000000000000004")
    assert (tacos.user_id, tacos.merchant_id) == ("u000000000000000000001", "bTacos0000000000000000")
    assert tacos.event_time == 1531001351000
    assert tacos.event_time == tie.event_time


WRONG = [
    ("review", '"user_id":"u000000000000000000002"', '"user_id":7', r"review.json, row 2, column 'user_id': Expected"),
    ("review", '"date":"2012', '"when":"2012', r"review.json, row 2, column 'date': .*missing required field"),
    ("review", "2012-01-03 15:28:18", "2012-13-03 15:28:18", r"row 2, column 'date': expected a date like .*2012-13"),
    ("review", "2012-01-03", "1912-01-03", r"row 2, column 'date': expected a date like"),
    ("review", "r000000000000000000002", "r" * 33, r"row 2, column 'review_id': Expected `str` matching regex"),
    ("review", "bGhost0000000000000000", "bNoone", r"row 2, column 'business_id': expected a business of the other"),
    ("review", '"text":"ok"', '"text":"ok', r"review.json, row 2: JSON is malformed"),
    ("business", '"stars":5.0', '"stars":6.0', r"business\.json, row 2, column 'stars': Expected `float` <= 5"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_yelp_errors_name_file_line_and_field(file: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "yelp")
    path = tmp_path / "yelp" / f"yelp_academic_dataset_{file}.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidFile, match=message):
        rows(tmp_path / "yelp")


def test_yelp_needs_both_files(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "yelp_academic_dataset_review.json", tmp_path)
    with pytest.raises(InvalidFile, match=r"expected one of yelp_academic_dataset_business\.json"):
        rows(tmp_path)
