"""Faust's worker process with an end of its own: see stream.ops.ending."""

from __future__ import annotations

import contextlib
import signal
from typing import Any, NoReturn

import faust
from mode.utils.futures import maybe_cancel

from stream.ops.ending import Ending
from stream.ops.logs import filter_handlers


class EndingWorker(faust.Worker):
    """Faust's worker: `ending` hears of its crash and its signals, and says what Faust would say with tracebacks."""

    def __init__(self, app: faust.App, ending: Ending, **options: Any) -> None:
        super().__init__(app, **options)
        self._ending = ending
        ending.crash = lambda: self.crash_reason or app.crash_reason
        ending.stop_worker = self._begin_to_stop

    def run(self) -> NoReturn:
        """Work until the process is told to stop or fails. Exit code: 0 after an order to stop, else 1."""
        with contextlib.suppress(SystemExit):
            try:
                self.execute_from_commandline()
            except Exception as error:
                self._ending.fail(error)
        raise SystemExit(1 if self._ending.failed else 0)

    def install_signal_handlers(self) -> None:
        """Faust's handlers, and `ending` beside them."""
        super().install_signal_handlers()
        self._ending.hear(signal.SIGTERM, signal.SIGINT)

    def _begin_to_stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: it has stopped
            self.loop.call_soon_threadsafe(self._schedule_shutdown, signal.SIGTERM)

    def _setup_logging(self) -> None:
        super()._setup_logging()
        filter_handlers(self._ending.fail)

    async def _stop_on_signal(self, signal: signal.Signals) -> None:
        # Faust's, without the line that names a signal: a failure ends here too
        await self.stop()
        maybe_cancel(self._starting_fut)

    def _shutdown_loop(self) -> None:
        if error := self._ending.crash():
            self._ending.fail(error)  # where the process ends before the thread has looked
            self.crash_reason = None  # Faust would raise it again, and has nothing to add
        super()._shutdown_loop()
