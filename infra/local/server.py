"""What the Kafka broker and the Triton server share: each is one process that is started, watched and stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from infra.local.errors import StartFailed
from infra.local.process import ManagedProcess

_STOP_GRACE_S = 15.0  # between SIGTERM and SIGKILL


class Server(ABC):
    """A server that writes below `folder`; as a context manager it runs from the entry to the exit."""

    name: ClassVar[str]
    start_deadline_s: ClassVar[float]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.process: ManagedProcess | None = None

    @property
    def log_path(self) -> Path:
        """What the server and its children print."""
        return self.folder / "logs" / f"{self.name}.log"

    @abstractmethod
    def spawn(self) -> None:
        """Prepare the folder and start the server without waiting for it. Raises StackError."""

    @abstractmethod
    def answer_problem(self) -> str | None:
        """None when a request is answered as it should be, else what is wrong. Returns within seconds."""

    def wait_ready(self) -> None:
        """Return once the server answers; raises StartFailed."""
        if self.process is None:
            raise StartFailed(self.name, "spawn() was not called", self.log_path, "")
        self.process.wait_ready(self.answer_problem, self.start_deadline_s)

    def start(self) -> None:
        """spawn() and wait_ready(); when either fails, the server is stopped again."""
        try:
            self.spawn()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def problem(self) -> str | None:
        """None when the server runs and answers, else what is wrong."""
        if self.process is None or not self.process.alive():
            return "its process does not run"
        return self.answer_problem()

    def stop(self) -> bool:
        """Stop the server; its files stay. True when it ended without SIGKILL, or did not run."""
        process, self.process = self.process, None
        return process is None or process.stop(_STOP_GRACE_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
