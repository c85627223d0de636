"""Child processes that do not outlive their use: started in a group of their own, watched, and ended as a group.

A server outlives the command that started it (`panther up`), so it is known by a `ProcessRef` that can be
written to a file and read back by another process. Until `release()` a guard, a small shell, waits at the other end
of a pipe: when this process ends, even by SIGKILL, the pipe closes and the guard kills the group. The kernel's
PR_SET_PDEATHSIG is of no use here: it fires when the starting *thread* ends, and it cannot be revoked once the start
has succeeded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from infra.local.errors import StartFailed

_POLL_S = 0.05
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")  # the kernel's unit of start times
_TAIL_LINES = 25
# $1 process group, $2 start time of its leader (field 22 of /proc/PID/stat; the names here have no blanks),
# $3 pattern of files that a killed process leaves behind. A leader with another start time is another process that
# has got the pid since: it is not killed. The form `-s KILL --` is the only one in which dash takes a negative pid.
_GUARD = """
read -r verb
[ "$verb" = release ] && exit 0
now=$(cut -d' ' -f22 /proc/$1/stat 2>/dev/null)
if [ -z "$now" ] || [ "$now" = "$2" ]; then kill -s KILL -- -$1; fi
[ -z "$3" ] || rm -f $3
"""


class ProcessRef(NamedTuple):
    """Identity of a process: with start time and boot, a later process with the same pid is told apart."""

    pid: int
    start_ticks: int  # clock ticks since boot
    boot_id: str


class ManagedProcess:
    """One process, and its descendants as far as they stay in its process group."""

    def __init__(self, name: str, ref: ProcessRef, log_path: Path) -> None:
        """Manage a process that may run already (a ref read from a file); `start` makes a new process."""
        self.name, self.ref, self.log_path = name, ref, log_path
        self._child: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        name: str,
        argv: Sequence[str],
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        leftovers: str = "",
    ) -> ManagedProcess:
        """Start `argv` with stdout and stderr in `log_path` (an older log is kept as `.previous`).

        leftovers: shell pattern, without blanks, of files that the guard removes when it kills.

        Raises StartFailed when the program cannot be executed.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        if log_path.exists():
            log_path.replace(log_path.with_name(log_path.name + ".previous"))
        try:
            with log_path.open("wb") as log:
                child = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                )
        except OSError as error:
            raise StartFailed(name, f"{argv[0]} cannot be executed ({error.strerror})", log_path, "") from error
        ref = _ref(child.pid)
        assert ref is not None  # a child that has ended stays in the process table until its parent asks for its status
        process = cls(name, ref, log_path)
        process._child, process._guard = child, _start_guard(process.ref, leftovers)
        return process

    def alive(self) -> bool:
        """Whether the process that `ref` names still runs (a zombie does not count)."""
        if self._child is not None and self._child.poll() is not None:
            return False
        return _ref(self.ref.pid) == self.ref and _runs(self.ref.pid)

    def wait_ready(self, probe: Callable[[], str | None], deadline_s: float) -> None:
        """Call `probe` until it returns None (healthy); before that it returns what is missing, for the error.

        Raises StartFailed when the process ends first, or `deadline_s` seconds pass.
        """
        began_s = time.monotonic()
        while True:
            if not self.alive():
                raise StartFailed(self.name, f"it ended ({self._exit_text()})", self.log_path, self.log_tail())
            missing = probe()
            if missing is None:
                return
            if time.monotonic() - began_s > deadline_s:
                reason = f"after {deadline_s:.0f} s it still was not: {missing}"
                raise StartFailed(self.name, reason, self.log_path, self.log_tail())
            time.sleep(_POLL_S)

    def wait(self, deadline_s: float) -> int:
        """Exit status of a process that ends by itself; raises StartFailed when it runs longer than `deadline_s`."""
        _wait_until(lambda: not self.alive(), deadline_s)
        if self.alive() or self._child is None:
            self.stop()
            raise StartFailed(self.name, f"it did not end in {deadline_s:.0f} s", self.log_path, self.log_tail())
        self.release()
        return self._child.wait()

    def stop(self, grace_s: float = 10.0) -> bool:
        """SIGTERM to the process, then SIGKILL to what is left of the group; True if no SIGKILL was needed.

        Safe to call again, and for a process that has ended or whose pid another process has by now.
        """
        if self.alive():
            # SIGTERM goes to the leader alone, which shuts its helpers down in the order that it needs.
            _signal(os.kill, self.ref.pid, signal.SIGTERM)
            _wait_until(lambda: not self.alive(), grace_s)
        clean = not self.alive()
        if self._group_is_ours() and group_members(self.ref.pid):
            clean = False
            _signal(os.killpg, self.ref.pid, signal.SIGKILL)
            _wait_until(lambda: not group_members(self.ref.pid), 5.0)
        if self._child is not None:
            self._child.wait()
        self.release()
        return clean

    def release(self) -> None:
        """Dismiss the guard, so that the process lives on when the Python process that started it ends."""
        if self._guard is not None:
            guard, self._guard = self._guard, None
            guard.communicate(b"release\n")

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """The last `lines` lines of this start's log, empty if there is none."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - 64 * 1024))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _group_is_ours(self) -> bool:
        return self.ref.boot_id == boot_id() and _ref(self.ref.pid) in (None, self.ref)

    def _exit_text(self) -> str:
        code = self._child.poll() if self._child is not None else None
        if code is None:
            return "exit status unknown: another process had started it"
        return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def boot_id() -> str:
    """A text that changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def group_members(pgid: int) -> list[int]:
    """Pids of the running (not zombie) processes of process group `pgid`."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):  # the process has ended since it was listed
            if os.getpgid(pid) == pgid and _runs(pid):
                members.append(pid)
    return members


def _ref(pid: int) -> ProcessRef | None:
    """The process that has `pid` now, a zombie included; None when no process has that pid."""
    try:
        # A start time counted from the boot stays the same when the machine's clock is set.
        started_s = psutil.Process(pid).create_time() - psutil.boot_time()
    except psutil.NoSuchProcess:
        return None
    return ProcessRef(pid, round(started_s * _TICKS_PER_S), boot_id())


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _start_guard(ref: ProcessRef, leftovers: str) -> subprocess.Popen[bytes]:
    argv = ["/bin/sh", "-c", _GUARD, "stack-guard", str(ref.pid), str(ref.start_ticks), leftovers]
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _signal(send: Callable[[int, int], None], target: int, signum: int) -> None:
    # A process that has ended since it was looked at needs no signal.
    with contextlib.suppress(ProcessLookupError):
        send(target, signum)


def _wait_until(done: Callable[[], bool], deadline_s: float) -> None:
    end_s = time.monotonic() + deadline_s
    while not done() and time.monotonic() < end_s:
        time.sleep(_POLL_S)
