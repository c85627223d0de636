"""Takes versions out of service once no user is left on them, which the workers report on `models.progress`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from panther_core.base.console import say
from panther_core.base.errors import BadInput, PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.events import ModelProgress
from panther_core.data.topics import MODELS, PROGRESS
from panther_core.kafka.reading import read_topic
from trainer.rollout import deploy
from trainer.rollout.announce import updates

_EVERY_S = 1.0


class StillInUse(PantherError):
    """Some users may still be on an older version; nothing was unloaded."""


async def behind(kafka: KafkaSettings, settings: PantherSettings, version: int) -> list[int]:
    """Partitions of this application that have not reported all their users on `version`."""
    decode = msgspec.json.Decoder(ModelProgress).decode
    at: dict[int, int] = {}
    for record in await read_topic(kafka, PROGRESS):
        progress = decode(record.value or b"")
        if progress.app_id == settings.app_id:
            at[progress.partition] = progress.version
    return [partition for partition in range(settings.partitions) if at.get(partition) != version]


def retire(kafka: KafkaSettings, settings: PantherSettings, repository: Path, patience_s: float) -> list[int]:
    """Wait until every user is on the live version, then unload all others; returns those unloaded.

    Raises BadInput when no version is live; StillInUse, nothing unloaded, when the sweeps take longer than
    `patience_s`.
    """
    end_s = time.monotonic() + patience_s
    while True:
        history = asyncio.run(updates(kafka))
        if not history:
            raise BadInput(f"expected a live version on {MODELS}, found none: promote one first")
        live = history[-1].version
        waiting = asyncio.run(behind(kafka, settings, live))
        if not waiting:
            break
        if time.monotonic() > end_s:
            raise StillInUse(
                f"expected every user on version {live} within {patience_s:.0f} s, but partitions {waiting} have not "
                "reported: are all workers up, and PANTHER_SWEEP_USERS_PER_S above 0? Nothing was unloaded"
            )
        time.sleep(_EVERY_S)
    key = settings.triton_headers
    old = sorted({v for found in deploy.served(settings.triton_url, key).values() for v in found} - {live})
    for version in old:
        deploy.unload(settings.triton_url, repository, version, key)
        say(f"  version {version} is unloaded: every user is on version {live}")
    return old
