"""written_whole: the new content takes the old one's place at once, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from panther_core.base.files import written_whole


def interrupt(path: Path) -> None:
    """Fail in the middle of writing."""
    with written_whole(path) as aside:
        aside.write_text("half")
        raise OSError("the disk is full")


def test_a_file_is_replaced_when_the_block_ends_and_kept_when_it_raises(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "report.json"
    with written_whole(path) as aside:
        aside.write_text("first")
        assert not path.exists()
    with pytest.raises(OSError, match="disk"):
        interrupt(path)
    assert path.read_text() == "first"
    with written_whole(path) as aside:
        aside.write_text("second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]
