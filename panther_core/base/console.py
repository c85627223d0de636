"""Output of every command: people read stderr, programs read one JSON object on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


def say(text: str) -> None:
    """Print a line for people on stderr. Only a terminal wraps a long line; in a log it stays one line."""
    console.print(text, highlight=False, soft_wrap=True)


def lead_on(text: str, as_json: bool = False) -> None:
    """The last line of a command for people: what comes next."""
    if not as_json:
        say(escape(f"next: {text}"))


@cache
def say_once(text: str) -> None:
    """`say` a text, brackets and all, unless this process has said it before."""
    say(escape(text))


def emit(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a command's result: one JSON object on stdout, or readable lines on stderr."""
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        return
    for key, value in result.items():
        say(f"  [bold]{key}[/]  {value}")


def progress_bar() -> Progress:
    """A progress bar on stderr, to be used as a context manager; each task gives its own `note`, shown at the end."""
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
    """A progress bar on stderr. Yields a function that takes the number done so far; the bar shows the rate too."""
    started = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task(name, total=total, note="")
        yield lambda done: bar.update(task, completed=done, note=f"{done / (time.perf_counter() - started):,.0f}/s")
