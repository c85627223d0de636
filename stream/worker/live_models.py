"""Which model version is live: follows the `models.updates` topic and holds what the worker needs of each version.

Artifacts are read in threads: to read and hash one from a share takes seconds, and the event loop must not stand still
for that long. An artifact that cannot be read (yet) is tried again, and the worker is not ready meanwhile. An update
that these states can never be decided with is refused, and the update before it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from aiokafka import TopicPartition

from panther_core.base.errors import ArtifactError, FingerprintMismatch, InvalidFile, SignatureRefused
from panther_core.base.settings import KafkaSettings
from panther_core.data.events import EVERY_PARTITION, ModelProgress, ModelUpdate
from panther_core.data.topics import MODELS, PROGRESS
from panther_core.decide.records import to_json
from panther_core.kafka.answers import Unreadable, read_update
from panther_core.kafka.reading import KafkaRecord, held, make_reader, read
from panther_core.serving_model import ServingModel, load_serving_model
from panther_core.signature import load_signed
from stream.faust_parts.producer import make_producer
from stream.worker.beside import run_beside
from stream.worker.warm_up import WarmUp

logger = logging.getLogger(__name__)

_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0  # between two tries to read an artifact; doubled from try to try
_SLOW_S = 10.0  # a read that takes longer is reported
_HELD = 32  # versions at most: older ones have decided long ago, and are read again where they are asked for
_WORD_S = 10.0  # for the worker's word to reach the topic


class LiveModels:
    """Follows `models.updates` from its beginning, without a consumer group, so that every worker sees every update."""

    def __init__(
        self,
        kafka: KafkaSettings,
        app_id: str | None = None,
        models_key: Path | None = None,
        warm_up: WarmUp | None = None,
        name: str = "",
    ) -> None:
        """`app_id`: the application in whose name the worker says on `models.progress` which versions it has taken;
        None: it says nothing. `name`: the worker's own there (worker_name). `models_key`: public key of whoever must
        have signed a version; None: nobody. `warm_up`: what a version does before it takes the place of another one;
        None: nothing."""
        self._kafka, self._app_id, self._worker = kafka, app_id, name or uuid.uuid4().hex[:12]
        self._models_key, self._warm_up = models_key, warm_up
        self._current: ServingModel | None = None
        self._versions: dict[int, ServingModel] = {}
        self._artifacts: dict[int, str] = {}  # folder of every version that an update has named
        self._known: set[int] = set()  # versions that this worker has served, or that were live before its start
        self._updates: list[ModelUpdate] = []  # not refused, from the one that is served on; the last one is wanted
        self._served: ModelUpdate | None = None
        self._newest: ModelUpdate | None = None  # that took effect on the topic, also where this worker refused it
        self._problem: str | None = None
        self._reading_since_s: float | None = None
        self._ready, self._changed = asyncio.Event(), asyncio.Event()
        self._words: set[asyncio.Task[None]] = set()

    async def current(self) -> ServingModel:
        """The live version; waits where no version has gone live yet."""
        if not self._ready.is_set():
            logger.warning("no model is live yet: waiting for an update on topic %s (panther models promote)", MODELS)
            await self._ready.wait()
        assert self._current is not None
        return self._current

    @property
    def now(self) -> ServingModel | None:
        """The live version; None where no version has gone live yet."""
        return self._current

    @property
    def problem(self) -> str | None:
        """What keeps this worker from the newest version; None where it decides with it."""
        since_s = self._reading_since_s
        if self._problem is None and since_s is not None and time.monotonic() > since_s + _SLOW_S:
            return f"the live version's artifact is being read for more than {_SLOW_S:g} s: see to its disk or share"
        return self._problem

    @property
    def wanted(self) -> ModelUpdate | None:
        """The newest update that is not refused; None where there is none."""
        return self._updates[-1] if self._updates else None

    def version(self, number: int) -> ServingModel:
        """The version that a decision came from; the live version for decisions by rules, and for a version that
        `preload` could not read."""
        assert self._current is not None
        return self._versions.get(number, self._current)

    async def preload(self, versions: Iterable[int]) -> None:
        """Read the artifacts of these versions where they are not held yet, so that `version` finds them.

        A version that was live before this worker's start is needed when a decision of it is published again as it was.
        To be awaited before `version` is asked; for versions that are held, and for 0, it does nothing.
        """
        for number in sorted(set(versions) & self._artifacts.keys() - self._versions.keys()):
            try:
                model = await asyncio.to_thread(_read, Path(self._artifacts[number]), self._models_key)
            except (ArtifactError, InvalidFile, OSError) as error:
                logger.warning("model version %d, which has decided, cannot be read: %s", number, error)
            else:
                self._hold(number, model)

    def _hold(self, number: int, model: ServingModel) -> None:
        """Hold a version, and drop the one that has been held longest where they are many: more come for ever."""
        self._versions.pop(number, None)
        self._versions[number] = model
        if len(self._versions) > _HELD:
            del self._versions[next(known for known, held in self._versions.items() if held is not self._current)]

    async def run(self) -> None:
        """Follow the topic for the life of the worker."""
        part = TopicPartition(MODELS, 0)
        async with make_reader(self._kafka, fetch_max_wait_ms=100) as consumer:
            consumer.assign([part])
            offsets = (await held(consumer, [part]))[part]
            for record in [record async for record in read(consumer, part, offsets)]:
                self.note(record)
            consumer.seek(part, offsets.stop)

            async def follow() -> None:
                async for record in consumer:
                    self.note(record)

            await run_beside(follow(), {"reading of artifacts": self._keep_up()})

    def note(self, record: KafkaRecord) -> None:
        """Take down one update; the newest one is to be served."""
        update = read_update(record.value)
        if isinstance(update, Unreadable):
            logger.error("%s:%d:%d: model update skipped: %s", MODELS, record.partition, record.offset, update.why)
            return
        if not update.takes_effect(self._newest):
            logger.warning(
                "model version %d was to take the place of %d, which was not live: it has no effect",
                *(update.version, update.instead_of),
            )
            return
        self._newest = update
        self._artifacts[update.version] = update.artifact
        self._updates.append(update)
        self._changed.set()

    async def _keep_up(self) -> None:
        """Serve the newest update that is not refused, for the life of the worker."""
        pause_s = _PAUSE_S
        while True:
            self._changed.clear()
            if (wanted := self.wanted) is None or await self.take(wanted):
                pause_s = _PAUSE_S
                await self._changed.wait()
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def take(self, update: ModelUpdate) -> bool:
        """Serve this update, or refuse it for good; False where its artifact cannot be read at this moment."""
        if update is self._served:
            self._problem = None
            return True
        self._reading_since_s = time.monotonic()
        try:
            known = self._current
            if known is not None and self._served is not None and _moves_threshold(self._served, update):
                model = _with_thresholds(known, update)
            else:
                model = await asyncio.to_thread(_load, update, known, self._models_key)
        except (FingerprintMismatch, SignatureRefused) as error:
            logger.error("model version %d refused, the version before it counts: %s", update.version, error)
            self._refuse(update, str(error))
            return True
        except (ArtifactError, InvalidFile, OSError) as error:  # InvalidFile: of the key
            problem = f"model version {update.version}, the newest one, cannot be read, and is tried again: {error}"
            if problem != self._problem:
                logger.error("%s", problem)
                self._say(update.version, str(error), tries_again=True)
            self._problem = problem
            return False
        except Exception as error:  # reading an artifact of another release may raise anything
            logger.exception("model version %d refused, the version before it counts", update.version)
            self._refuse(update, repr(error))
            return True
        finally:
            self._reading_since_s = None
        # a version that was live before may have its users' windows still, and a rollback is not to wait
        if self._warm_up and known is not None and update.version not in self._known:
            await self._warm_up.run(update.version, wanted=lambda: update is self.wanted)
        if update is not self.wanted:
            return True  # a newer one came meanwhile, perhaps a rollback from this one
        self._current = model
        self._hold(update.version, model)
        self._served, self._problem = update, None
        self._known |= {update.version} if known else {one.version for one in self._updates}
        self._updates = [update]
        self._ready.set()
        logger.info("model version %d is live (threshold %.4f)", update.version, model.live.threshold)
        self._say(update.version)
        return True

    def _refuse(self, update: ModelUpdate, why: str) -> None:
        self._updates = [known for known in self._updates if known is not update]
        self._problem = None
        self._changed.set()
        self._say(update.version, why)

    def _say(self, version: int, problem: str = "", tries_again: bool = False) -> None:
        """Give this worker's word on a version to whoever has promoted it, without waiting for the broker."""
        if self._app_id is not None:
            task = asyncio.create_task(self._send(self._app_id, version, problem, tries_again))
            self._words.add(task)
            task.add_done_callback(self._words.discard)

    async def _send(self, app_id: str, version: int, problem: str, tries_again: bool) -> None:
        word = ModelProgress(
            app_id=app_id,
            partition=EVERY_PARTITION,
            version=version,
            worker=self._worker,
            problem=problem,
            tries_again=tries_again,
            moved_at=time.time_ns() // 1_000_000,
        )
        # the topic is compacted: a refusal is not to take away the word on the version that is decided with meanwhile
        said = "refused" if problem else "taken"
        producer, key = make_producer(self._kafka), f"{app_id}:{EVERY_PARTITION}:{said}".encode()
        try:
            async with asyncio.timeout(_WORD_S):
                await producer.start()
                await producer.send_and_wait(PROGRESS, to_json(word), key=key)
        except Exception as error:  # nobody waits for it: the worker decides all the same
            logger.warning("the word on model version %d did not reach %s: %r", version, PROGRESS, error)
        finally:
            await producer.stop()


