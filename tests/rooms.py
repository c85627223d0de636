"""The rooms of the repository and who uses whom, from the real imports: `python -m tests.rooms` draws them anew.

The drawing stands in docs/architecture.md; tests/test_packages.py compares the two.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict

import grimp

from tests import ROOT

BEGIN, END = "<!-- drawn by `python -m tests.rooms` -->", "<!-- end of the drawing -->"


def contract() -> list[list[str]]:
    """Rows of the import-linter's layers, highest first; rooms of one row do not import each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c["layers"] for c in settings["contracts"] if c["type"] == "layers")
    return [[room.strip() for room in row.split("|")] for row in layers]


def imports() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, imports inside of functions included."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    graph = grimp.build_graph(*settings["root_packages"], cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in sorted(graph.modules)}


def room_of(module: str, rooms: list[str]) -> str | None:
    """The room that a module lies in; None for what stands above all rooms of its package."""
    return next((room for room in rooms if module == room or module.startswith(f"{room}.")), None)


def drawing() -> str:
    """One line for each room, highest first: its files, and the rooms that these import from."""
    rows = contract()
    rooms = [room for row in rows for room in row]
    uses: dict[str, set[str]] = defaultdict(set)
    files: dict[str, int] = defaultdict(int)
    for module, used in imports().items():
        room = room_of(module, rooms)
        if room is None:
            continue
        files[room] += 1
        uses[room] |= {other for m in used if (other := room_of(m, rooms)) is not None and other != room}
    width = max(map(len, rooms))
    lines = []
    for row in rows:
        for room in row:
            below = [other.replace("panther_core.", "core.") for other in rooms if other in uses[room]]
            lines.append(f"{room:{width}} {files[room]:3}  -> {', '.join(below) or '(nothing of ours)'}")
    return "\n".join(["```", *lines, "```"])


if __name__ == "__main__":
    page = ROOT / "docs" / "architecture.md"
    text = page.read_text()
    page.write_text(text[: text.index(BEGIN) + len(BEGIN)] + f"\n{drawing()}\n" + text[text.index(END) :])
