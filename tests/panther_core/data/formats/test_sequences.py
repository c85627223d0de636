"""Sequence files: both layouts and MovieLens give the same structure; errors name file and row; leave-one-out."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from panther_core.base.errors import BadInput, InvalidFile
from panther_core.data.formats.sequences import leave_one_out, read_sequences, read_split

LINES = "7 30 10 20\n9 10 40\n8 20 30 40 10\n"
PAIRS = "7 30\n7 10\n9 10\n7 20\n9 40\n8 20\n8 30\n8 40\n8 10\n"
RATINGS = "7::10::5::200\n7::30::4::100\n9::10::1::50\n7::20::3::200\n9::40::5::60\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def named(path: Path) -> dict[str, list[str]]:
    sequences = read_sequences(path)
    assert sorted(set(sequences.items.tolist())) == list(range(1, len(sequences.item_names) + 1))
    return {
        user: [sequences.item_names[item - 1] for item in sequences.of(u)] for u, user in enumerate(sequences.users)
    }


def test_both_layouts_say_the_same(tmp_path: Path) -> None:
    lines = named(write(tmp_path / "a.txt", LINES))
    assert lines == {"7": ["30", "10", "20"], "9": ["10", "40"], "8": ["20", "30", "40", "10"]}
    assert named(write(tmp_path / "b.txt", PAIRS)) == lines
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(LINES.encode()))
    assert named(tmp_path / "c.txt.gz") == lines


def test_ratings_are_ordered_by_time_ties_in_file_order(tmp_path: Path) -> None:
    assert named(write(tmp_path / "ratings.dat", RATINGS)) == {"9": ["10", "40"], "7": ["30", "10", "20"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n1 4 5\n", "row 2: expected one line a user"),
        ("1 2 3\n2\n", "row 2: expected at least one item"),
        ("1 2 3\n\n3 4 5\n", "row 2: expected `user item item"),
        ("1::2::3::4\n1::2::3\n", "row 2: expected `user::item::rating::timestamp`"),
        ("1::2::3::4\n1::2::3::soon\n", "row 2"),
        ("::2::3::4\n", "row 1: expected `user::item::rating::timestamp`"),
        ("1::2::3.5::4\n1::2::9::4\n", r"row 2: expected a rating \(column 3\) from 0.5 to 5"),
        ("", "found no row"),
    ],
)
def test_errors_name_file_and_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidFile, match=message) as error:
        read_sequences(write(tmp_path / "set.txt", text))
    assert "set.txt" in str(error.value)


def test_a_named_layout_is_held_to(tmp_path: Path) -> None:
    path = write(tmp_path / "set.txt", LINES)
    with pytest.raises(InvalidFile, match="row 1: expected `user item`"):
        read_sequences(path, "pairs")
    with pytest.raises(BadInput, match="layout"):
        read_sequences(path, "words")  # type: ignore[arg-type]
    with pytest.raises(InvalidFile, match="check the path"):
        read_sequences(tmp_path / "nothing.txt")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(LINES.encode())[:-12])
    with pytest.raises(InvalidFile, match="readable"):
        read_sequences(tmp_path / "cut.txt.gz")


def test_leave_one_out_holds_back_the_last_two_of_users_with_three(tmp_path: Path) -> None:
    sequences = read_sequences(write(tmp_path / "set.txt", LINES))
    split = leave_one_out(sequences)
    assert [sequences.users[u] for u in split.evaluated] == ["7", "8"]
    np.testing.assert_array_equal(split.train_end - sequences.bounds[:-1], [1, 2, 2])
    validation = [sequences.item_names[sequences.items[split.train_end[u]] - 1] for u in split.evaluated]
    assert validation == ["10", "40"]


@pytest.mark.parametrize("text", ["1 2 3 4\n2 3 4 5\n", "1 2 3\n2 3 4\n"])
def test_users_too_short_to_train_on_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidFile, match=r"at least four items .* got [23] at most: give longer"):
        read_split(write(tmp_path / "a.txt", text))
    assert len(read_split(write(tmp_path / "b.txt", text + "3 4 5 6 7\n")).evaluated)


def test_repeats_are_told_from_training_items_alone(tmp_path: Path) -> None:
    assert not leave_one_out(read_sequences(write(tmp_path / "a.txt", "1 2 3 4 2\n2 5 6 7 8\n"))).repeats()
    assert leave_one_out(read_sequences(write(tmp_path / "b.txt", "1 2 3 2 4 5\n2 5 6 7 8\n"))).repeats()
