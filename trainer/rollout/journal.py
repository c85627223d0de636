"""What a refresh leaves in the folder of models: the turn that is under way, and all turns that there were.

`.turn.json` is written before a turn changes anything, so that the turn after a kill knows what was begun.
`refreshes.jsonl` has a line for each turn, and `refreshes.html` shows them: what was done over a weekend, and why.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from panther_core.base.console import say_once
from panther_core.base.files import written_whole
from panther_core.report.pages import render, write_page

TURN, TURNS, PAGE = ".turn.json", "refreshes.jsonl", "refreshes.html"


class Turn(msgspec.Struct, frozen=True):
    """A turn that is under way: the version that was live at its start, and the one that it trains."""

    champion: int
    version: int


class Ended(msgspec.Struct, frozen=True):
    """A turn that has ended, or failed with an `error` and is gone on with by the next one. `why`: what began it;
    `against`: what kept the challenger out, or took it back. `live`: it was live already when the error came."""

    ended_ms: int
    why: str
    champion: int
    challenger: int
    promoted: bool = False
    rolled_back: bool = False
    against: list[str] = []
    error: str | None = None
    live: bool = False


def begun(models: Path) -> Turn | None:
    """The turn that was begun and has not ended; None where there is none, or nobody can read what is there."""
    try:
        return msgspec.json.decode((models / TURN).read_bytes(), type=Turn)
    except (OSError, msgspec.DecodeError):
        return None


def begin(models: Path, turn: Turn) -> None:
    """Write down a turn, durably."""
    with written_whole(models / TURN) as part, part.open("wb") as file:
        file.write(msgspec.json.encode(turn))
        file.flush()
        os.fsync(file.fileno())


def finish(models: Path) -> None:
    """No turn is under way from now on."""
    (models / TURN).unlink(missing_ok=True)


def add(models: Path, ended: Ended) -> None:
    """Add a turn to those that there were, and draw their page anew."""
    with (models / TURNS).open("ab") as file:
        cut_off = file.tell() and (models / TURNS).read_bytes()[-1:] != b"\n"
        file.write((b"\n" if cut_off else b"") + msgspec.json.encode(ended) + b"\n")
    pages: dict[int, str] = {
        turn.challenger: f"{turn.challenger}/refresh.html"
        for turn in ended_turns(models)
        if (models / str(turn.challenger) / "refresh.html").exists()
    }
    facts: dict[str, Any] = {"title": "refreshes", "turns": ended_turns(models)[::-1], "pages": pages}
    write_page(models / PAGE, render("trainer.report", "refreshes.html", **facts))


def ended_turns(models: Path) -> list[Ended]:
    """All turns, oldest first. A line that is none (a kill or a full disk has cut it off) is left out, and said."""
    try:
        lines = (models / TURNS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    out = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            out.append(msgspec.json.decode(line, type=Ended))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            say_once(f"  {models / TURNS}:{number} is no turn and is left out: {error}")
    return out
