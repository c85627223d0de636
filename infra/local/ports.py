"""Loopback ports: check that a port is free, and pick free ports."""

from __future__ import annotations

import random
import socket

from infra.local.errors import PortInUse, StackError

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral range (32768 up), so that between the check and the server's own bind no outgoing connection
# of another process takes the port.
_PICK_FROM = range(20_000, 32_000)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `host:port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Kafka and Triton set SO_REUSEADDR too: a port whose old connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Beside a SO_REUSEPORT listener the bind may succeed, but listening fails.
            probe.listen(1)
        except OSError:
            return False
    return True


def require_free(owner: str, port: int, option: str, host: str = LOOPBACK) -> None:
    """Raise PortInUse, naming `option` as the way out, when `host:port` has a listener."""
    if not is_free(port, host):
        remedy = f"stop that process (`ss -ltnp 'sport = :{port}'` names it) or pass another {option}"
        raise PortInUse(owner, host, port, remedy)


def pick_free(count: int) -> list[int]:
    """`count` distinct free loopback ports; raises StackError when 1,000 tries do not find them."""
    picked: list[int] = []
    # SystemRandom: test runs that seed the global generator would otherwise all pick the same ports.
    generator = random.SystemRandom()
    for _ in range(1_000):
        if len(picked) == count:
            return picked
        port = generator.choice(_PICK_FROM)
        if port not in picked and is_free(port):
            picked.append(port)
    raise StackError(
        f"expected {count} free ports in {_PICK_FROM.start}-{_PICK_FROM.stop - 1} on {LOOPBACK}, "
        f"found {len(picked)}; end processes that listen there"
    )
