"""What can be tested of the chaos run without a system: a network that can be cut, the order of troubles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bench.chaos.proxy import Proxy
from bench.chaos.troubles import TROUBLES, schedule


def with_echo(run: Callable[[Proxy], Awaitable[None]]) -> None:
    """Run against a proxy before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        async with server, Proxy(f"{host}:{port}") as proxy:
            await run(proxy)

    asyncio.run(go())


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def said(reader: asyncio.StreamReader) -> bytes:
    """What comes back; empty when the connection has ended."""
    try:
        return await asyncio.wait_for(reader.read(100), 5)
    except ConnectionError:
        return b""


def test_a_stalled_network_keeps_connections_and_loses_nothing() -> None:
    async def run(proxy: Proxy) -> None:
        reader, writer = await connect(proxy)
        writer.write(b"before")
        assert await said(reader) == b"before"
        cut = asyncio.create_task(proxy.cut("stall", 0.3))
        await asyncio.sleep(0)
        writer.write(b"during")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting := asyncio.ensure_future(said(reader))), 0.1)
        await cut
        assert await waiting == b"during"
        writer.close()

    with_echo(run)


def test_a_reset_ends_connections_and_takes_new_ones() -> None:
    async def run(proxy: Proxy) -> None:
        reader, writer = await connect(proxy)
        writer.write(b"before")
        assert await said(reader) == b"before"
        await proxy.cut("reset", 0)
        assert await said(reader) == b""
        reader, writer = await connect(proxy)
        writer.write(b"after")
        assert await said(reader) == b"after"
        writer.close()

    with_echo(run)


def test_a_refusing_network_takes_no_connection_until_it_is_back() -> None:
    async def run(proxy: Proxy) -> None:
        cut = asyncio.create_task(proxy.cut("refuse", 0.2))
        await asyncio.sleep(0)
        reader, _ = await connect(proxy)
        assert await said(reader) == b""
        await cut
        reader, writer = await connect(proxy)
        writer.write(b"after")
        assert await said(reader) == b"after"
        writer.close()

    with_echo(run)


def test_every_trouble_comes_up_before_one_comes_again() -> None:
    names = schedule(30, tuple(TROUBLES), seed=1)
    assert names == schedule(30, tuple(TROUBLES), seed=1)
    for low in range(0, 30 - len(TROUBLES) + 1, len(TROUBLES)):
        assert set(names[low : low + len(TROUBLES)]) == set(TROUBLES)
    assert names != schedule(30, tuple(TROUBLES), seed=2)
