"""How a worker process ends: its failure is said in one line, and whatever hangs then, the process is gone in time.

A worker that has failed, or was told to stop, is stopped in order: Faust commits, leaves the group and closes its
stores. Any of that may hang (a broker that is gone, a thread that does not return, a disk), and a worker that hangs
keeps its partitions while it decides nothing. So a thread ends the process when its time is over. Nothing is lost by
that: stores are written without a log of their own and restored from the changelog, and what was not committed is
redelivered.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from panther_core.base.errors import PantherError
from stream.ops.health import Health

logger = logging.getLogger(__name__)

#: seconds from a failure or a signal to the end of the process at the latest; a worker is promised ten
WITHIN_S = 8.5
_LOOK_EVERY_S = 0.2
_FLUSH_S = 0.5  # longest wait for the last lines of the log, whose reader may be gone


class Ending:
    """Ends one worker process that has failed or was told to stop.

    `end`: called with the exit code where the process has not ended by itself within `within_s`.
    """

    #: what Faust has crashed with, if it has; asked from another thread
    crash: Callable[[], BaseException | None] = staticmethod(lambda: None)
    #: begins to stop the worker in order; called from any thread
    stop_worker: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, health: Health, within_s: float = WITHIN_S, end: Callable[[int], object] = os._exit) -> None:
        self._health, self._within_s, self._end = health, within_s, end
        self.failed = False
        self._end_s: float | None = None
        self._heard, self._told = os.pipe()
        os.set_blocking(self._told, False)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Watch from a thread, which works while the event loop hangs."""
        threading.Thread(target=self._watch, name="ending", daemon=True).start()

    def hear(self, *signals: signal.Signals) -> None:
        """Notice these signals even while the main thread is inside a call that does not return.

        Python runs a signal's handler between two steps of the main thread. `faulthandler` writes at once, and then
        hands the signal to the handler that was there before, so call this after that handler was set.
        """
        for number in signals:
            faulthandler.register(number, file=self._told, all_threads=False, chain=True)

    def fail(self, error: BaseException) -> None:
        """Say why the worker ends, the first time; from now on its process ends in time, with exit code 1.

        An error that this project raises on purpose explains itself; any other comes with its traceback.
        """
        with self._lock:
            if self.failed:
                return
            self.failed = True
        self._begin()
        text = cause_of(error)
        self._health.fail(text)
        logger.error("the worker stops: %s", text, exc_info=None if isinstance(error, PantherError) else error)
        self.stop_worker()

    def stop(self) -> None:
        """The worker was told to stop: its process ends in time."""
        self._begin()
        self._health.fail("the worker was told to stop")

    def _begin(self) -> None:
        with self._lock:
            if self._end_s is None:
                self._end_s = time.monotonic() + self._within_s

    def _watch(self) -> None:
        while self._end_s is None or time.monotonic() < self._end_s:
            if select.select([self._heard], [], [], _LOOK_EVERY_S)[0]:
                os.read(self._heard, 1 << 16)
                self.stop()
            if not self.failed and (error := self.crash()):
                self.fail(error)
        last = threading.Thread(target=self._say_late, daemon=True)
        last.start()
        last.join(_FLUSH_S)
        self._end(1)

    def _say_late(self) -> None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        logger.error(
            "the worker has not ended by itself within %.1f s, so its process ends now; the main thread was at %s",
            self._within_s,
            _place(frame),
        )
        logging.shutdown()


def cause_of(error: BaseException) -> str:
    """An error in one line: the records it came with (its notes), its class unless it is one of ours, and its text."""
    text = " ".join(str(error).split())
    if not isinstance(error, PantherError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return ": ".join([*getattr(error, "__notes__", ()), text])


def _place(frame: FrameType | None) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})" if frame else "its end"
