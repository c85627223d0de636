"""Output of every command: people read stderr, programs read one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


def say(text: str) -> None:
    """A line for people."""
    console.print(text, highlight=False)


def emit(result: Mapping[str, Any], as_json: bool) -> None:
    """The command's result: JSON alone on stdout, or readable lines on stderr."""
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        return
    for key, value in result.items():
        say(f"  [bold]{key}[/]  {value}")


def progress_bar() -> Progress:
    """A progress bar on stderr with rate-free columns; use as a context manager."""
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
