"""`panther replay --via kafka`: the log through real brokers, a real worker and Triton, beside the live system.

A shadow shares only the servers with the live group. Its topics have a prefix of their own, its worker an application
id (group, changelog) and a folder of its own, and all of them are removed at the end. Each version runs in a process of
its own (offline.shadow.one_version), whose environment carries the prefix, since a process fixes topic names at start.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from tritonclient.grpc.aio import InferenceServerClient

from offline.replay.measure import measure_file
from offline.replay.request import ReplayRequest, load_replayer, plan_of, window_of
from panther_core.base.errors import BadInput, PantherError
from panther_core.base.files import written_whole
from panther_core.base.settings import KafkaSettings, PantherSettings

_LOOKS = 25
_MODELS = ("panther_encode", "panther_score", "panther_explain")


def run_shadow(request: ReplayRequest, out: Path | None, progress: Callable[[int], None]) -> dict[str, Any]:
    """Replay through a shadow, version by version; files and figures as `run_replay` gives them.

    Raises BadInput (a version that Triton does not serve, another result in `out`), PantherError (a part failed).
    """
    if request.log is not None or request.labels is not None or request.threshold is not None:
        raise BadInput("expected --via kafka with --data alone, got --topic, --labels or --threshold: use --via engine")
    if out is not None and (out / "replay.json").exists():
        raise BadInput(f"expected a new folder, {out} holds a finished replay: give another --out or remove it")
    settings, kafka = PantherSettings(), KafkaSettings()
    measured_from = request.measured_from
    plan = plan_of(request, [load_replayer(request, model) for model in request.models])
    asyncio.run(_require_served(settings.triton_url, request.models))
    started, runs, models = time.perf_counter(), [], []
    with tempfile.TemporaryDirectory(prefix="panther-shadow-") as name:
        folder = Path(name)
        for model in request.models:
            runs.append(_one(kafka, settings, request, model, folder))
            progress(runs[-1]["transactions"])
            models.append({"model": model} | measure_file(folder / f"decisions-v{model}.parquet", measured_from))
        seconds = time.perf_counter() - started
        rows = runs[0]["transactions"]
        figures = {"via": "kafka", "transactions": rows, "seconds": round(seconds, 2), "shadow": runs}
        if out is not None:
            _keep(folder, out, plan | figures | {"measured_from": measured_from, "finished": True})
    return (
        figures
        | window_of(request, measured_from, models)
        | {"missing": sum(run["missing"] for run in runs), "models": models}
    )


def _one(
    kafka: KafkaSettings, settings: PantherSettings, request: ReplayRequest, model: int, folder: Path
) -> dict[str, Any]:
    app_id = f"{settings.app_id}-shadow-{time.time_ns()}"
    environment = os.environ | {"PANTHER_APP_ID": app_id, "PANTHER_TOPIC_PREFIX": f"{app_id}."}
    command = [str(Path(sys.prefix) / "bin" / "panther"), "topics", "create", "--json"]
    wanted = {
        "path": str(request.path),
        "format": request.format,
        "period": [request.start, request.end],
        "limit": request.limit,
        "speed": request.speed,
        "label_delay_ms": request.label_delay_ms,
        "artifact": str((request.models_dir / str(model)).resolve()),
        "folder": str(folder),
    }
    try:
        _call(command, environment)
        said = _call([sys.executable, "-m", "offline.shadow.one_version", json.dumps(wanted)], environment)
        return dict(json.loads(said.splitlines()[-1]))
    finally:
        asyncio.run(_remove_topics(kafka, app_id))


def _call(argv: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.splitlines()[-15:])
        raise PantherError(f"{' '.join(argv[1:4])} of the shadow ended with {done.returncode}: {last}")
    return done.stdout


async def _remove_topics(kafka: KafkaSettings, app_id: str) -> None:
    """Delete every topic whose name begins with the shadow's application id, which no other system has."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        for _ in range(_LOOKS):  # the broker takes a moment to delete them
            own = [name for name in await admin.list_topics() if name.startswith(app_id)]
            if not own:
                return
            await admin.delete_topics(own)
            await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def _require_served(urls: str, versions: tuple[int, ...]) -> None:
    for url in urls.split(","):
        client = InferenceServerClient(url.strip())
        try:
            for version in versions:
                for name in _MODELS:
                    if not await client.is_model_ready(name, str(version)):
                        raise BadInput(
                            f"expected version {version} of {name} on Triton at {url}, it is not loaded: "
                            f"`panther models load` it first, or replay with --via engine"
                        )
        finally:
            await client.close()


def _keep(folder: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Copy the results whole; the manifest comes last, so it stands only beside whole files."""
    for path in sorted(folder.glob("decisions-v*.parquet")):
        with written_whole(out / path.name) as part:
            part.write_bytes(path.read_bytes())  # the folder may be on another file system
    with written_whole(out / "replay.json") as part:
        part.write_text(json.dumps(manifest, indent=1))
