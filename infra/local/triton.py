"""A real Triton inference server on this machine, from the nvidia-pytriton wheel, over plain model folders.

The wheel's `tritonserver` is used as it is; pytriton's own Python layer is never imported.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from infra.local.errors import StackError
from infra.local.ports import LOOPBACK, pick_free, require_free
from infra.local.process import ManagedProcess
from infra.local.server import Server
from infra.local.triton_health import canary_problem, dead_instances
from panther_core.base.settings import TRITON_KEY_NAME, triton_headers

CANARY = "canary"
MODELS_IN_REPOSITORY = Path(__file__).resolve().parents[2] / "triton_models"
_START_DEADLINE_S = 120.0
# Room for a micro-batch of 256 users with 2 KB each and its outputs; Triton's default of 1 MB would grow under load.
_SHM_BYTES = 4 * 1024 * 1024
_EXIT_TIMEOUT_S = 3
# What a server with a key answers for its holders alone. Over gRPC whoever reaches the server may ask for inference,
# health and metadata; over HTTP for health (HTTP is there for probes).
_RESTRICTED_GRPC = "model-repository,model-config,shared-memory,statistics,trace,logging"
_RESTRICTED_HTTP = f"metadata,inference,{_RESTRICTED_GRPC}"


class TritonPorts(NamedTuple):
    """The three loopback ports of a server."""

    http: int = 18000
    grpc: int = 18001
    metrics: int = 18002

    @classmethod
    def free(cls) -> TritonPorts:
        """Three ports that are free now."""
        return cls(*pick_free(3))


class TritonServer(Server):
    """One server over `model_repository`, its backend folder and log below `folder`; ready once the canary echoes."""

    name, start_deadline_s = "triton", _START_DEADLINE_S

    def __init__(
        self,
        model_repository: Path,
        folder: Path,
        ports: TritonPorts = TritonPorts(),  # noqa: B008 - immutable
        load_models: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> None:
        """Nothing is started here.

        load_models: names to load at the start; None loads every model that has a version folder.
        env: variables for the server and its models, on top of this process's own.
        key: asked of everybody who loads, unloads or configures anything; None lets everybody do it.
        """
        super().__init__(folder)
        self.key = key
        self.model_repository, self.ports = model_repository.resolve(), ports
        self.load_models, self.env = load_models, dict(env or {})
        self.grpc_url = f"{LOOPBACK}:{ports.grpc}"
        self.http_url = f"http://{LOOPBACK}:{ports.http}"
        self.metrics_url = f"http://{LOOPBACK}:{ports.metrics}/metrics"
        # Prefix of this server's shared memory, to find and remove the files that a SIGKILL leaves in /dev/shm.
        self.shm_prefix = f"panther_{secrets.token_hex(4)}_"

    def spawn(self) -> None:
        """Prepare the folders and start the server without waiting for it. Raises PortInUse, StackError."""
        for option, port in zip(("http", "grpc", "metrics"), self.ports, strict=True):
            require_free(f"triton {option}", port, f"--triton-{option}-port")
        seed_model(CANARY, self.model_repository)
        package, libraries = _wheel()
        backends = _prepare_backend(package, self.folder / "triton")
        # Waiting threads of the models must sleep, not spin, because the broker and the worker share these cores.
        env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **self.env}
        # The stub's interpreter ignores PYTHONPATH and finds its environment by the first python3 on PATH.
        env["PATH"] = f"{Path(sys.prefix) / 'bin'}:{env.get('PATH', os.defpath)}"
        env["LD_LIBRARY_PATH"] = f"{libraries}:{sysconfig.get_config_var('LIBDIR')}"
        argv = [str(package / "tritonserver" / "bin" / "tritonserver"), *self._options(backends)]
        # The stub puts its working directory first on sys.path, so the directory must be empty to shadow no package.
        cwd = self.folder / "triton" / "cwd"
        cwd.mkdir(exist_ok=True)
        self.process = ManagedProcess.start(
            self.name, argv, self.log_path, env, cwd, leftovers=f"/dev/shm/{self.shm_prefix}*"
        )

    def wait_ready(self) -> None:
        """Return once the server answers; raises StartFailed. From then on `ps` does not show the key."""
        super().wait_ready()
        if self.key and self.process is not None:
            hide_argument(self.process.ref.pid, self.key)

    def answer_problem(self) -> str | None:
        """None when the canary echoes, else what is wrong."""
        return canary_problem(self.grpc_url)

    def problem(self) -> str | None:
        """None when the canary echoes and every loaded model has all of its Python processes, else what is wrong."""
        if problem := super().problem():
            return problem
        assert self.process is not None  # without a process there is a problem above
        if dead := dead_instances(self.grpc_url, self.process.ref.pid, triton_headers(self.key)):
            return f"reported ready, but with dead Python processes: {', '.join(dead)}; unload and load"
        return None

    def stop(self) -> bool:
        """Stop the server and its models. True when the server ended without SIGKILL, or did not run."""
        clean = super().stop()
        for left in Path("/dev/shm").glob(f"{self.shm_prefix}*"):
            left.unlink(missing_ok=True)
        return clean

    def _options(self, backends: Path) -> list[str]:
        names = versioned_models(self.model_repository) if self.load_models is None else self.load_models
        options = [
            f"--model-repository={self.model_repository}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            "--strict-readiness=false",
            # Without this option every Python model is started twice, the first time only to be asked for its config.
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
            f"--backend-config=python,shm-default-byte-size={_SHM_BYTES}",
            f"--backend-config=python,shm-growth-byte-size={_SHM_BYTES}",
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
        ]
        for option, port in zip(("http", "grpc", "metrics"), self.ports, strict=True):
            # Triton's default address is 0.0.0.0, which other machines can reach.
            options += [f"--{option}-address={LOOPBACK}", f"--{option}-port={port}"]
        if self.key:
            options += [
                f"--grpc-restricted-protocol={_RESTRICTED_GRPC}:{TRITON_KEY_NAME}={self.key}",
                f"--http-restricted-api={_RESTRICTED_HTTP}:{TRITON_KEY_NAME}={self.key}",
            ]
        if not Path("/dev/nvidiactl").exists():
            options += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
        return options + [f"--load-model={name}" for name in dict.fromkeys((CANARY, *names))]


def seed_model(name: str, model_repository: Path) -> Path:
    """Copy the folder of model `name` from `triton_models/` into a model repository; returns the copy."""
    source, target = MODELS_IN_REPOSITORY / name, model_repository / name
    if not source.is_dir():
        raise StackError(f"expected the model folder {source}, found none; is this a full checkout?")
    if source.resolve() != target.resolve():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def hide_argument(pid: int, secret: str) -> None:
    """Overwrite `secret` in the arguments of a process of ours, which every user of the machine can read.

    Triton takes its key from an argument alone: not from the environment, not from a file. It keeps a copy of what it
    has read, so its arguments may be changed. Does nothing where the kernel does not let a parent write to its child.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        arguments = memory.read(end - start)
        memory.seek(start)
        memory.write(arguments.replace(secret.encode(), b"*" * len(secret.encode())))


