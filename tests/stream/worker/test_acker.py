"""How far a store says that it goes."""

import asyncio
from types import SimpleNamespace

from stream.worker.acker import Acker
from stream.worker.state_store import StoredBatch


def test_a_store_says_how_far_it_goes_without_a_gap() -> None:
    """Records of a new owner, written while this worker was suspended, are not in its store."""
    saved: dict[int, int] = {}
    data = SimpleNamespace(
        persisted_offset=lambda tp: saved.get(tp.partition, 9),
        set_persisted_offset=lambda tp, offset: saved.__setitem__(tp.partition, offset),
    )
    app = SimpleNamespace(consumer_generation_id=2)
    acker = Acker(app, SimpleNamespace(data=data, changelog_topic_name="changelog"))

    async def store(*offsets: int) -> None:
        sent = asyncio.get_running_loop().create_future()
        sent.set_result([range(offset, offset + 1) for offset in offsets])
        await acker.put(StoredBatch(2, [], {0: sent}))
        running = asyncio.ensure_future(acker.run())
        await acker.drained()
        running.cancel()

    async def go() -> None:
        await store(11, 10)
        assert saved == {0: 11}
        await store(12, 15, 16)
        assert saved == {0: 12}, "13 and 14 are somebody else's"

    asyncio.run(go())