def _read(folder: Path, models_key: Path | None) -> ServingModel:
    return load_serving_model(folder) if models_key is None else load_signed(folder, models_key)


def _load(update: ModelUpdate, current: ServingModel | None, models_key: Path | None) -> ServingModel:
    """The version that an update names, if it can go on with the states of the current one.

    Raises FingerprintMismatch where it never can, SignatureRefused where it must not; ArtifactError, InvalidFile,
    OSError where its artifact, or the key, cannot be read.
    """
    model = _read(Path(update.artifact), models_key)
    if model.live.version != update.version:
        raise FingerprintMismatch(
            f"expected model version {update.version} in {update.artifact}, as the update says, got version "
            f"{model.live.version}: promote the folder again"
        )
    if update.content not in ("", model.content):
        raise FingerprintMismatch(
            f"expected model version {update.version} in {update.artifact} as it went live, got other files, which the "
            "model server has not loaded: put the folder back, or load and promote them under another number"
        )
    if current and model.schema.fingerprint != current.schema.fingerprint:
        raise FingerprintMismatch(
            f"model version {update.version} was made for schema {model.schema.fingerprint[:12]}, the stored states "
            f"for {current.schema.fingerprint[:12]}; deploy it under a new PANTHER_APP_ID"
        )
    if current and model.codec.dtype != current.codec.dtype:
        raise FingerprintMismatch(
            f"model version {update.version} needs another state layout (context length or cached width) than the "
            "stored states have; deploy it under a new PANTHER_APP_ID"
        )
    return _with_thresholds(model, update)


def _moves_threshold(served: ModelUpdate, update: ModelUpdate) -> bool:
    return (served.version, served.artifact) == (update.version, update.artifact)


def _with_thresholds(model: ServingModel, update: ModelUpdate) -> ServingModel:
    """The version with the thresholds that its update names: they move while it is live (docs/refresh.md)."""
    live = replace(model.live, threshold=update.threshold)
    return replace(model, live=live, merchant_threshold=update.merchant_threshold)
