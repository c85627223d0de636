"""Pages: what templates get is escaped, what they lack is an error, and an installed package has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from jinja2 import UndefinedError

from panther_core.report import pages

ROOT = Path(__file__).parents[3]


def test_values_are_escaped_and_a_missing_one_is_an_error() -> None:
    text = pages.render("panther_core.report", "page.html", title="<script>'\"&")
    assert "<h1>&lt;script&gt;&#39;&#34;&amp;</h1>" in text
    with pytest.raises(UndefinedError, match="title"):
        pages.render("panther_core.report", "page.html")


def test_after_an_error_the_page_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    pages.write_page(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        pages.write_page(path, "half \ud800")
    assert path.read_text() == "whole"
    assert [found.name for found in path.parent.iterdir()] == ["page.html"]


def test_the_wheel_has_every_template() -> None:
    shipped = {file.relative_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    templates = {str(path.relative_to(ROOT)) for path in ROOT.glob("[a-z]*/**/templates/**/*.*")}
    assert len(templates) > 20
    assert templates <= shipped
