"""The private parts of Faust that the worker leans on: these fail when a new version moves one."""

import inspect
from importlib.metadata import version

import faust
from aiokafka import AIOKafkaConsumer
from faust.stores import rocksdb
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver

from stream.faust_internals import LowLatencyTransport


def test_versions_are_the_ones_it_was_written_for() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("mode-streaming") == "0.7.1"
    assert version("aiokafka") == "0.14.0"


def test_the_long_poll_can_be_shortened() -> None:
    assert "_fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "_create_worker_consumer" in vars(driver.AIOKafkaConsumerThread)
    assert "_new_consumer_thread" in vars(driver.Consumer)
    assert issubclass(LowLatencyTransport.Consumer, driver.Consumer)


def test_micro_batches_and_acks() -> None:
    source = inspect.getsource(Consumer)
    for name in ("_unacked_messages", "_is_changelog_tp", "perform_seek", "_read_offset"):
        assert name in source
    assert "rebalancing" in inspect.getsource(faust.App)
    assert "on_rebalance_end" in inspect.getsource(Recovery._resume_streams)
    assert "async for tp, message in ait" in inspect.getsource(Consumer._drain_messages), "getmany is what is drained"


def test_the_store_opens_raw_rocksdict_partitions() -> None:
    assert "_db_for_partition" in vars(rocksdb.Store)
    assert "set_persisted_offset" in vars(rocksdb.Store)
    assert "raw_mode=True" in inspect.getsource(rocksdb.RocksDBOptions.as_options)
