"""What a real MLflow server with a store of SQLite holds of the versions, and what is done where there is none."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.ports import pick_free
from panther_core.artifact import load_manifest
from tests.versions import as_version, switches
from trainer.rollout.checks import Check
from trainer.rollout.mlflow_mirror import mirror, reconcile

CHECKS = [
    Check("average_precision", True, 0.5, 0.6, (0.01, 0.2), "the challenger is better"),
    Check("population", False, None, 0.3, None, "another population"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow"), pick_free(1)[0]
    argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    argv += ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--artifacts-destination", str(folder / "files")]
    # the jobs of its evaluations need packages that a registry does not
    env = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"  # it starts uvicorn by its name
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            url, end_s = f"http://127.0.0.1:{port}", time.monotonic() + 180
            while True:
                try:
                    with urllib.request.urlopen(f"{url}/health", timeout=5):
                        break
                except (urllib.error.URLError, OSError):
                    assert process.poll() is None, (folder / "log").read_text()[-3000:]
                    assert time.monotonic() < end_s, (folder / "log").read_text()[-3000:]
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    return MlflowClient(server)


def numbers(client: Any, name: str) -> dict[str, int]:
    """The version that each alias stands for, in our numbers."""
    held = client.get_registered_model(name).aliases
    return {alias: int(client.get_model_version(name, at).tags["panther.version"]) for alias, at in held.items()}


def versions(artifact: Path, folder: Path, name: str, count: int) -> Path:
    folder.mkdir()
    for number in range(1, count + 1):
        as_version(number, artifact, folder / str(number), name=name)
    return folder


def test_a_version_is_there_once_with_its_figures_and_what_became_of_it(
    client: Any, artifact_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = versions(artifact_folder, tmp_path / "models", "once", 2)
    assert mirror(models / "2", "trained")
    (models / "2" / "refresh.json").write_text("{}")
    assert mirror(models / "2", "refused", CHECKS)
    assert capsys.readouterr().out == "", "stdout is for the one JSON object of a command"
    (version,) = client.search_model_versions("name = 'once'")
    assert (version.tags["panther.version"], version.tags["panther.event"]) == ("2", "refused")
    (run,) = client.search_runs([client.get_experiment_by_name("once").experiment_id])
    manifest = load_manifest(models / "2")
    assert (version.run_id, run.info.status) == (run.info.run_id, "FINISHED")
    assert run.data.metrics["threshold"] == manifest.threshold
    assert run.data.metrics["test/average_precision"] == manifest.metrics["test"]["average_precision"]
    assert run.data.metrics["gate/average_precision/challenger"] == 0.6
    assert "gate/population/champion" not in run.data.metrics
    assert run.data.tags["gate/population"] == "not held: another population"
    wanted = {"seed": str(manifest.seed), "config.length": str(manifest.config.length)}
    assert run.data.params | wanted == run.data.params
    kept = {file.path for file in client.list_artifacts(run.info.run_id, "version")}
    assert kept == {"version/manifest.json", "version/report.html", "version/refresh.json"}


def test_aliases_are_those_that_follow_from_what_is_live(client: Any, artifact_folder: Path, tmp_path: Path) -> None:
    models = versions(artifact_folder, tmp_path / "models", "named", 4)
    steps = {
        (): {"challenger": 4},
        (1, 3): {"champion": 3, "previous": 1, "challenger": 4},
        (1, 3, 4): {"champion": 4, "previous": 3},
        (1, 3, 4, 3): {"champion": 3, "previous": 1},
        (1, 3, 4, 3, 1): {"champion": 1},
    }
    for live, expected in steps.items():
        assert reconcile(switches(models, *live), models)
        assert numbers(client, "named") == expected
    assert len(client.search_model_versions("name = 'named'")) == 4
    client.set_registered_model_alias("named", "of-somebody-else", "1")
    client.set_registered_model_alias("named", "champion", "4")
    assert reconcile(switches(models, 1, 3, 4, 3, 1), models)
    assert numbers(client, "named") == {"champion": 1, "of-somebody-else": 1}


def test_a_live_version_that_lies_elsewhere_has_its_alias(client: Any, artifact_folder: Path, tmp_path: Path) -> None:
    models = versions(artifact_folder, tmp_path / "models", "far", 1)
    (tmp_path / "elsewhere").mkdir()
    as_version(2, artifact_folder, tmp_path / "elsewhere" / "2", name="far")
    history = switches(models, 1) + switches(tmp_path / "elsewhere", 2)
    assert reconcile(history, models)
    assert numbers(client, "far") == {"champion": 2, "previous": 1}


def test_an_alias_without_an_artifact_is_said(
    client: Any, artifact_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = versions(artifact_folder, tmp_path / "models", "lost", 1)
    assert not reconcile(switches(models, 1, 9), models)
    assert "expected the artifacts of champion 9, found none" in capsys.readouterr().err
    assert numbers(client, "lost") == {"previous": 1}, "what could be told was told"


def test_a_server_that_does_not_answer_stops_nothing_and_its_password_is_not_said(
    artifact_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:1")
    assert not mirror(artifact_folder, "promoted")
    said = capsys.readouterr().err
    assert "MLflow is not up to date" in said
    assert "secret" not in said


def test_a_client_that_is_not_installed_is_named(
    artifact_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "mlflow":
            raise ModuleNotFoundError("No module named 'mlflow'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert not mirror(artifact_folder, "trained")
    assert "pip install mlflow-skinny" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert mirror(artifact_folder, "trained"), "where no address is set nothing is mirrored, and nothing needed"
    assert reconcile([], artifact_folder)
