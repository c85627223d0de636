"""The real Triton: the canary tells a dead Python process, which the server itself reports as ready."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local.errors import PortInUse, StartFailed
from infra.local.process import group_members
from infra.local.triton import TritonPorts, TritonServer, versioned_models
from infra.local.triton_health import canary_problem
from panther_core.base.settings import triton_headers
from tests.fixtures_stack import TritonUnderTest

_CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 0
input [ {{ name: "X", data_type: TYPE_INT64, dims: [ 1 ] }} ]
output [ {{ name: "Y", data_type: TYPE_INT64, dims: [ 1 ] }} ]
"""
_MODEL = """
import panther_core, pathlib
pathlib.Path(__file__).with_name("imported").write_text(panther_core.__file__)
class TritonPythonModel:
    def execute(self, requests): return [None for _ in requests]
"""
_BROKEN = "raise RuntimeError('weights are missing')\n"


def _add_model(repository: Path, name: str, code: str) -> Path:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(_CONFIG.format(name=name))
    (version / "model.py").write_text(code)
    return version


def _stubs(server: TritonServer) -> dict[str, int]:
    """Process id of each model's Python process, by the model's name."""
    assert server.process is not None
    found = {}
    for pid in group_members(server.process.ref.pid):
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if argv[0].endswith("stub"):
            found[Path(argv[1]).parents[1].name] = pid
    return found


def _local(triton: TritonUnderTest) -> TritonServer:
    if triton.server is None:
        pytest.skip("TRITON_URL names a server whose processes are not ours")
    return triton.server


def test_the_canary_answers_and_only_loopback_listens(triton: TritonUnderTest) -> None:
    server = _local(triton)
    assert canary_problem(triton.grpc_url) is None
    assert server.problem() is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # sends nothing; the kernel chooses the address of this machine for such a connection
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    for port in server.ports:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((own, port), 1)


def test_only_who_has_the_key_may_change_anything(triton: TritonUnderTest) -> None:
    import tritonclient.grpc as client_module
    from tritonclient.utils import InferenceServerException

    server = _local(triton)
    with client_module.InferenceServerClient(server.grpc_url) as client:
        closed: list[Callable[..., object]] = [
            client.get_model_repository_index,
            lambda **k: client.load_model("canary", **k),
            lambda **k: client.load_model("canary", config="{}", files={"file:1/model.py": b""}, **k),
            lambda **k: client.unload_model("nobody", **k),
            lambda **k: client.get_model_config("canary", **k),
            lambda **k: client.get_inference_statistics("canary", **k),
            lambda **k: client.register_system_shared_memory("x", "/x", 8, **k),
            client.get_system_shared_memory_status,
            client.get_cuda_shared_memory_status,
            lambda **k: client.update_trace_settings(settings={"trace_level": "OFF"}, **k),
            lambda **k: client.update_log_settings({"log_verbose_level": 0}, **k),
        ]
        for call in closed:
            for headers in (None, triton_headers("another key")):
                with pytest.raises(InferenceServerException, match="restricted"):
                    call(headers=headers)
        assert client.get_model_repository_index(headers=triton.headers).models
        assert client.is_server_ready()
        assert client.get_model_metadata("canary").name == "canary"


def test_http_answers_health_and_nothing_else(triton: TritonUnderTest) -> None:
    server = _local(triton)
    for path in ("", "/models/canary", "/models/canary/config", "/models/stats", "/logging", "/trace/setting"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{server.http_url}/v2{path}", timeout=5)
    for path in ("/models/canary/infer", "/repository/index", "/repository/models/canary/load"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{server.http_url}/v2{path}", data=b"{}", timeout=5)
    with urllib.request.urlopen(f"{server.http_url}/v2/health/ready", timeout=5) as reply:
        assert reply.status == 200


def test_the_key_is_in_no_process_list_and_no_log(triton: TritonUnderTest) -> None:
    server = _local(triton)
    assert server.process is not None
    assert server.key
    for pid in group_members(server.process.ref.pid):
        assert server.key not in Path(f"/proc/{pid}/cmdline").read_text()
        assert server.key not in Path(f"/proc/{pid}/environ").read_text()
    assert "--grpc-restricted-protocol=" in Path(f"/proc/{server.process.ref.pid}/cmdline").read_text()
    assert server.key not in server.log_path.read_text()


def test_a_model_imports_the_very_panther_core_of_this_checkout(triton: TritonUnderTest) -> None:
    import tritonclient.grpc as client_module

    import panther_core

    server = _local(triton)
    version = _add_model(server.model_repository, "imports_core", _MODEL)
    with client_module.InferenceServerClient(server.grpc_url) as client:
        client.load_model("imports_core", headers=triton.headers)
        imported = (version / "imported").read_text()
        client.unload_model("imports_core", headers=triton.headers)
    assert Path(imported).resolve() == Path(str(panther_core.__file__)).resolve()


@pytest.mark.parametrize("name", ["canary", "other"])
def test_a_killed_python_process_is_noticed_and_a_reload_heals_it(triton: TritonUnderTest, name: str) -> None:
    import tritonclient.grpc as client_module

    server = _local(triton)
    with client_module.InferenceServerClient(server.grpc_url) as client:
        if name not in _stubs(server):
            _add_model(server.model_repository, name, _MODEL)
            client.load_model(name, headers=triton.headers)
        os.kill(_stubs(server)[name], signal.SIGKILL)
        end_s = time.monotonic() + 5
        while name in _stubs(server) and time.monotonic() < end_s:
            time.sleep(0.01)
        assert client.is_server_ready()
        assert client.is_model_ready(name), "Triton notices it by now: the census of processes can go"
        problem = server.problem()
        assert problem is not None
        assert ("not healthy" if name == "canary" else "other/1 (0 of 1)") in problem
        client.unload_model(name, headers=triton.headers)
        client.load_model(name, headers=triton.headers)
    assert server.problem() is None


def test_a_model_that_fails_to_load_fails_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    _add_model(tmp_path / "models", "broken", _BROKEN)
    server = TritonServer(tmp_path / "models", tmp_path, TritonPorts.free())
    server.spawn()
    assert server.process is not None
    group = server.process.ref.pid
    with pytest.raises(StartFailed, match="it ended") as failed:
        server.wait_ready()
    server.stop()
    assert "weights are missing" in server.log_path.read_text()
    assert failed.value.log_path == server.log_path
    assert group_members(group) == []
    assert list(Path("/dev/shm").glob(f"{server.shm_prefix}*")) == []
    assert versioned_models(tmp_path / "models") == ["broken", "canary"]


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = TritonPorts.free()._replace(grpc=taken.getsockname()[1])
        with pytest.raises(PortInUse, match="--triton-grpc-port"):
            TritonServer(tmp_path / "models", tmp_path, ports).start()
