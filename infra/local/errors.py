"""Errors of the local stack, split by the reaction they ask for.

StackError            the stack cannot be run as asked: read the message, which says what to do
|- DownloadError      a jar is missing, unreachable or differs from the lock: look at the network or the cache
|- PortInUse          another process listens on the port: stop that process, or choose another port
`- StartFailed        a server ended or stayed silent while starting: carries the tail of its log
"""

from __future__ import annotations

from pathlib import Path

from panther_core.base.errors import PantherError


class StackError(PantherError):
    """The local stack cannot be run as asked; `str(error)` says what to do."""


class DownloadError(StackError):
    """A jar could not be fetched, or its sha256 is not that of the lock."""


class PortInUse(StackError):
    """`host:port`, wanted by `owner`, already has a listener."""

    def __init__(self, owner: str, host: str, port: int, remedy: str) -> None:
        super().__init__(f"{owner}: expected {host}:{port} to be free, but another process listens there; {remedy}")
        self.owner, self.host, self.port = owner, host, port


class StartFailed(StackError):
    """A server did not come up; `log_tail` has the last lines of its log, and `log_path` is the file."""

    def __init__(self, name: str, reason: str, log_path: Path, log_tail: str) -> None:
        super().__init__(
            f"{name}: expected it to become healthy, but {reason}; "
            f"read {log_path}, which ends:\n{log_tail or '(the log is empty)'}"
        )
        self.name, self.reason, self.log_path, self.log_tail = name, reason, log_path, log_tail
