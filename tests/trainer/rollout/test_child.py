"""A child ends with whoever has started it, also where that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from trainer.rollout.child import ends_with_this


def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    child = [sys.executable, "-c", "import time; print('runs', flush=True); time.sleep(60)"]
    code = (
        "import subprocess, sys; from trainer.rollout.child import ends_with_this; "
        f"child = subprocess.Popen(ends_with_this({child!r}), stdout=subprocess.PIPE); child.stdout.readline(); "
        "print(child.pid, flush=True); child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    started = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    started.wait(20)  # raises TimeoutExpired


def test_a_command_is_run_as_it_is(tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[1:], sys.flags.no_site); sys.exit(7)"
    ran = subprocess.run(
        ends_with_this([sys.executable, "-c", code, "a b", "-c"]), stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert (ran.returncode, ran.stdout) == (7, b"['a b', '-c'] 0\n")
