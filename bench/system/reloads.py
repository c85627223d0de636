"""`panther bench reloads`: a version loaded and unloaded many times over; the server's latency and memory before and
after.

A new version comes to a server every few hours, for years. What each load leaves behind (memory, open files, shared
memory, a slower queue) would be seen here.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from infra.local.triton import TritonPorts, TritonServer
from panther_core.artifact import load_manifest
from panther_core.base.console import progress
from panther_core.base.settings import PantherSettings
from trainer.rollout import deploy

_WARM = 3  # loads before the first measurement: what the first ones take is the price of having served two versions
_ROUNDS = 200  # batches for a latency
_PROCESSES = 2 + len(deploy.MODELS)  # the server, its canary, and those of one version
_END_S = 30.0


def run_reloads(folder: Path, artifact: Path, times: int) -> dict[str, Any]:
    """Load and unload a copy of `artifact` as another version `times` times beside the version itself, which serves.

    Keys: `before`, `after`: ms of a batch (median), MB of the server and its processes, open files, MB of shared
    memory; `load_s`: of the first and the last tenth of the loads. Raises ArtifactError, DeployError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    serving = load_manifest(artifact)
    other = _as_version(artifact, folder / "other", serving.version + 1)
    settings = PantherSettings(triton_key=None, triton_key_file=str(folder / "none"))
    with TritonServer(folder / "models", folder, TritonPorts.free(), key=None) as server:
        settings = settings.model_copy(update={"triton_url": server.grpc_url})
        repository = server.model_repository
        deploy.install(settings, repository, artifact)
        taken, figures = [], {}
        with progress("loads", times) as told:
            for turn in range(-_WARM, times):
                if turn == 0:
                    figures["before"] = _look(server, settings.triton_url, artifact)
                began = time.perf_counter()
                deploy.install(settings, repository, other)
                taken.append(time.perf_counter() - began)
                deploy.unload(settings.triton_url, repository, serving.version + 1)
                told(max(0, turn + 1))
        figures["after"] = _look(server, settings.triton_url, artifact)
    tenth = max(1, times // 10)
    load_s = {"first": float(np.mean(taken[_WARM : _WARM + tenth])), "last": float(np.mean(taken[-tenth:]))}
    return {"times": times, **figures, "load_s": {name: round(value, 2) for name, value in load_s.items()}}


def _as_version(artifact: Path, folder: Path, number: int) -> Path:
    manifest = msgspec.structs.replace(load_manifest(artifact), version=number)
    shutil.copytree(artifact, folder)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return folder


def _family(server: TritonServer) -> list[psutil.Process]:
    assert server.process is not None
    root = psutil.Process(server.process.ref.pid)
    return [root, *root.children(recursive=True)]


def _look(server: TritonServer, url: str, artifact: Path) -> dict[str, float]:
    """Figures of the server, once the processes of versions that were unloaded have ended."""
    end_s = time.monotonic() + _END_S
    while len(_family(server)) > _PROCESSES and time.monotonic() < end_s:
        time.sleep(0.1)
    family = _family(server)
    (latency,) = deploy.latencies_ms(url, load_manifest(artifact), rounds=_ROUNDS)
    return {
        "batch_ms": round(latency, 2),
        "server_mb": round(sum(p.memory_full_info().uss for p in family) / 1e6, 1),
        "processes": len(family),
        "open_files": sum(p.num_fds() for p in family),
        "shared_memory_mb": round(
            sum(f.stat().st_size for f in Path("/dev/shm").glob(f"{server.shm_prefix}*")) / 1e6, 1
        ),
    }
