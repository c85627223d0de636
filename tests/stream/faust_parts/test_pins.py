"""Pins: the private code of Faust, mode and aiokafka that the worker leans on reads as it did when it was read.

Checks of source text alone; a new version that moves or changes one of these lines fails here, and says what to read.
"""

import inspect
from importlib.metadata import version

import faust
import mode
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.producer.sender import Sender
from faust.stores import rocksdb
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor, ConductorCompiler
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage

from stream.faust_parts.consumer import LowLatencyTransport, _ConsumerThread


def test_versions_are_the_ones_it_was_written_for() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("mode-streaming") == "0.7.1"
    assert version("aiokafka") == "0.14.0"


def test_the_long_poll_can_be_shortened() -> None:
    assert "_fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "_create_worker_consumer" in vars(driver.AIOKafkaConsumerThread)
    assert "_new_consumer_thread" in vars(driver.Consumer)
    assert issubclass(LowLatencyTransport.Consumer, driver.Consumer)


def test_fausts_check_of_its_own_intake_is_off() -> None:
    assert "self._thread.verify_event_path(now, tp)" in inspect.getsource(driver.Consumer.verify_event_path)
    assert "verify_event_path" in vars(driver.AIOKafkaConsumerThread)
    assert "verify_event_path" in vars(_ConsumerThread)


def test_micro_batches_and_acks() -> None:
    source = inspect.getsource(Consumer)
    for name in ("_unacked_messages", "_is_changelog_tp", "perform_seek", "_read_offset"):
        assert name in source
    assert "rebalancing" in inspect.getsource(faust.App)
    assert "on_rebalance_end" in inspect.getsource(Recovery._resume_streams)
    for name in ("_committed_offset", "_acked_index", "_acked", "_n_acked", "_waiting_for_ack"):
        assert name in inspect.getsource(Consumer.ack), name
    assert "async for tp, message in ait" in inspect.getsource(Consumer._drain_messages), "getmany is what is drained"


def test_a_stopping_app_waits_for_its_agents_before_they_stop() -> None:
    source = inspect.getsource(faust.App._stop_consumer)
    order = ["flow_control.suspend", "flow_control.clear", "_stop_fetcher", "_consumer_wait_empty", "tables.stop"]
    places = [source.index(name) for name in order]
    assert places == sorted(places)
    assert "await self._stop_consumer()" in inspect.getsource(faust.App.on_stop)
    service = inspect.getsource(mode.Service.stop)
    assert service.index("_stopped_set") < service.index("on_stop") < service.index("_stop_children")
    assert {"_clean_unacked_messages", "commit"} <= vars(Consumer).keys()


def test_the_store_opens_raw_rocksdict_partitions() -> None:
    assert "_db_for_partition" in vars(rocksdb.Store)
    assert "set_persisted_offset" in vars(rocksdb.Store)
    assert "_dbs" in inspect.getsource(rocksdb.Store)
    assert "raw_mode=True" in inspect.getsource(rocksdb.RocksDBOptions.as_options)


def test_what_the_gauges_read() -> None:
    assert callable(driver.Consumer.highwater)
    assert "self.rebalancing_count += 1" in inspect.getsource(faust.App.on_rebalance_start)


def test_the_intake_puts_records_where_the_conductor_would() -> None:
    source = inspect.getsource(Consumer._drain_messages)
    for name in ("_read_offset", "_add_gap", "acks_enabled_for", "wait_first", "consumer_stopped_errors"):
        assert name in source, f"{name}: Faust's loop has changed, read it again"
    delivery = inspect.getsource(ConductorCompiler.build)
    for name in ("incref", "put_nowait_enhanced", "queue.full()", "on_buffer_full", "on_buffer_drop", "flow_control"):
        assert name in delivery, name
    assert "_tp_index" in inspect.getsource(Conductor)


def test_recovery_asks_for_offsets_after_the_stores_are_open() -> None:
    source = inspect.getsource(Recovery._restart_recovery.fun)
    assert source.index("_build_offsets") < source.index("recovery_consistency_check"), "a foreign store would crash it"
    assert {"_build_offsets", "_wait"} <= vars(Recovery).keys()
    assert "if self._recovery is None" in inspect.getsource(TableManager)
    assert source.count("_build_offsets") == 2, "active partitions, then standbys: both are restored in bulk"
    for name in ("_open_for_partition", "partition_path"):
        assert name in vars(rocksdb.Store)


def test_what_is_done_in_the_place_of_a_method_is_what_that_method_does() -> None:
    """Each of these is done again, or set from outside, in stream.faust_parts.internals."""
    assert "if not self.decref(n):" in inspect.getsource(ConsumerMessage.ack), "Faust's ack has changed: read it again"
    assert "self._fetch_min_bytes," in inspect.getsource(Fetcher._get_actions_per_node), "read at every request"
    assert "self._thread.seek(partition, offset)" in inspect.getsource(driver.ThreadDelegateConsumer._seek)
    assert "if offset and offset > 0" in inspect.getsource(AIOKafkaConsumer.seek_to_committed), (
        "then the seek of ours can go"
    )


def test_the_private_parts_of_aiokafka_that_the_producer_uses_stand_where_they_did() -> None:
    source = inspect.getsource(MessageAccumulator.add_message)
    assert "self._batches.get(tp)" in source
    assert "pending_batches[-1]" in source
    assert "self._builder.append(" in inspect.getsource(MessageBatch.append)
    assert "self.future.set_result" in inspect.getsource(MessageBatch.done)
    source = inspect.getsource(Sender)
    for name in (
        "self._send_produce_req(node_id, ",
        "self._in_flight.remove(node_id)",
        "self._muted_partitions.remove(tp)",
    ):
        assert name in source
