"""Makes a version live and waits for the word of each running worker: whether it decides with it, and why not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape

from panther_core.artifact import Manifest, load_manifest
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import now_ms
from panther_core.data.events import EVERY_PARTITION, ModelProgress, ModelUpdate
from panther_core.data.topics import PROGRESS
from panther_core.kafka.answers import Skipped, read_progress, readable
from panther_core.kafka.reading import KafkaRecord, members, read_topic
from panther_core.kafka.updates import updates, updates_with_records
from trainer.rollout import deploy
from trainer.rollout.announce import announce, before_live, folder_of, switched
from trainer.rollout.checks import Check, refusals

_EVERY_S = 0.5
_AGAIN_S = 15.0  # for workers that cannot read the artifact yet: a share or a copy may be a moment behind


def refuse(manifest: Manifest) -> None:
    """Raise BadInput for a version that its own training found to be no good."""
    if found := manifest.metrics.get("faults"):
        raise BadInput(
            f"expected a version that is fit to go live, got version {manifest.version}, of which its training says: "
            f"{'; '.join(found)}. Train on more or better data, or give --anyway"
        )


@dataclass(frozen=True)
class Taken:
    """What the workers said of the version in `artifact`: how many there are, how many decide with it, and why others
    do not."""

    version: int
    artifact: str
    workers: int
    taken: int
    refused: list[str]

    @property
    def ok(self) -> bool:
        """Whether every worker of the application decides with the version."""
        return self.taken >= self.workers

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("artifact", "workers", "taken", "refused")
        return {"live": self.version} | {name: getattr(self, name) for name in names}

    def explain(self) -> None:
        """Say to people what the numbers do not."""
        where = f"version {self.version} from {self.artifact}, as they see that path"
        for why in self.refused:
            say(escape(f"  a worker does not take version {self.version}: {why}"))
        if not self.workers:
            say(escape(f"  no worker is running: those that start read {where}"))
        elif not self.ok:
            say(escape(f"  {self.taken} of {self.workers} workers read {where}; the others decide with the one before"))


def promote(
    kafka: KafkaSettings,
    settings: PantherSettings,
    manifest: Manifest,
    artifact: str,
    *,
    new_states: bool = False,
    instead_of: int | None = None,
    why: str = "promoted",
    patience_s: float = 150.0,  # workers show it their users first: two minutes at most (stream.worker.warm_up)
) -> Taken:
    """Announce a version that is loaded, and wait until each worker of this application has taken or refused it; of
    those that cannot read it yet, and try again, for 15 seconds more.

    With `new_states` nobody is waited for: running workers refuse the version. Raises as `announce` does.
    """

    async def go() -> Taken:
        workers = 0 if new_states else await _workers(kafka, settings.app_id, patience_s)
        said = {record.offset for record in await read_topic(kafka, PROGRESS)}
        await announce(kafka, manifest, artifact, new_states, instead_of, why)
        end_s, all_said = time.monotonic() + patience_s, False
        while True:
            words = await _words(kafka, settings.app_id, manifest.version, lambda record: record.offset not in said)
            if len(words) >= workers and not all_said:
                all_said, end_s = True, min(end_s, time.monotonic() + _AGAIN_S)
            if (all_said and not any(word.tries_again for word in words)) or time.monotonic() > end_s:
                taken = sum(not word.problem for word in words)
                return Taken(manifest.version, artifact, workers, taken, _problems(words))
            await asyncio.sleep(_EVERY_S)

    return asyncio.run(go())


async def _workers(kafka: KafkaSettings, app_id: str, patience_s: float) -> int:
    """Number of running workers. While their partitions are being assigned nobody knows, but there is one at least."""
    for _ in range(round(patience_s / _EVERY_S)):
        if (found := await members(kafka, app_id)) is not None:
            return found
        await asyncio.sleep(_EVERY_S)
    return 1


async def _words(
    kafka: KafkaSettings, app_id: str, version: int, counts: Callable[[KafkaRecord], bool]
) -> list[ModelProgress]:
    """The last word of each worker on a version, of the records that count."""
    words = await _words_with_records(kafka, app_id, version)
    return list({word.worker: word for record, word in words if counts(record)}.values())


def _problems(words: Iterable[ModelProgress]) -> list[str]:
    return sorted({word.problem for word in words if word.problem})


async def _words_with_records(
    kafka: KafkaSettings, app_id: str, version: int
) -> list[tuple[KafkaRecord, ModelProgress]]:
    return [
        (record, word)
        for record, word in readable(await read_topic(kafka, PROGRESS), read_progress, Skipped(PROGRESS))
        if word.app_id == app_id and word.partition == EVERY_PARTITION and word.version == version
    ]


async def _taken_ms(kafka: KafkaSettings, app_id: str, version: int, announced_ms: int) -> int:
    """When the first worker said that it decides with a version, which may be minutes after its announcement (epoch
    ms); the announcement where none has."""
    words = await _words_with_records(kafka, app_id, version)
    said = (record.timestamp for record, word in words if not word.problem and record.timestamp >= announced_ms)
    return min(said, default=announced_ms)


def refused_by(kafka: KafkaSettings, settings: PantherSettings, version: int) -> list[str]:
    """Why workers do not take a version that went live, by their last words since then; empty where none said so. Those
    that cannot read it yet, and try again, have 15 seconds."""

    async def go() -> list[str]:
        announced_ms = _announced_ms(await updates_with_records(kafka), version)
        end_s = time.monotonic() + _AGAIN_S
        while True:
            words = await _words(kafka, settings.app_id, version, lambda record: record.timestamp >= announced_ms)
            if not any(word.tries_again for word in words) or time.monotonic() > end_s:
                return _problems(words)
            await asyncio.sleep(_EVERY_S)

    return asyncio.run(go())


def roll_back(
    kafka: KafkaSettings,
    settings: PantherSettings,
    triton_repository: Path,
    to: int | None = None,
    instead_of: int | None = None,
    why: str = "rolled back",
) -> tuple[int, Taken]:
    """Make an earlier version live again, loading it if need be: `to`, or the one that was live before the present one.

    `instead_of`: the version that the caller has seen live. Returns the version that was live, and what the workers
    said of the one that is. Raises BadInput where there is no such version, or another one is or goes live meanwhile.
    """
    history = asyncio.run(updates(kafka))
    if instead_of is not None and history and history[-1].version != instead_of:
        raise switched(instead_of, history[-1])
    wanted = before_live(history, to)
    live, folder = history[-1].version, folder_of(wanted, Path(settings.models_dir))
    manifest = deploy.trusted_manifest(settings, folder)
    try:
        # a server that has the version still is not asked to load anything: a version that hangs may keep it from it
        deploy.check_loaded(settings.triton_url, triton_repository, manifest)
    except deploy.DeployError:
        deploy.install(settings, triton_repository, folder)
    # with the thresholds that it had last, which may have moved while it was live
    manifest = msgspec.structs.replace(
        manifest, threshold=wanted.threshold, merchant_threshold=wanted.merchant_threshold
    )
    return live, promote(kafka, settings, manifest, wanted.artifact, instead_of=live, why=why)


def watch_or_go_back(
    kafka: KafkaSettings,
    settings: PantherSettings,
    triton_repository: Path,
    folder: Path,
    seconds: float,
    to: int | None = None,
) -> list[Check]:
    """Watch the version in `folder`, which is live, until `seconds` after a worker took it, and roll back if it fails.

    `to`: as in `roll_back`. What the gate has seen of the version counts where a refresh has judged it. Returns the
    checks of the last look: none where another version is live.
    """
    # here: a promotion and a rollback, which need none of it, are not to wait for its imports
    from trainer.rollout.refresh_report import REPORT, Report
    from trainer.rollout.watch import watch

    manifest = load_manifest(folder)
    report = Report.read(folder) if (folder / REPORT).exists() else None
    announced_ms = _announced_ms(asyncio.run(updates_with_records(kafka)), manifest.version)
    since_ms = asyncio.run(_taken_ms(kafka, settings.app_id, manifest.version, announced_ms))
    counts = report.score_counts if report else []
    checks = watch(
        kafka,
        settings,
        manifest.version,
        since_ms,
        seconds,
        max(report.alert_share or 0.0 if report else 0.0, manifest.alert_budget),
        counts or None,
    )
    if against := refusals(checks):
        why = f"version {manifest.version} failed in the stream: {'; '.join(against)}"
        take_back(kafka, settings, triton_repository, manifest.version, why, to)
    return checks


def take_back(
    kafka: KafkaSettings,
    settings: PantherSettings,
    triton_repository: Path,
    version: int,
    why: str,
    to: int | None = None,
) -> None:
    """Roll back from `version`, which is live and has failed, and say so; otherwise as `roll_back`."""
    say(f"  [bold red]failed[/] {escape(why)}")
    _, taken = roll_back(kafka, settings, triton_repository, to, instead_of=version, why=why)
    say(f"  [bold red]rolled back[/] to version {taken.version}")
    taken.explain()


def _announced_ms(history: list[tuple[KafkaRecord, ModelUpdate]], version: int) -> int:
    """When a version went live, for the last time (epoch ms); now where it never did."""
    return max((record.timestamp for record, _ in _switches(history, version)), default=now_ms())


def _switches(
    history: list[tuple[KafkaRecord, ModelUpdate]], version: int
) -> Iterator[tuple[KafkaRecord, ModelUpdate]]:
    """The updates by which a version took the place of another one; its threshold may have moved since."""
    before = 0
    for record, update in history:
        if update.version == version != before:
            yield record, update
        before = update.version
