"""Kafka and Triton together: started, watched and stopped as one, by the command line and by the tests.

`KAFKA_BOOTSTRAP_SERVERS` and `TRITON_URL` (gRPC, host:port) name servers that run elsewhere. The stack neither starts
nor stops such a server; it only asks whether the server is healthy.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from infra.local.errors import StackError
from infra.local.kafka import KafkaBroker, kafka_problem
from infra.local.ports import pick_free
from infra.local.process import ManagedProcess, ProcessRef
from infra.local.triton import TritonPorts, TritonServer
from infra.local.triton_health import canary_problem
from panther_core.base.files import written_whole

DEFAULT_FOLDER = Path("build/stack")
_STATE_VERSION = 1
_Part = KafkaBroker | TritonServer


class PartStatus(NamedTuple):
    """State of one part (Kafka or Triton); `problem` is None exactly when the part is healthy."""

    name: str
    state: Literal["healthy", "unhealthy", "stopped"]
    address: str
    external: bool = False
    started: bool = False  # by the call of `up` that returned this status
    pid: int | None = None
    problem: str | None = None
    log: str | None = None


class LocalStack:
    """The stack of one run folder: state.json, logs/, kafka/ (data), models/ (the model repository), triton.key."""

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        kafka_port: int = 19092,
        triton_ports: TritonPorts = TritonPorts(),  # noqa: B008 - immutable
        model_repository: Path | None = None,
        controller_port: int | None = None,
        triton_env: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing is started here; `model_repository` is `folder`/models unless told otherwise.

        `triton_env`: variables for Triton and its models, on top of this process's own.
        """
        self.folder = folder.resolve()
        self.model_repository = (model_repository or self.folder / "models").resolve()
        self._wanted: dict[str, _Part] = {
            "kafka": KafkaBroker(self.folder, kafka_port, controller_port),
            "triton": TritonServer(self.model_repository, self.folder, triton_ports, env=triton_env),
        }
        self._external = external_addresses()

    @classmethod
    def on_free_ports(cls, folder: Path, triton_env: Mapping[str, str] | None = None) -> LocalStack:
        """A stack on ports that are free now, for tests: several such stacks can run at the same time."""
        kafka, controller, *triton = pick_free(5)
        return cls(folder, kafka, TritonPorts(*triton), controller_port=controller, triton_env=triton_env)

    def up(self, detach: bool = True) -> list[PartStatus]:
        """Start the parts that do not run or are not healthy; returns once every part is healthy.

        detach: the servers outlive this process. Otherwise they are killed when this process ends, even by SIGKILL.
        Raises StackError (see infra.local.errors); the parts that this call started are then stopped again.
        """
        begun: dict[str, _Part] = {}
        with self._locked():
            running = self._running()
            self._refuse_other_settings(running)
            self._sweep()
            try:
                # Triton first, so that it starts while Kafka formats its storage.
                for name in ("triton", "kafka"):
                    if name in self._external or (name in running and running[name].problem() is None):
                        continue
                    if name in running:
                        running.pop(name).stop()
                    part = begun[name] = self._wanted[name]
                    if isinstance(part, TritonServer):
                        self._make_key()
                        part.key = self.key
                    part.spawn()
                for part in begun.values():
                    part.wait_ready()
                status = self._status({**running, **begun}, set(begun))
                if sick := [part for part in status if part.problem]:
                    raise StackError("; ".join(f"{part.name}: {part.problem}" for part in sick))
                self._save({**running, **begun})
            except BaseException:
                for part in begun.values():
                    part.stop()
                self._save(running)
                raise
            if detach:
                for part in begun.values():
                    if part.process is not None:
                        part.process.release()
        return status

    def down(self) -> list[str]:
        """Stop the parts of this folder's stack, also those that another process started; the data stays.

        Returns the names of the parts that ran.
        """
        with self._locked():
            running = self._running()
            for part in self._saved().values():  # also a part whose server is dead: its helpers may still run
                part.stop()
            for part in self._wanted.values():  # takes the exit status of servers that this process started
                part.stop()
            self._save({})
        return sorted(running)

    def status(self) -> list[PartStatus]:
        """Health of every part, asked now. Starts and stops nothing."""
        return self._status(self._running(), set())

    def __enter__(self) -> LocalStack:
        self.up(detach=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _status(self, running: dict[str, _Part], started: set[str]) -> list[PartStatus]:
        return [self._part_status(name, running.get(name), name in started) for name in self._wanted]

    def _part_status(self, name: str, part: _Part | None, started: bool) -> PartStatus:
        if name in self._external:
            address = self._external[name]
            problem = external_kafka_problem(address) if name == "kafka" else canary_problem(address)
            if problem and "unknown model" in problem:
                problem += "; put triton_models/canary into that server's repository and load it"
            return PartStatus(name, "unhealthy" if problem else "healthy", address, True, problem=problem)
        if part is None or part.process is None:
            address = _address(self._wanted[name])
            return PartStatus(name, "stopped", address, problem="it is not running; `panther up` starts it")
        problem = part.problem()
        return PartStatus(
            name,
            "unhealthy" if problem else "healthy",
            _address(part),
            started=started,
            pid=part.process.ref.pid,
            problem=problem,
            log=str(part.log_path),
        )

    def _refuse_other_settings(self, running: dict[str, _Part]) -> None:
        for name, part in running.items():
            asked, got = _settings(self._wanted[name]), _settings(part)
            if name not in self._external and asked != got:
                raise StackError(
                    f"{name}: asked for {asked}, but the stack of {self.folder} already runs it with {got}; "
                    "run `panther down` first, or name another --dir"
                )

    # ---- state.json ----

    @property
    def key_file(self) -> Path:
        """File with the key of this folder's Triton, for PANTHER_TRITON_KEY_FILE; made by the first `up`."""
        return self.folder / "triton.key"

    @property
    def key(self) -> str | None:
        """The key of this folder's Triton; None before the first `up`."""
        return self.key_file.read_text() if self.key_file.exists() else None

    def _make_key(self) -> None:
        """Make the key if there is none. It stays the same from start to start, since running workers know it."""
        if not self.key:
            with written_whole(self.key_file) as fresh:
                fresh.touch(0o600)
                fresh.write_text(secrets.token_urlsafe(24))

    @property
    def _state_path(self) -> Path:
        return self.folder / "state.json"

    def _running(self) -> dict[str, _Part]:
        """The parts of state.json whose processes still run."""
        return {name: part for name, part in self._saved().items() if part.process and part.process.alive()}

    def _sweep(self) -> None:
        """End what a killed server has left behind: its Python models and its shared memory."""
        for part in self._saved().values():
            if part.process and not part.process.alive():
                part.stop()

    def _saved(self) -> dict[str, _Part]:
        """The parts of state.json, running or not."""
        try:
            state = json.loads(self._state_path.read_bytes())
            if state["version"] != _STATE_VERSION:
                raise ValueError(f"version {state['version']}, expected {_STATE_VERSION}")
            return {name: self._adopt(name, saved) for name, saved in state["parts"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise StackError(
                f"{self._state_path}: expected the state of a local stack, but {error!r}; "
                "end its servers by hand (their ids are in that file), then delete it"
            ) from error

    def _adopt(self, name: str, saved: dict[str, Any]) -> _Part:
        part: _Part
        settings = saved["settings"]
        if name == "kafka":
            part = KafkaBroker(self.folder, settings["port"], settings["controller_port"])
        else:
            ports = TritonPorts(*settings["ports"])
            part = TritonServer(Path(settings["model_repository"]), self.folder, ports, key=self.key)
            part.shm_prefix = saved["shm_prefix"]
        part.process = ManagedProcess(name, ProcessRef(*saved["process"]), part.log_path)
        # For a server that this process started, the object that started it holds its guard and takes its exit status.
        mine = self._wanted[name].process
        return self._wanted[name] if mine is not None and mine.ref == part.process.ref else part

    def _save(self, running: dict[str, _Part]) -> None:
        parts = {}
        for name, part in running.items():
            if part.process is not None:
                parts[name] = {"settings": _settings(part), "process": list(part.process.ref)}
                if isinstance(part, TritonServer):
                    parts[name]["shm_prefix"] = part.shm_prefix
        with written_whole(self._state_path) as fresh:
            fresh.write_text(json.dumps({"version": _STATE_VERSION, "parts": parts}, indent=1))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Allow one `up` or `down` at a time in a folder. The lock is released when the process that holds it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StackError(
                    f"{self.folder}: another `up` or `down` is at work here; wait for it to end"
                ) from error
            yield


def external_addresses() -> dict[str, str]:
    """Servers that run elsewhere, by the environment: {"kafka": bootstrap servers, "triton": gRPC host:port}."""
    named = {"kafka": os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), "triton": os.environ.get("TRITON_URL")}
    return {name: value.removeprefix("grpc://") for name, value in named.items() if value}


def external_kafka_problem(bootstrap: str) -> str | None:
    """kafka_problem with the TLS and SASL settings of the environment (KAFKA_SECURITY_PROTOCOL, ...)."""
    from panther_core.base.settings import KafkaSettings

    return kafka_problem(bootstrap, KafkaSettings(bootstrap_servers=bootstrap).client_options())


def _settings(part: _Part) -> dict[str, Any]:
    if isinstance(part, KafkaBroker):
        return {"port": part.port, "controller_port": part.controller_port}
    return {"ports": list(part.ports), "model_repository": str(part.model_repository)}


def _address(part: _Part) -> str:
    return part.bootstrap if isinstance(part, KafkaBroker) else part.grpc_url
