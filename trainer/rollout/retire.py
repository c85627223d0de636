"""Takes versions out of service once no user is left on them, which the workers report on `models.progress`."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path

from panther_core.base.console import say, say_once
from panther_core.base.errors import BadInput, PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import MODELS, PROGRESS
from panther_core.kafka.answers import Skipped, read_progress, readable
from panther_core.kafka.reading import read_topic
from panther_core.kafka.updates import updates
from trainer.rollout import deploy
from trainer.rollout.aliases import PREVIOUS, aliases

_EVERY_S = 1.0


class StillInUse(PantherError):
    """Some users may still be on an older version; nothing was unloaded."""


async def behind(kafka: KafkaSettings, settings: PantherSettings, version: int) -> list[int]:
    """Partitions of this application that have not reported all their users on `version`."""
    at = (await _reports(kafka)).get(settings.app_id, {})
    return [partition for partition in range(settings.partitions) if at.get(partition) != version]


async def used_elsewhere(kafka: KafkaSettings, settings: PantherSettings) -> dict[int, str]:
    """Versions that partitions of other applications have reported last, and those that a worker of theirs has taken
    last (its sweep may be under way, or turned off), each with one such application."""
    reports = await _reports(kafka)
    return {version: app_id for app_id, at in reports.items() if app_id != settings.app_id for version in at.values()}


async def _reports(kafka: KafkaSettings) -> dict[str, dict[int, int]]:
    """The version that each partition of each application has reported last, and, as EVERY_PARTITION, the one that a
    worker has taken last. Skipped records are said."""
    skipped, out = Skipped(PROGRESS), defaultdict[str, dict[int, int]](dict)
    for _, progress in readable(await read_topic(kafka, PROGRESS), read_progress, skipped):
        if not progress.problem:
            out[progress.app_id][progress.partition] = progress.version
    skipped.say(say_once)
    return out


def retire(
    kafka: KafkaSettings,
    settings: PantherSettings,
    repository: Path,
    patience_s: float,
    the_one_before_too: bool = False,
) -> list[int]:
    """Wait until every user is on the live version, then unload the versions before it; returns those unloaded.

    The version that a rollback goes back to stays, so that it need not be loaded again, unless `the_one_before_too`.
    Those stay as well that were never live (one may be about to be promoted), and those that another application
    decides with, or has users on. Raises BadInput when no version is live; StillInUse, nothing unloaded, when the
    sweeps take longer than `patience_s`.
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
    elsewhere = asyncio.run(used_elsewhere(kafka, settings))
    old = {v for found in deploy.served(settings.triton_url, settings.triton_headers).values() for v in found} - {live}
    back, out = None if the_one_before_too else aliases(history, {}).get(PREVIOUS), []
    for version in sorted(old):
        if version == back:
            say(f"  version {version} stays loaded: a rollback goes to it (`panther models retire --all` unloads it)")
        elif version not in {update.version for update in history}:
            say(f"  version {version} stays loaded: it was never live (`panther models unload {version}` unloads it)")
        elif version in elsewhere:
            say_once(
                f"  version {version} stays loaded: users of the application {elsewhere[version]} are on it; once that "
                f"is gone, `panther models unload {version}`"
            )
        else:
            unload(kafka, settings, repository, version)
            out.append(version)
            say(f"  version {version} is unloaded: every user is on version {live}")
    return out


def unload(kafka: KafkaSettings | None, settings: PantherSettings, repository: Path, version: int) -> None:
    """Take a version out of the repository and out of service.

    Raises BadInput for the version that is live; without `kafka` nobody is asked which one that is.
    """
    history = asyncio.run(updates(kafka)) if kafka else []
    if history and history[-1].version == version:
        raise BadInput(
            f"expected a version that is not live, got {version}, which workers decide with: promote another one "
            "first, or --force it (all decisions are then made by rules)"
        )
    deploy.unload(settings.triton_url, repository, version, settings.triton_headers)
