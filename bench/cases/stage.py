"""The system of `panther bench cases`: real Kafka, Triton and worker, what a case does to it, and what came out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from bench.topics import unread
from bench.waits import poll
from infra.local.errors import StackError
from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from panther_core.data.decision import Alert, Decision
from panther_core.data.topics import ALERTS, DEAD_LETTERS, SCORES, TRANSACTIONS
from panther_core.kafka.answers import Position, decode_alert, decode_decision, header_of, position_of
from panther_core.kafka.reading import KafkaRecord, make_reader, partitions_of
from stream.faust_parts.producer import Outgoing, make_producer

Fields = dict[str, Any]
_READY_S = 90.0
_POLL_S = 0.2
_SETTLE_S = 0.6  # after the last answer that is waited for: a second one that should not be would come by then


@dataclass
class Answer:
    """All that came out about one record of `transactions`."""

    decisions: list[Decision] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """In a word: the code of its dead letter, `decided`, or `nothing`."""
        return "+".join([*self.codes, *(["decided"] if self.decisions else [])]) or "nothing"


@dataclass(frozen=True)
class Sending:
    """A record to be sent to `transactions`; Kafka's defaults hold for what is not given."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None = None
    partition: int | None = None


class CaseStage:
    """A running system with one worker named `worker`."""

    def __init__(self, system: System) -> None:
        self.system, self.kafka, self.settings = system, system.kafka, system.settings
        self.run = secrets.token_hex(3)  # in the ids of this stage, so that two runs on one broker do not meet
        self._answers: dict[Position, Answer] = defaultdict(Answer)
        self._forged: set[tuple[str, int, int]] = set()
        self._outputs = make_reader(self.kafka)

    # What is sent

    def payment(self, name: object, user: str = "u", **changes: Any) -> Fields:
        """A good payment as JSON data; `...` as a value takes the field away."""
        record = {
            "transaction_id": f"{self.run}-{name}",
            "user_id": f"{self.run}-{user}",
            "merchant_id": "m-shop-1",
            "merchant_category": "grocery",
            "amount": 12.5,
            "currency": "EUR",
            "channel": "chip",
            "event_time": int(time.time() * 1000),
        }
        return {name: value for name, value in (record | changes).items() if value is not ...}

    async def send(self, records: Iterable[Sending]) -> list[Position]:
        """Send records, and return where each is stored."""
        async with make_producer(self.kafka) as producer:
            sent = [
                await producer.send(TRANSACTIONS, r.value, r.key, partition=r.partition, timestamp_ms=r.timestamp_ms)
                for r in records
            ]
            return [(done.partition, done.offset) for done in await asyncio.gather(*sent)]

    async def pay(self, *payments: Fields) -> list[Answer]:
        """Send payments, and return what came out about each."""
        return await self.answers(await self.send_payments(*payments))

    async def send_payments(self, *payments: Fields) -> list[Position]:
        """Send payments, and return where each is stored."""
        return await self.send(map(sending, payments))

    async def forge(self, records: Iterable[tuple[str, Outgoing]], partition: int) -> None:
        """Write records to output topics as an outsider; they are left out of the answers."""
        async with make_producer(self.kafka) as producer:
            for topic, (key, value, headers) in records:
                done = await (await producer.send(topic, value, key, partition=partition, headers=headers))
                self._forged.add((topic, done.partition, done.offset))

    # What came out

    async def answers(self, places: Sequence[Position], patience_s: float = 30.0) -> list[Answer]:
        """What came out about the records at `places`, as soon as each has an outcome.

        Or after `patience_s`, or when the worker has ended.
        """
        end_s, worker = time.monotonic() + patience_s, self.system.workers["worker"]
        while not all(map(self._has_outcome, places)) and time.monotonic() < end_s and worker.alive():
            await self._read()
        settled_s = time.monotonic() + _SETTLE_S
        while time.monotonic() < settled_s:
            await self._read()
        return [self._answers[place] for place in places]

    def _has_outcome(self, place: Position) -> bool:
        answer = self._answers.get(place)
        return answer is not None and bool(answer.codes or answer.decisions)

    def begin_anew(self) -> None:
        """Forget all answers: positions in `transactions` mean other records from now on."""
        self._answers.clear()

    async def open(self) -> None:
        """Follow the output topics from where they end now."""
        await self._outputs.start()
        topics = SCORES, ALERTS, DEAD_LETTERS
        parts = [part for topic in topics for part in await partitions_of(self._outputs, topic)]
        self._outputs.assign(parts)
        await self._outputs.seek_to_end()
        for part in parts:
            await self._outputs.position(part)

    async def close(self) -> None:
        """Stop following."""
        await self._outputs.stop()

    async def _read(self) -> None:
        for records in (await self._outputs.getmany(timeout_ms=round(1000 * _POLL_S))).values():
            for record in records:
                if (record.topic, record.partition, record.offset) not in self._forged:
                    self._enter(record)

    def _enter(self, record: KafkaRecord) -> None:
        answer = self._answers[position_of(record)]
        with contextlib.suppress(
            msgspec.DecodeError
        ):  # something that answers nobody: its record stays without outcome
            if record.topic == SCORES:
                answer.decisions.append(decode_decision(record.value or b""))
            elif record.topic == ALERTS:
                answer.alerts.append(decode_alert(record.value or b""))
            else:
                answer.codes.append(header_of(record, "code").decode(errors="replace"))

    # The worker

    async def ask(self, path: str) -> tuple[int, str]:
        """Status and body of an answer from the worker's HTTP server; status 0 where it does not listen."""
        return await asyncio.to_thread(self._ask, self.system.metrics_urls["worker"] + path)

    @staticmethod
    def _ask(url: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    async def metric(self, name: str, **labels: str) -> float:
        """Sum over the samples of a metric that have these labels; 0 where there is none."""
        families = text_string_to_metric_families((await self.ask("/metrics"))[1])
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    async def lag(self) -> int:
        """Records that the group has not committed."""
        return await unread(self.kafka, self.settings.app_id)

    async def wait_lag(self, patience_s: float = 30.0) -> int:
        """The lag once it is 0, or after `patience_s`."""
        return await poll(self.lag, lambda lag: lag == 0, patience_s)

    async def start_worker(self) -> None:
        """Start the worker and wait until it is ready. Raises StackError where it is not in time, or ends."""
        await asyncio.to_thread(self.system.start_worker)

        async def ready() -> tuple[int, str]:
            await asyncio.to_thread(self.system.check_workers)
            return await self.ask("/readyz")

        status, said = await poll(ready, lambda answer: answer[0] == 200, _READY_S)
        if status != 200:
            raise StackError(f"expected the worker to be ready within {_READY_S:.0f} s, it says {said}")

    async def stop_worker(self) -> bool:
        """SIGTERM; whether the worker ended by itself in time."""
        return await asyncio.to_thread(self.system.stop_worker)

    async def restart_worker(self) -> None:
        """Stop the worker and start it again."""
        await self.stop_worker()
        await self.start_worker()

    async def ended(self, patience_s: float) -> bool:
        """Whether the worker ends by itself within `patience_s`."""
        alive = self.system.workers["worker"].alive
        return not await poll(lambda: asyncio.to_thread(alive), lambda lives: not lives, patience_s)

    def log(self) -> str:
        """What the worker has logged since its start."""
        return (self.system.folder / "logs" / "worker.log").read_text(errors="replace")

    def lines(self, pattern: str, since: int = 0) -> list[str]:
        """Lines of the worker's log that match, from the character `since` on."""
        return [line for line in self.log()[since:].splitlines() if re.search(pattern, line, re.IGNORECASE)]

    def why_ended(self) -> str | None:
        """The first error in the log of a worker that should run and has ended; None for one that runs."""
        process = self.system.workers.get("worker")
        if process is not None and process.alive():
            return None
        return (self.lines(r"\[(error|critical)\]") or self.log().splitlines() or ["it has not begun"])[0][:300]

    async def recover(self) -> None:
        """Bring the worker back where a case has ended it."""
        if self.why_ended() is not None:
            if "worker" in self.system.workers:
                await self.stop_worker()
            await self.start_worker()


def sending(payment: Fields, **how: Any) -> Sending:
    """A payment as the record that its sender makes of it: keyed by the user."""
    return Sending(str(payment["user_id"]).encode(), json.dumps(payment).encode(), **how)


@contextlib.asynccontextmanager
async def running_case_stage(folder: Path, models: Path, partitions: int = 4) -> AsyncIterator[CaseStage]:
    """A system below `folder` with version 1 of the artifacts in `models`, and one worker, ready; stopped at exit."""
    for part in ("stack", "worker", "logs"):
        await asyncio.to_thread(shutil.rmtree, folder / part, True)
    stack = LocalStack.on_free_ports(folder / "stack")
    system = await asyncio.to_thread(System(folder, stack, fresh_app_id("cases"), partitions).__enter__)
    async with contextlib.AsyncExitStack() as leave:
        leave.push_async_callback(asyncio.to_thread, system.__exit__, None, None, None)
        # a long deadline, so that a busy machine is not taken for an outage
        changes = {"score_deadline_s": 5.0, "models_dir": str(models)}
        system.settings = system.settings.model_copy(update=changes)
        await asyncio.to_thread(system.deploy, 1)
        stage = CaseStage(system)
        await stage.open()
        leave.push_async_callback(stage.close)
        await stage.start_worker()
        yield stage
