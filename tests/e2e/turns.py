"""Refreshes of the system that the end-to-end tests share: begun, killed and waited for; and traffic beside them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from panther_core.data.events import ModelUpdate
from panther_core.kafka.updates import updates
from tests.e2e.conftest import Stage

_PATIENCE_S = 120.0


def models(stage: Stage) -> Path:
    return Path(stage.system.settings.models_dir)


def history(stage: Stage) -> list[ModelUpdate]:
    return asyncio.run(updates(stage.system.kafka))


def panther(stage: Stage, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A command on the system, in a group of its own, so that it can be killed with all that it has started."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        env=stage.system.environment | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def refresh(stage: Stage, *options: str, **environment: str) -> subprocess.Popen[str]:
    """`panther refresh`, which switches whatever the gate says: a log of a test has too few frauds for it."""
    repository = str(stage.system.stack.model_repository)
    always = ["--anyway", "--label-delay-days", "1", "--repository", repository]
    return panther(stage, "refresh", *always, *options, **environment)


def begin_turn(stage: Stage, *options: str, **environment: str) -> subprocess.Popen[str]:
    return refresh(stage, "--once", "--json", *options, **environment)


def kill_when(stage: Stage, moment: Callable[[], bool], *options: str) -> None:
    """Begin a turn and kill -9 it as soon as `moment` holds."""
    process = begin_turn(stage, *options)
    while not moment():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_until(process: subprocess.Popen[str], moment: Callable[[], object]) -> None:
    """Wait until something holds while the process runs; raises AssertionError where it ends or that takes too long."""
    deadline = time.monotonic() + _PATIENCE_S
    while not moment():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"waited too long: {process.communicate()}")
        time.sleep(0.05)


def below(process: subprocess.Popen[str], *words: str) -> list[psutil.Process]:
    """The running processes that a process has started, those whose command line has all the words."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if {*words} <= {*child.cmdline()}:
                found.append(child)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def ended_by_sigterm(process: subprocess.Popen[str]) -> str:
    """What a service has said that ends by SIGTERM, with nothing left behind."""
    started = below(process)
    process.terminate()
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, said
    assert "Traceback" not in said
    _, left = psutil.wait_procs(started, 10)
    assert not left
    return said


def finished(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return dict(json.loads(out))


@contextmanager
def traffic(stage: Stage, start: int, run: str = "") -> Iterator[None]:
    """Payments at a steady rate for as long as the block runs; where the log ends, it begins again with other ids.
    `run`: in front of their ids."""
    over = threading.Event()

    def send() -> None:
        for again in itertools.count():
            for at in range(start, len(stage.live), 20):
                part = stage.live.take(slice(at, at + 20))
                ids = [f"{run}{again}-{name}" for name in part.transaction_id.tolist()]
                stage.produce(replace(part, transaction_id=np.array(ids)))
                if over.wait(0.4):
                    return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
