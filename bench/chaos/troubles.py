"""The troubles of `panther chaos`, one function each; it returns when the cause is gone, while effects may last.

Here are those of processes, disks and networks; log_troubles.py has those that come through Kafka.

None needs root: they signal processes of this user, cut connections in a proxy on loopback, and stand in for a full
disk with a file size limit on the running worker (prlimit). RocksDB's write fails in the same call as on a full disk,
with EFBIG in place of ENOSPC.
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

from bench.chaos.evidence import MERCHANTS
from bench.chaos.log_troubles import LOG_TROUBLES
from bench.chaos.proxy import Cut
from bench.chaos.stage import ChaosStage


class Trouble(Protocol):
    """Makes the trouble, and returns for people what was hit and for how long."""

    __name__: str

    async def __call__(self, stage: ChaosStage, rng: random.Random, /) -> str: ...


_CUTS: tuple[Cut, ...] = ("stall", "refuse", "reset")
#: Longer than the worker's session timeout (6 s): other workers take its partitions before it wakes and finds out.
_ZOMBIE_S = (8.0, 10.0)
_FULL_BYTES = 4096  # size limit of a file while the disk is "full": the next batch of states does not fit


async def worker_killed(stage: ChaosStage, rng: random.Random) -> str:
    """kill -9 of a worker, which is started again at once or up to 3 s later."""
    name = rng.choice(stage.names)
    with stage.kept_down(name):
        stage.kill(name)
        await asyncio.sleep(rng.choice([0, rng.uniform(0, 3)]))
    return name


async def state_deleted(stage: ChaosStage, rng: random.Random) -> str:
    """kill -9 of a worker, whose state folder is deleted before it is started again."""
    name = rng.choice(stage.names)
    with stage.kept_down(name):
        stage.kill(name)
        await asyncio.to_thread(shutil.rmtree, stage.system.folder / name, True)
    return name


async def merchants_killed(stage: ChaosStage, rng: random.Random) -> str:
    """kill -9 of the process that keeps merchants, whose state folder may be deleted before it is started again."""
    deleted = rng.random() < 0.5
    with stage.kept_down(MERCHANTS):
        stage.kill(MERCHANTS)
        if deleted:
            await asyncio.to_thread(shutil.rmtree, stage.system.folder / MERCHANTS, True)
        await asyncio.sleep(rng.uniform(0, 3))
    return "state deleted" if deleted else "state kept"


async def _kill_and_start(stage: ChaosStage, part: str, seconds: float) -> str:
    with stage.kept_down(part):
        stage.kill(part)
        await asyncio.sleep(seconds)
        await stage.start_missing()
    return part


async def broker_killed(stage: ChaosStage, rng: random.Random) -> str:
    """kill -9 of Kafka, which is started again on the same data."""
    return await _kill_and_start(stage, "kafka", rng.uniform(0, 2))


async def triton_killed(stage: ChaosStage, rng: random.Random) -> str:
    """kill -9 of the model server and its processes, which are started again."""
    return await _kill_and_start(stage, "triton", rng.uniform(0, 4))


async def stub_killed(stage: ChaosStage, rng: random.Random) -> str:
    """kill -9 of the process that serves one of the models; Triton itself still reports ready."""
    model = rng.choice(["panther_score", "panther_encode", "panther_explain"])
    with contextlib.suppress(psutil.NoSuchProcess):  # the whole server may be down already
        for child in psutil.Process(stage.pids["triton"]).children(recursive=True):
            if any(model in part for part in child.cmdline()):
                child.kill()
    return model


async def triton_slow(stage: ChaosStage, rng: random.Random) -> str:
    """The model server is stopped for some seconds (SIGSTOP) and goes on."""
    seconds = rng.uniform(1, 3)
    stage.kill("triton", signal.SIGSTOP)
    await asyncio.sleep(seconds)
    stage.kill("triton", signal.SIGCONT)
    return f"{seconds:.1f} s"


async def network_cut(stage: ChaosStage, rng: random.Random) -> str:
    """Connections to a model server stall, are refused, or are reset."""
    proxy, how, seconds = rng.choice(stage.proxies), rng.choice(_CUTS), rng.uniform(0.5, 4)
    await proxy.cut(how, seconds)
    return how if how == "reset" else f"{how} {seconds:.1f} s"


async def disk_full(stage: ChaosStage, rng: random.Random) -> str:
    """No file of a worker can grow for some seconds, so it cannot store states."""
    name = rng.choice(stage.names)
    with stage.kept_down(name):
        pid = stage.system.workers[name].ref.pid
        _limit_files(pid, _FULL_BYTES)
        await asyncio.sleep(rng.uniform(1, 4))
        _limit_files(pid, resource.RLIM_INFINITY)
    return name


def _limit_files(pid: int, limit: int) -> None:
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit if limit >= 0 else hard, hard))
    except ProcessLookupError:  # the worker has ended because of the full disk, as it should
        pass


async def worker_paused(stage: ChaosStage, rng: random.Random) -> str:
    """A worker is stopped for longer than its session timeout, and goes on as if it still owned its partitions."""
    name, seconds = rng.choice(stage.names), rng.uniform(*_ZOMBIE_S)
    with stage.kept_down(name):
        stage.kill(name, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        stage.kill(name, signal.SIGCONT)
    return f"{name} {seconds:.1f} s"


_ALL: tuple[Trouble, ...] = (
    *(worker_killed, state_deleted, worker_paused, disk_full, broker_killed, merchants_killed),
    *(triton_killed, stub_killed, triton_slow, network_cut),
    *LOG_TROUBLES,
)
TROUBLES: dict[str, Trouble] = {trouble.__name__: trouble for trouble in _ALL}


def schedule(count: int, kinds: tuple[str, ...], seed: int) -> list[str]:
    """Names of `count` troubles in random order; each kind occurs once before any occurs again."""
    rng, out = random.Random(seed), list[str]()
    while len(out) < count:
        out += rng.sample(kinds, len(kinds))
    return out[:count]
