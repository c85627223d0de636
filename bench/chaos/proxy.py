"""A TCP proxy on loopback between the workers and a Triton server: `panther chaos` cuts the network there.

Needs no root, unlike a firewall rule.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

from infra.local.ports import LOOPBACK

Cut = Literal["stall", "refuse", "reset"]
_CHUNK = 1 << 16


class Proxy:
    """Forwards connections to `target` (host:port); an asynchronous context manager, to be used in one event loop."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._host, self._port = host, int(port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """The proxy's own host:port."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def cut(self, how: Cut, seconds: float) -> None:
        """Disturb the network for `seconds`, then let everything pass again.

        `stall`: connections stay but no bytes pass. `refuse`: all connections end and new ones end at once. `reset`:
        all connections end, and new ones work immediately.
        """
        if how == "stall":
            self._flowing.clear()
        elif how == "refuse":
            self._refusing = True
        if how != "stall":
            self._abort()
        try:
            await asyncio.sleep(0 if how == "reset" else seconds)
        finally:
            self._refusing = False
            self._flowing.set()

    def _abort(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._refusing:
                return
            there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
            self._open.add(there_writer)
            ways = [
                asyncio.create_task(self._pump(reader, there_writer)),
                asyncio.create_task(self._pump(there_reader, writer)),
            ]
            self._tasks.update(ways)
            await asyncio.wait(ways)
            self._tasks.difference_update(ways)
            self._open.discard(there_writer)
        except OSError:  # the target is down: the caller sees a connection that ends at once
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
