"""Ports: a taken one is named together with the way out."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from infra.local.errors import PortInUse, StackError
from infra.local.ports import is_free, pick_free, require_free


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this test listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_an_error_that_names_port_and_remedy(taken: int) -> None:
    assert not is_free(taken)
    with pytest.raises(PortInUse, match=rf"kafka: expected 127.0.0.1:{taken} to be free.*another --kafka-port") as e:
        require_free("kafka", taken, "--kafka-port")
    assert e.value.port == taken
    assert isinstance(e.value, StackError)


def test_a_listener_on_the_mapped_ipv6_address_counts() -> None:
    """gRPC listens on ::ffff:127.0.0.1."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
        try:
            server.bind(("::ffff:127.0.0.1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        server.listen()
        assert not is_free(server.getsockname()[1])


def test_picked_ports_are_distinct_and_free() -> None:
    ports = pick_free(20)
    assert len(set(ports)) == 20
    for port in ports:
        require_free("test", port, "--port")
