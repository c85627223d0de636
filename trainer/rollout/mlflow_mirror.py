"""Versions, figures and aliases in MLflow too, where MLFLOW_TRACKING_URI is set: a mirror, from which nothing is read.

What is live is what `models.updates` says. So a failure of MLflow stops and undoes nothing: it is said, and `reconcile`
(`panther models mirror`) makes up for it. Each version is a run and a version of the registered model, both found again
by the checksum of the manifest, since MLflow counts versions in its own way.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from rich.markup import escape

from panther_core.artifact import MANIFEST, PAGE, SIGNATURE, Manifest, load_manifest, sha256
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.data.events import ModelUpdate
from trainer.rollout.aliases import ALIASES, aliases, manifest_in, versions_in
from trainer.rollout.describe import DECISION

Event: TypeAlias = Literal["trained", "promoted", "refused", "rolled_back"]
_URI = "MLFLOW_TRACKING_URI"
_UPLOADED = (MANIFEST, SIGNATURE, PAGE, DECISION, "refresh.html")
_VERSION, _CHECKSUM, _EVENT = "panther.version", "panther.manifest_sha256", "panther.event"
_LONGEST = 5000  # characters of a tag
#: MLflow's own defaults wait minutes for a server that is gone, and report what is called to its makers
_QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_PARAMS = ("code_version", "seed", "schema_fingerprint", "tokenizer_version", "vocabulary_size", "alert_budget")


def tracking_uri() -> str | None:
    """Where MLflow is; None where nothing is mirrored."""
    return os.environ.get(_URI) or None


def mirror(folder: Path, event: Event, gate: Sequence[msgspec.Struct] | None = None) -> bool:
    """Tell MLflow what became of the version in `folder`; `gate`: the checks that it was judged by.

    Does nothing where MLFLOW_TRACKING_URI is not set. Never raises: a failure is said, and returned as False.
    """
    return _said(lambda client: _tell(client, folder, load_manifest(folder), event, msgspec.to_builtins(gate or ())))


def reconcile(history: list[ModelUpdate], models_dir: Path) -> bool:
    """Tell MLflow of each version in `models_dir`, and set the aliases as they are here. As `mirror` in all else."""

    def run(client: Any) -> None:
        places = versions_in(models_dir)
        versions = {manifest.version: (place, manifest) for place, manifest in places.items()}
        last = {update.version: update for update in history}
        for update in last.values():  # where a version was promoted from counts, and may lie elsewhere
            place = Path(update.artifact)
            manifest = places.get(place) or manifest_in(place)
            if manifest is not None and manifest.version == update.version:
                versions[update.version] = place, manifest
        known = {number: (found[1].name, _ensure(client, *found)) for number, found in versions.items()}
        wanted = aliases(history, places)
        for name in {name for name, _ in known.values()}:
            held = client.get_registered_model(name).aliases
            for alias in ALIASES:
                model, number = known.get(wanted.get(alias, 0), ("", ""))
                if model == name and held.get(alias) != number:
                    client.set_registered_model_alias(name, alias, number)
                elif model != name and alias in held:
                    client.delete_registered_model_alias(name, alias)
        if lacking := [f"{alias} {number}" for alias, number in wanted.items() if number not in known]:
            raise BadInput(f"expected the artifacts of {', '.join(lacking)}, found none: they have no alias in MLflow")

    return _said(run)


def _said(work: Callable[[Any], None]) -> bool:
    if tracking_uri() is None:
        return True
    try:
        with redirect_stdout(sys.stderr):  # MLflow prints there, where a program reads one JSON object
            work(_client())
    except Exception as error:  # the mirror is beside the system, whatever MLflow raises
        text = re.sub(r"//[^/@\s]+@", "//", " ".join(str(error).split()))[:400]  # an address may hold a password
        say(f"  [bold red]MLflow is not up to date[/] {escape(text)}; `panther models mirror` tells it all again")
        return False
    return True


def _client() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise BadInput(
            f"expected MLflow's client, since {_URI} is set, got {error}: `pip install mlflow-skinny`, or unset it"
        ) from None
    return MlflowClient()


def _tell(client: Any, folder: Path, manifest: Manifest, event: Event, gate: Sequence[dict[str, Any]]) -> None:
    from mlflow.entities import Metric, RunTag

    number = _ensure(client, folder, manifest)
    client.set_model_version_tag(manifest.name, number, _EVENT, event)
    tags, metrics = [RunTag(_EVENT, event)], []
    for check in gate:
        name = _word(f"gate/{check['check']}")
        tags.append(RunTag(name, f"{'held' if check['held'] else 'not held'}: {check['why']}"[:_LONGEST]))
        for side in ("champion", "challenger"):
            if check[side] is not None:
                metrics.append(Metric(f"{name}/{side}", check[side], manifest.created_at, 0))
    run_id = client.get_model_version(manifest.name, number).run_id
    client.log_batch(run_id, metrics=metrics, tags=tags)
    _upload(client, run_id, folder)  # the decision and the signature may have come after the training


def _ensure(client: Any, folder: Path, manifest: Manifest) -> str:
    """MLflow's number of the version, which is made with its run where it is not there."""
    from mlflow.exceptions import MlflowException

    checksum = sha256(folder / MANIFEST)
    try:
        client.create_registered_model(manifest.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for there in client.search_model_versions(f"name = '{manifest.name}'"):
        if there.tags.get(_CHECKSUM) == checksum:
            return str(there.version)
    run_id = _run(client, folder, manifest, checksum)
    tags = {_VERSION: str(manifest.version), _CHECKSUM: checksum, _EVENT: "trained", "panther.artifact": str(folder)}
    # a server takes no path of this machine for a source; the weights stay in the folder of models
    made = client.create_model_version(manifest.name, f"runs:/{run_id}/version", run_id, tags, await_creation_for=0)
    return str(made.version)


def _run(client: Any, folder: Path, manifest: Manifest, checksum: str) -> str:
    """The run of the version: the one that an earlier try has left, or a new one."""
    from mlflow.entities import Metric, Param, RunTag

    found = client.get_experiment_by_name(manifest.name)
    experiment = found.experiment_id if found is not None else client.create_experiment(manifest.name)
    left = client.search_runs([experiment], f"tags.`{_CHECKSUM}` = '{checksum}'")
    title, tags = f"{manifest.name} {manifest.version}", {_VERSION: str(manifest.version), _CHECKSUM: checksum}
    run = left[0] if left else client.create_run(experiment, manifest.created_at, tags, title)
    run_id = str(run.info.run_id)
    params = {name: getattr(manifest, name) for name in _PARAMS}
    params |= {f"config.{name}": value for name, value in msgspec.to_builtins(manifest.config).items()}
    figures = {"threshold": manifest.threshold}
    for part, measured in manifest.metrics.items():
        for name, value in measured.items() if isinstance(measured, dict) else ():
            if isinstance(value, int | float):
                figures[f"{part}/{name}"] = value
    faults = "; ".join(manifest.metrics.get("faults", []))
    client.log_batch(
        run_id,
        metrics=[Metric(_word(name), value, manifest.created_at, 0) for name, value in figures.items()],
        params=[Param(name, str(value)) for name, value in params.items()],
        tags=[RunTag("panther.faults", faults[:_LONGEST])],
    )
    _upload(client, run_id, folder)
    client.set_terminated(run_id)
    return run_id


def _upload(client: Any, run_id: str, folder: Path) -> None:
    for name in _UPLOADED:
        if (folder / name).is_file() and not (folder / name).is_symlink():
            client.log_artifact(run_id, str(folder / name), "version")


def _word(name: str) -> str:
    """A name that MLflow takes for a metric or a tag."""
    return re.sub(r"[^\w\-./ :]", "_", name)
