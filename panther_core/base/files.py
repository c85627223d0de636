"""Writing files so that no reader ever finds a part of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; when the block ends, that file takes the place of `path` in one step.

    A reader, or a process that starts after a crash, finds either the old content or the new, never a part. When the
    block raises, `path` stays as it was. Missing folders are made. Of several files in one
    `with` statement the one named last is put in place first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
