"""Errors of the local stack, split by the reaction they ask for.

StackError            something about the stack is not as asked: read the message, which says what to do
|- DownloadError      a jar is missing, unreachable or not the locked one: network or cache
|- PortInUse          another process listens there: stop it, or choose another port
`- StartFailed        a server ended or stayed silent while starting: carries the tail of its log
"""

from __future__ import annotations

from pathlib import Path

from panther_core.base.errors import PantherError


class StackError(PantherError):
    """What was asked of the local stack does not hold; `str(error)` says what to do about it."""


class DownloadError(StackError):
    """A jar could not be fetched, or its bytes are not the ones in the lock."""


class PortInUse(StackError):
    """`host:port`, wanted by `owner`, already has a listener."""

    def __init__(self, owner: str, host: str, port: int, remedy: str) -> None:
        super().__init__(f"{owner}: expected {host}:{port} to be free, but another process listens there; {remedy}")
        self.owner, self.host, self.port = owner, host, port


class StartFailed(StackError):
    """A server did not come up; `log_tail` holds its last lines and `log_path` the rest."""

    def __init__(self, name: str, reason: str, log_path: Path, log_tail: str) -> None:
        super().__init__(
            f"{name}: expected it to become healthy, but {reason}; "
            f"read {log_path}, which ends:\n{log_tail or '(the log is empty)'}"
        )
        self.name, self.reason, self.log_path, self.log_tail = name, reason, log_path, log_tail
