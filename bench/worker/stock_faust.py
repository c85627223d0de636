"""The contender `stock_faust_tps` of `panther bench worker`: the job of same_job.py as Faust's documentation writes it.

An agent, a table, a sink topic, and RocksDB with its defaults.

python -m bench.worker.stock_faust APP_ID DATADIR OUT_TOPIC STATE_BYTES PARTITIONS
"""

from __future__ import annotations

import sys
from typing import Any

import faust
import msgspec

from bench.worker.same_job import decide, next_state
from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import TRANSACTIONS


def main() -> None:
    """Run until stopped."""
    app_id, datadir, out_topic, size, partitions = sys.argv[1:]
    app = faust.App(
        app_id,
        broker=f"kafka://{KafkaSettings().bootstrap_servers}",
        store="rocksdb://",
        datadir=datadir,
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        table_standby_replicas=0,
    )
    transactions = app.topic(TRANSACTIONS, key_type=bytes, value_type=bytes, partitions=int(partitions))
    out = app.topic(out_topic, key_type=bytes, value_type=bytes, partitions=int(partitions))
    table = app.Table(
        "state", key_type=bytes, value_type=bytes, partitions=int(partitions), options={"driver": "rocksdict"}
    )

    @app.agent(transactions)  # type: ignore[untyped-decorator]
    async def work(stream: Any) -> None:
        async for event in stream.events():
            state = next_state(table.get(event.key), int(size))
            table[event.key] = state
            await out.send(key=event.key, value=decide(msgspec.json.decode(event.value), state))

    sys.argv[1:] = []
    raise SystemExit(app.Worker(loglevel="info").execute_from_commandline())


if __name__ == "__main__":
    main()
