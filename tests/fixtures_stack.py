"""Fixtures over the local stack: a real Kafka and a real Triton on free ports, for the whole test session.

KAFKA_BOOTSTRAP_SERVERS and TRITON_URL are honoured: a server named there is used, and only health-checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.local import ports
from infra.local.kafka import KafkaBroker
from infra.local.ports import pick_free
from infra.local.stack import external_addresses, external_kafka_problem
from infra.local.triton import TritonPorts, TritonServer
from infra.local.triton_health import canary_problem
from panther_core.base.settings import PantherSettings, triton_headers


class TritonUnderTest(NamedTuple):
    """Where the session's Triton is; `server` is None for one named by TRITON_URL."""

    grpc_url: str
    model_repository: Path | None
    server: TritonServer | None

    @property
    def headers(self) -> dict[str, str] | None:
        """What the server asks of whoever loads and unloads models."""
        return triton_headers(self.server.key) if self.server else PantherSettings().triton_headers


@pytest.fixture(scope="session", autouse=True)
def _own_ports() -> None:
    """Each process of pytest-xdist picks from a part of the range: two never take one port for two servers."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(ports._PICK_FROM) // count
    ports._PICK_FROM = ports._PICK_FROM[number * size : (number + 1) * size]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers, `host:port`. Topics are not made by themselves; use names of your own."""
    if external := external_addresses().get("kafka"):
        _require(external_kafka_problem(external), "KAFKA_BOOTSTRAP_SERVERS")
        yield external
        return
    port, controller_port = pick_free(2)
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), port, controller_port) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonUnderTest]:
    """A server over a temporary repository that holds the canary; add models there and load them by name."""
    if external := external_addresses().get("triton"):
        _require(canary_problem(external), "TRITON_URL")
        yield TritonUnderTest(external, None, None)
        return
    folder = tmp_path_factory.mktemp("triton")
    with TritonServer(folder / "models", folder, TritonPorts.free(), key="key-of-the-tests") as server:
        yield TritonUnderTest(server.grpc_url, server.model_repository, server)


def _require(problem: str | None, variable: str) -> None:
    if problem:
        pytest.fail(f"{variable} names a server that is not healthy: {problem}; start it or unset {variable}")
