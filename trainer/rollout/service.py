"""The refresh as a service: a turn at intervals, or where the stream has drifted, and the alert budget kept between.

Each turn is a process of its own, so that its memory goes back to the machine, and one that is killed (by a kernel
that is out of memory, by a deploy) takes nothing with it: the next turn goes on where it stood. Turns run at nice 10,
behind a worker on the same machine.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec
from rich.markup import escape

from panther_core.base.console import say
from panther_core.base.times import DAY_MS, now_ms, span
from trainer.rollout import journal
from trainer.rollout.child import ends_with_this

_DRIFT = "drift"  # first word of the reason of such a turn
T = TypeVar("T")
_RETRY_S, _LONGEST_S = 300.0, 3600.0  # after a turn that failed; doubled from failure to failure, up to the interval


@dataclass(frozen=True)
class Service:
    """What the service does, and when.

    `turn`, `look`: commands of one turn, to which its reason is added, and of one look for drift, which prints
    {"drifted", "why"}; both are run as processes. `every_s`: between two turns, None: only on drift. `look_s`: between
    two looks; drift begins one turn a day at most, since the labels of what has changed take longer than that. `keep`:
    a command that keeps the alert budget and says why in {"why"}, run every `keep_s`.
    """

    models: Path
    turn: Sequence[str]
    look: Sequence[str] | None
    every_s: float | None
    look_s: float
    keep: Sequence[str] | None
    keep_s: float = 3600.0

    def run(self) -> NoReturn:
        """Serve until SIGTERM or Ctrl-C, which end the turn under way too."""
        signal.signal(signal.SIGTERM, _interrupt)
        turn_s, look_s, keep_s = self._first_turn_s(), time.time() + self.look_s, time.time() + self.keep_s
        failed = 0  # turns in a row: the broker may be back soon, the labels of a young log come in days
        interval = "a turn that was cut off" if self.every_s is None else f"every {span(self.every_s)}"
        due_why = interval
        while True:
            now = time.time()
            why = "" if turn_s is None or now < turn_s else due_why
            if not why and self.look is not None and now >= look_s:
                look_s = now + self.look_s
                why = self._drifted() if self._drift_may_begin() else ""
            if why:
                ok = self._turn(why)
                # a failed turn comes again soon; drift is not looked for right after a turn, which has learnt from it
                failed = 0 if ok else failed + 1
                pause_s = self.every_s if ok else retry_s(failed, self.every_s)
                turn_s, due_why = None if pause_s is None else time.time() + pause_s, interval if ok else why
                look_s = max(look_s, time.time() + self.look_s)
            if self.keep is not None and time.time() >= keep_s:
                keep_s = time.time() + self.keep_s
                done = _run(self.keep, subprocess.PIPE)
                said = _last(done.stdout, _Kept)
                say(f"  alert budget: {escape(said.why if said else f'not looked at, exit code {done.returncode}')}")
            time.sleep(1.0)

    def _first_turn_s(self) -> float | None:
        """When the first turn is due: an interval after the last one's end, at once where a turn was cut off."""
        if self.every_s is None:
            return None if journal.begun(self.models) is None else time.time()
        ended = journal.ended_turns(self.models)
        if journal.begun(self.models) is not None or not ended:
            return time.time()
        return ended[-1].ended_ms / 1000 + self.every_s

    def _turn(self, why: str) -> bool:
        say(f"  a turn begins: {escape(why)}")
        began_ms = now_ms()
        code = _run([*self.turn, why]).returncode
        if code < 0:
            say(f"  the turn was ended by signal {-code}; the next one goes on with it")
        elif code:
            errors = [one.error for one in journal.ended_turns(self.models) if one.error and one.ended_ms >= began_ms]
            say(f"  the turn failed ({escape(errors[-1] if errors else f'exit code {code}')}); it comes again")
        return code == 0

    def _drift_may_begin(self) -> bool:
        began = [turn.ended_ms for turn in journal.ended_turns(self.models) if turn.why.startswith(_DRIFT)]
        return now_ms() - max(began, default=0) >= DAY_MS

    def _drifted(self) -> str:
        """Why the stream has drifted; empty where it has not, or nobody can tell."""
        assert self.look is not None
        done = _run(self.look, subprocess.PIPE)
        found = _last(done.stdout, _Looked)
        if found is None:
            say(f"  the look for drift failed with exit code {done.returncode}; it comes again")
            return ""
        return f"{_DRIFT}: {'; '.join(found.why)}" if found.drifted is not False else ""


def retry_s(failed: int, every_s: float | None) -> float:
    """How long after the last of so many failed turns in a row (1 or more) the next one comes (s)."""
    return min(every_s or _LONGEST_S, _RETRY_S * 2.0 ** min(failed - 1, 20))


class _Looked(msgspec.Struct):
    drifted: bool | None  # None: the live version is of before what a look compares with
    why: list[str] = []


class _Kept(msgspec.Struct):
    why: str


def _last(stdout: bytes, kind: type[T]) -> T | None:
    """What the last line of a command's output holds; None where it holds no such thing."""
    try:
        return msgspec.json.decode(stdout.splitlines()[-1], type=kind)
    except (IndexError, msgspec.DecodeError):
        return None


def _run(command: Sequence[str], stdout: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """A process in this one's group of signals; ended with this one, also where that is killed."""
    with subprocess.Popen(ends_with_this(command), stdout=stdout) as process:
        try:
            out, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return subprocess.CompletedProcess(list(command), process.returncode, out or b"")


def _interrupt(*_: object) -> NoReturn:
    """A handler of signals: the service ends as by Ctrl-C. A turn has none: its training swallows what a handler raises
    in the midst of others' code, and it may be killed at any moment."""
    raise KeyboardInterrupt
