"""The agent's work and the tasks that run beside it: what happens to one of them happens to all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import TRANSACTIONS
from stream.faust_parts.application import HEARTBEAT_S, session_s
from stream.faust_parts.producer import Producer, make_producer
from stream.ops.ending import Ending
from stream.worker.suspension import Suspension


class TaskEnded(PantherError):
    """A task that runs for the life of the worker has ended without an error of its own.

    A library that lets a CancelledError of one of its own tasks out ends a task so. Faust would take that for an order
    to begin the agent anew.
    """


async def run_beside(work: Coroutine[Any, Any, None], tasks: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run `work` to its end beside `tasks`, which have none; then, or when any of them fails, stop all.

    `tasks`: by name. An error of a task is raised with a note that names the task.
    """
    main = asyncio.ensure_future(work)
    beside = {asyncio.ensure_future(task): name for name, task in tasks.items()}
    try:
        await asyncio.wait([main, *beside], return_when=asyncio.FIRST_COMPLETED)
        for task, name in beside.items():
            if task.done():
                if not task.cancelled() and (error := task.exception()):
                    error.add_note(f"in the task {name}")
                    raise error
                how = "was cancelled from inside" if task.cancelled() else "has ended"
                raise TaskEnded(f"expected the task {name} to run as long as the worker, but it {how}")
        if main.cancelled():  # not from outside: then the wait above would have raised
            raise TaskEnded("expected the work to run until its stream ends, but it was cancelled from inside")
        main.result()
    finally:
        for task in (main, *beside):
            task.cancel()
        await asyncio.gather(main, *beside, return_exceptions=True)


@asynccontextmanager
async def agent_producers(
    kafka: KafkaSettings, settings: PantherSettings, ending: Ending
) -> AsyncIterator[tuple[Producer, Producer, Suspension]]:
    """The producer of an agent's records, the one of its changelog, and the watch that keeps both from sending after a
    pause in which the partitions may have gone to others. `ending` is told of a failure before the producers stop,
    which may take long."""
    producer, changelog = make_producer(kafka), make_producer(kafka)
    await asyncio.gather(producer.start(), changelog.start())
    # the last heartbeat may have been sent an interval ago
    suspension = Suspension(session_s(settings) - HEARTBEAT_S - 0.5)
    producer.before_request = changelog.before_request = suspension.check
    try:
        yield producer, changelog, suspension
    except Exception as error:
        ending.fail(error)
        raise
    finally:
        await asyncio.gather(producer.stop(), changelog.stop())


async def run_or_hold(app: Any, ending: Ending, agent: Coroutine[Any, Any, None]) -> None:
    """Run `agent`, the life of an application's agent; after a failure, tell `ending` and never return.

    Faust would ack and commit the failed batch, and begin the agent anew beside what is left of this one. A process
    that is started again gets the batch again.
    """
    try:
        await agent
    except Exception as error:
        app.failed = True
        ending.fail(error)
        await asyncio.Event().wait()


@contextmanager
def naming_records(events: Iterable[Any], topic: str = TRANSACTIONS) -> Iterator[None]:
    """An error that comes from work on these events gets a note that names the ranges of their records."""
    try:
        yield
    except Exception as error:
        offsets: dict[int, list[int]] = {}
        for event in events:
            offsets.setdefault(event.message.partition, []).append(event.message.offset)
        ranges = (f"{p}:{min(found)}-{max(found)} ({len(found)})" for p, found in sorted(offsets.items()))
        error.add_note(f"at the records {topic} {', '.join(ranges)}")
        raise
