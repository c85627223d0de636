"""Output of every command: people read stderr, programs read one JSON object on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


def say(text: str) -> None:
    """Print a line for people on stderr. Long lines are left to the terminal, so that a log holds each as one line."""
    console.print(text, highlight=False, soft_wrap=True)


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


@contextmanager
def progress(name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr. Yields the function to call with how many are done so far; their rate is shown too."""
    started = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task(name, total=total, note="")
        yield lambda done: bar.update(task, completed=done, note=f"{done / (time.perf_counter() - started):,.0f}/s")
