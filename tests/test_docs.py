"""Documentation points only to what exists: relative links, and paths and tests named in code style."""

import re
from pathlib import Path

import pytest

from tests import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_ROOMS = "bench|cli|docs|infra|offline|panther_core|stream|tests|trainer|triton_models"
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(rf"`((?:{_ROOMS})/[\w./-]*)(?:::(\w+))?`")


def _history(page: Path) -> bool:
    """Dated runs and the log keep the paths of their day."""
    return page.parent.name == "runs" or page.name == "log.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_points_to_what_exists(page: Path) -> None:
    text = page.read_text()
    for target in _LINK.findall(text):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target
    if _history(page):
        return
    for path, name in _PATH.findall(text):
        assert (ROOT / path).exists(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
