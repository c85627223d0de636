"""Whether a Triton server can infer. Its own readiness does not tell: Triton stays ready with dead Python processes."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from infra.local.process import group_members

_TIMEOUT_S = 3.0
_STUB = "triton_python_backend_stub"


def canary_problem(grpc_url: str) -> str | None:
    """None when the canary model behind `grpc_url` (host:port) echoes within 3 s, else what is wrong."""
    host, _, port = grpc_url.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return f"nothing accepts connections at {grpc_url} ({error})"
    import numpy as np
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    # several values, because a broken numpy in the server repeats the first value
    sent = np.array([secrets.randbits(62) for _ in range(4)], np.int64)
    ping = triton.InferInput("PING", [4], "INT64")
    ping.set_data_from_numpy(sent)
    try:
        with _client(grpc_url) as client:
            answer = client.infer("canary", [ping], client_timeout=_TIMEOUT_S).get_response()
    except InferenceServerException as error:
        return f"the canary inference failed at {grpc_url}: {error.message()}"
    pong = b"".join(answer.raw_output_contents)
    if pong != sent.tobytes():
        return f"the canary at {grpc_url} answered the bytes {pong!r}, expected {sent.tobytes()!r}"
    return None


def dead_instances(grpc_url: str, server_pid: int, headers: Mapping[str, str] | None = None) -> list[str]:
    """Loaded `model/version`s with fewer live Python processes than instances, as `name/1 (0 of 1)`.

    `server_pid` is the process of a local server, in whose group the Python processes are counted; `headers` hold the
    server's key, if it asks for one. For a server that does not answer, the list has one entry that says so.
    """
    from tritonclient.utils import InferenceServerException

    alive = _live_stubs(server_pid)
    dead = []
    try:
        with _client(grpc_url) as client:
            for model in client.get_model_repository_index(headers=headers, client_timeout=_TIMEOUT_S).models:
                if model.state != "READY":
                    continue
                config = client.get_model_config(
                    model.name, model.version, headers=headers, client_timeout=_TIMEOUT_S
                ).config
                if config.backend != "python":
                    continue
                wanted = sum(g.count * max(1, len(g.gpus)) for g in config.instance_group)
                got = alive[model.name, model.version]
                if got < wanted:
                    dead.append(f"{model.name}/{model.version} ({got} of {wanted})")
    except InferenceServerException as error:
        return [f"no answer from {grpc_url}: {error.message()}"]
    return dead


def _live_stubs(pgid: int) -> Counter[tuple[str, str]]:
    """How many stubs of each (model, version) run: their first argument is .../MODEL/VERSION/model.py."""
    found: Counter[tuple[str, str]] = Counter()
    for pid in group_members(pgid):
        with contextlib.suppress(psutil.NoSuchProcess):  # the process has ended since it was listed
            program, *arguments = psutil.Process(pid).cmdline() or [""]
            if program.endswith(_STUB) and arguments:
                version = Path(arguments[0]).parent
                found[version.parent.name, version.name] += 1
    return found


def _client(grpc_url: str) -> Any:
    import tritonclient.grpc as triton

    # With gRPC's shared pool, after one refused connection the next probes fail for a second without trying to connect.
    return triton.InferenceServerClient(grpc_url, channel_args=[("grpc.use_local_subchannel_pool", 1)])