def versioned_models(model_repository: Path) -> list[str]:
    """Names of the models in a model repository that have at least one version folder, sorted."""
    configs = model_repository.glob("*/config.pbtxt")
    return sorted(c.parent.name for c in configs if any(v.name.isdigit() for v in c.parent.iterdir()))


def _wheel() -> tuple[Path, Path]:
    """The `pytriton` package folder and the folder of its bundled libraries."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise StackError(
            "expected the package nvidia-pytriton, found none; install the optional dependencies `local`, "
            "or point TRITON_URL to a server that runs already"
        )
    package = Path(spec.origin).parent
    return package, package.parent / "nvidia_pytriton.libs"


def _prepare_backend(package: Path, folder: Path) -> Path:
    """Make a backend folder with the stub for this version of Python; the installed package is left unchanged."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = package / "tritonserver" / "python_backend_stubs"
    stub = stubs / python / "triton_python_backend_stub"
    if not stub.exists():
        found = ", ".join(sorted(entry.name for entry in stubs.iterdir()))
        raise StackError(f"expected a Triton stub for Python {python}, found those for {found}; use one of them")
    backend = folder / "backends" / "python"
    # The old folder is removed first, because writing over a stub that still runs fails with ETXTBSY.
    shutil.rmtree(backend, ignore_errors=True)
    shutil.copytree(package / "tritonserver" / "backends" / "python", backend)
    shutil.copy2(stub, backend)
    # The stub has its backend folder on sys.path. By this link the models import the panther_core that this process
    # imports, whether it is installed or not.
    core = importlib.util.find_spec("panther_core")
    if core is None or core.origin is None:
        raise StackError("expected the package panther_core to be importable; run from the repository root")
    (backend / "panther_core").symlink_to(Path(core.origin).resolve().parent, target_is_directory=True)
    return backend.parent
