"""What can happen to the system: one function a trouble, which returns when its cause is gone (not its effects).

Everything works without root: signals to processes of one's own, a proxy on loopback, and a file size limit set on the
running worker (prlimit) in place of a full disk: RocksDB's write fails in the same call, with EFBIG for ENOSPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import shutil
import signal
from typing import Protocol

import psutil

from bench.chaos.proxy import Cut
from bench.chaos.stage import Stage


class Trouble(Protocol):
    """Makes it, and says what exactly."""

    __name__: str

    async def __call__(self, stage: Stage, rng: random.Random, /) -> str: ...


_CUTS: tuple[Cut, ...] = ("stall", "refuse", "reset")
#: over the worker's session timeout (6 s): the others take its partitions, and it does not know when it wakes
_ZOMBIE_S = (8.0, 10.0)
_FULL_BYTES = 4096  # files may not grow beyond: the next batch of states does not fit


async def worker_killed(stage: Stage, rng: random.Random) -> str:
    """kill -9 of a worker; it is started again at once, or after a while."""
    name = rng.choice(stage.names)
    with stage.holding(name):
        stage.kill(name)
        await asyncio.sleep(rng.choice([0, rng.uniform(0, 3)]))
    return name


async def state_deleted(stage: Stage, rng: random.Random) -> str:
    """kill -9 of a worker, and its state folder is gone when it comes back."""
    name = rng.choice(stage.names)
    with stage.holding(name):
        stage.kill(name)
        await asyncio.to_thread(shutil.rmtree, stage.system.folder / name, True)
    return name


async def broker_killed(stage: Stage, rng: random.Random) -> str:
    """kill -9 of Kafka, and its start on the same data."""
    with stage.holding("kafka"):
        stage.kill("kafka")
        await asyncio.sleep(rng.uniform(0, 2))
        await stage.mend()
    return "kafka"


async def triton_killed(stage: Stage, rng: random.Random) -> str:
    """kill -9 of the model server and its processes, and its start."""
    with stage.holding("triton"):
        stage.kill("triton")
        await asyncio.sleep(rng.uniform(0, 4))
        await stage.mend()
    return "triton"


async def stub_killed(stage: Stage, rng: random.Random) -> str:
    """kill -9 of the process that holds one of the models; the server itself still reports ready."""
    model = rng.choice(["panther_score", "panther_encode", "panther_explain"])
    with contextlib.suppress(psutil.NoSuchProcess):  # the whole server may be down already
        for child in psutil.Process(stage.pids["triton"]).children(recursive=True):
            if any(model in part for part in child.cmdline()):
                child.kill()
    return model


async def triton_slow(stage: Stage, rng: random.Random) -> str:
    """The model server stands still for some seconds, and goes on."""
    seconds = rng.uniform(1, 3)
    stage.kill("triton", signal.SIGSTOP)
    await asyncio.sleep(seconds)
    stage.kill("triton", signal.SIGCONT)
    return f"{seconds:.1f} s"


async def network_cut(stage: Stage, rng: random.Random) -> str:
    """The way to a model server stalls, is refused, or its connections are reset."""
    proxy, how, seconds = rng.choice(stage.proxies), rng.choice(_CUTS), rng.uniform(0.5, 4)
    await proxy.cut(how, seconds)
    return how if how == "reset" else f"{how} {seconds:.1f} s"


async def disk_full(stage: Stage, rng: random.Random) -> str:
    """No file of a worker can grow for some seconds: states cannot be stored."""
    name = rng.choice(stage.names)
    with stage.holding(name):
        pid = stage.system.workers[name].ref.pid
        _limit_files(pid, _FULL_BYTES)
        await asyncio.sleep(rng.uniform(1, 4))
        _limit_files(pid, resource.RLIM_INFINITY)
    return name


def _limit_files(pid: int, limit: int) -> None:
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit if limit >= 0 else hard, hard))
    except ProcessLookupError:  # it gave up on the full disk, as it should
        pass


async def worker_paused(stage: Stage, rng: random.Random) -> str:
    """A worker stands still for longer than its session, and goes on as if its partitions were still its own."""
    name, seconds = rng.choice(stage.names), rng.uniform(*_ZOMBIE_S)
    with stage.holding(name):
        stage.kill(name, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        stage.kill(name, signal.SIGCONT)
    return f"{name} {seconds:.1f} s"


_ALL: tuple[Trouble, ...] = (
    *(worker_killed, state_deleted, worker_paused, disk_full, broker_killed),
    *(triton_killed, stub_killed, triton_slow, network_cut),
)
TROUBLES: dict[str, Trouble] = {trouble.__name__: trouble for trouble in _ALL}


def schedule(count: int, kinds: tuple[str, ...], seed: int) -> list[str]:
    """Names of `count` troubles: every kind comes up before one comes again, in random order."""
    rng, out = random.Random(seed), list[str]()
    while len(out) < count:
        out += rng.sample(kinds, len(kinds))
    return out[:count]
