"""Which model version is live: follows the `models.updates` topic and holds what the worker needs of each version."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import msgspec
from aiokafka import TopicPartition

from panther_core.base.errors import ArtifactError, FingerprintMismatch
from panther_core.base.settings import KafkaSettings
from panther_core.data.topics import MODELS
from panther_core.kafka.answers import decode_update
from panther_core.kafka.reading import held, make_reader, read
from panther_core.serving_model import ServingModel, load_serving_model

logger = logging.getLogger(__name__)


class LiveModels:
    """Follows `models.updates` from its beginning, without a consumer group, so that every worker sees every update."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._current: ServingModel | None = None
        self._versions: dict[int, ServingModel] = {}
        self._artifacts: dict[int, str] = {}  # folder of every version that an update has named
        self._ready = asyncio.Event()

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

    def version(self, number: int) -> ServingModel:
        """The version that a decision came from; the live version for decisions by rules, and if that is unreadable.

        A version that was live before this worker's start is read from its artifact when it is asked for, so that a
        decision that is published again is published as it was.
        """
        assert self._current is not None
        if number not in self._versions and number in self._artifacts:
            try:
                self._versions[number] = load_serving_model(Path(self._artifacts[number]))
            except (ArtifactError, OSError) as error:
                logger.warning("model version %d, which has decided, cannot be read: %s", number, error)
                self._versions[number] = self._current
        return self._versions.get(number, self._current)

    async def run(self) -> None:
        """Follow the topic for the life of the worker."""
        part = TopicPartition(MODELS, 0)
        async with make_reader(self._kafka, fetch_max_wait_ms=100) as consumer:
            consumer.assign([part])
            offsets = (await held(consumer, [part]))[part]
            earlier = [record.value async for record in read(consumer, part, offsets)]
            for value in earlier:
                self._note(value)
            self._begin(earlier)
            consumer.seek(part, offsets.stop)
            async for record in consumer:
                self._note(record.value)
                self._apply(record.value)

    def _begin(self, updates: list[bytes | None]) -> None:
        """Make live, at the start, the newest update that can be served: the version that running workers have."""
        for value in reversed(updates):
            self._apply(value)
            if self._current is not None:
                return

    def _note(self, value: bytes | None) -> None:
        with contextlib.suppress(msgspec.DecodeError):  # `_apply` logs the error
            update = decode_update(value or b"")
            self._artifacts[update.version] = update.artifact

    def _apply(self, value: bytes | None) -> None:
        try:
            update = decode_update(value or b"")
            model = load_serving_model(Path(update.artifact))
            if self._current and model.schema.fingerprint != self._current.schema.fingerprint:
                raise FingerprintMismatch(
                    f"model version {update.version} was made for schema {model.schema.fingerprint[:12]}, "
                    f"the stored states for {self._current.schema.fingerprint[:12]}; deploy it under a new "
                    "PANTHER_APP_ID"
                )
            if model.codec.dtype != (self._current or model).codec.dtype:
                raise FingerprintMismatch(
                    f"model version {update.version} needs another state layout (context length or cached width) than "
                    "the stored states have; deploy it under a new PANTHER_APP_ID"
                )
        except (msgspec.DecodeError, ArtifactError, OSError) as error:
            # a bad update must not stop the worker, so the live version stays
            logger.error("model update refused, staying on the current version: %s", error)
            return
        except Exception:  # reading an artifact of another release can raise anything
            logger.exception("model update refused, staying on the current version")
            return
        self._versions[update.version] = self._current = model
        self._ready.set()
        logger.info("model version %d is live (threshold %.4f)", update.version, model.live.threshold)
