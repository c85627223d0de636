"""One turn of the refresh loop: read the log back, train a challenger, judge it beside the champion, and switch to it.

The workers go on meanwhile: the challenger is loaded and answers before they hear of it, and each user moves to it at
their next event. A challenger that the gate refuses (trainer.rollout.gate) is taken out of service again; its folder
stays, with the reasons in refresh.json and refresh.html.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape

from panther_core.artifact import Manifest, load_manifest
from panther_core.base.console import say
from panther_core.base.errors import BadInput, PantherError
from panther_core.base.files import written_whole
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS, iso_ms
from panther_core.data.events import ModelUpdate
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS
from panther_core.kafka.updates import updates
from panther_core.report.pages import render, write_page
from trainer.log.reading import read_table
from trainer.log.store import NO_DATE, LogStore
from trainer.rollout import deploy
from trainer.rollout.announce import announce
from trainer.rollout.challenge import judge_challenger, train_challenger
from trainer.rollout.gate import Check, refusals
from trainer.rollout.kafka_log import read_log
from trainer.rollout.retire import StillInUse, retire

_PATIENCE_S = 120.0  # for the workers' sweeps


@dataclass(frozen=True)
class Refreshed:
    """What a turn did: the champion, the challenger, whether it went live, and every check of the gate."""

    previous: int
    version: int
    promoted: bool
    gate: list[Check]
    transactions: int
    labelled: int
    threshold: float
    unloaded: list[int]
    metrics: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"gate": [msgspec.to_builtins(check) for check in self.gate]}


def refresh_once(
    kafka: KafkaSettings,
    settings: PantherSettings,
    triton_repository: Path,
    label_delay_ms: int,
    seed: int = 0,
    anyway: bool = False,
    ingested: Path | None = None,
    days: float | None = None,
) -> Refreshed:
    """Train a challenger from the live version, and switch to it if the gate lets it through, or `anyway`.

    `ingested`: the folder of a log that `panther ingest` writes, read in place of the topics, which are read whole;
    `days`: its newest so many, all if not given.

    Raises BadInput where no version is live, where there is no data, where labels come later than Kafka keeps their
    payments, and where another refresh is running.
    """
    if label_delay_ms >= settings.retention_days * DAY_MS:
        raise BadInput(
            f"expected labels to come before Kafka forgets their payments, got a label delay of "
            f"{label_delay_ms / DAY_MS:g} days and PANTHER_RETENTION_DAYS of {settings.retention_days:g}: raise it"
        )
    models = Path(settings.models_dir)
    with _alone(models):
        history = asyncio.run(updates(kafka))
        if not history:
            raise BadInput(
                "expected a live version to go on from, found none: `panther models train`, then `panther models load` "
                "and `panther models promote`"
            )
        champion = history[-1]
        base, version = _folder_of(champion, models), _next_number(models, history)
        folder = models / str(version)
        log = asyncio.run(read_log(kafka, settings)) if ingested is None else _newest(ingested, days, settings.rates)
        manifest = train_challenger(log, base, folder, version, label_delay_ms, seed)
        deploy.install(settings, triton_repository, folder)
        promoted = False
        try:
            checks = judge_challenger(
                log, base, folder, label_delay_ms, partial(deploy.latencies_ms, settings.triton_url), seed
            )
            for why in (against := refusals(checks)):
                say(f"  [bold red]the gate says no[/] {escape(why)}")
            if not against or anyway:
                asyncio.run(announce(kafka, manifest, str(folder.resolve()), instead_of=champion.version))
                promoted = True
        finally:
            if not promoted:  # refused, or something failed: the server is as it was before
                deploy.unload(settings.triton_url, triton_repository, version, settings.triton_headers)
        _report(folder, champion.version, manifest, checks, promoted)
        unloaded: list[int] = []
        if promoted:
            try:
                unloaded = retire(kafka, settings, triton_repository, _PATIENCE_S)
            except (StillInUse, deploy.DeployError) as error:  # it is live all the same; `panther models retire`
                say(f"  {escape(str(error))}")
        else:
            say(f"  version {champion.version} stays live; {folder / 'refresh.html'} has every check")
    labelled = int((log.label >= 0).sum())
    return Refreshed(
        champion.version,
        version,
        promoted,
        checks,
        len(log),
        labelled,
        manifest.threshold,
        unloaded,
        manifest.metrics,
    )


def switch(kafka: KafkaSettings, settings: PantherSettings, triton_repository: Path, version: int) -> None:
    """Install a version on Triton, then announce it to the workers."""
    folder = Path(settings.models_dir) / str(version)
    manifest, _ = deploy.install(settings, triton_repository, folder)
    asyncio.run(announce(kafka, manifest, str(folder.resolve())))


def _newest(folder: Path, days: float | None, rates: Mapping[str, float]) -> TransactionTable:
    if days is None:
        return read_table(folder, rates=rates)
    dates = (Path(file).parent.name for entry in LogStore(folder).entries(TRANSACTIONS) for file in entry.files)
    newest = max((date.removeprefix("date=") for date in dates), default=NO_DATE)
    if newest == NO_DATE:
        raise BadInput(f"expected transactions in {folder}, found none: `panther ingest {folder}`")
    return read_table(folder, round(iso_ms(newest) + DAY_MS - days * DAY_MS), rates=rates)


@contextmanager
def _alone(models: Path) -> Iterator[None]:
    """Keep a second refresh of the same models out. The lock goes with the process, however it ends."""
    models.mkdir(parents=True, exist_ok=True)
    with (models / ".refresh.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"expected no other refresh of {models}, found one running: wait for it, or end it"
            ) from None
        yield


def _folder_of(update: ModelUpdate, models: Path) -> Path:
    """The live version's artifact, as this machine sees it: under the announced path, or in the folder of models."""
    for folder in (Path(update.artifact), models / str(update.version)):
        try:
            if load_manifest(folder).version == update.version:
                return folder
        except (PantherError, OSError):
            continue
    raise BadInput(
        f"expected the artifact of the live version {update.version} at {update.artifact} or in {models}, found none: "
        "copy it there, or set PANTHER_MODELS_DIR"
    )


def _next_number(models: Path, history: list[ModelUpdate]) -> int:
    """One that no version has or ever had: numbers are never used twice."""
    there = [int(path.name) for path in models.glob("*") if deploy.is_version(path.name)]
    return max([*there, *(update.version for update in history)]) + 1


def _report(folder: Path, champion: int, manifest: Manifest, checks: list[Check], promoted: bool) -> None:
    """refresh.json and refresh.html beside the challenger: the decision, and each reason."""
    said: Mapping[str, Any] = {
        "champion": champion,
        "challenger": manifest.version,
        "promoted": promoted,
        "gate": [msgspec.to_builtins(check) for check in checks],
    }
    with written_whole(folder / "refresh.json") as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n")
    title = f"version {manifest.version} beside version {champion}"
    write_page(folder / "refresh.html", render("trainer.report", "refresh.html", title=title, said=said, checks=checks))
