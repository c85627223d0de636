"""Writing files so that no reader ever finds a part of one; reading files that somebody else may have put there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from panther_core.base.errors import BadInput, InvalidFile


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


@contextmanager
def locked(path: Path, taken: str) -> Iterator[None]:
    """Hold the lock that the file `path` stands for; it goes with the process, however it ends. Missing folders are
    made. Raises BadInput, with the text `taken`, while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(taken) from None
        yield


@contextmanager
def regular_file(path: Path, largest: int) -> Iterator[BufferedReader]:
    """A regular file of at most `largest` bytes, open for reading. A link is refused, since what it names may lie
    anywhere; a pipe or a device is refused without waiting for it.

    Raises InvalidFile.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        linked = isinstance(error, OSError) and error.errno == errno.ELOOP
        why = "a link" if linked else getattr(error, "strerror", None) or str(error)
        raise InvalidFile(f"expected the file {path}, got {why}") from error
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        raise InvalidFile(f"expected a regular file {path}, got a folder, pipe or device")
    with os.fdopen(number, "rb") as file:
        if found.st_size > largest:
            raise InvalidFile(f"expected at most {largest} bytes in {path}, got {found.st_size}")
        yield file
