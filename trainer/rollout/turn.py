"""The steps of a refresh: train the challenger, judge it, switch to it, watch it. A kill ends none of them for good."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.markup import escape

from panther_core.artifact import MANIFEST, Manifest, load_manifest
from panther_core.base.console import say
from panther_core.base.errors import BadInput, PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS, iso_ms, span
from panther_core.data.events import ModelUpdate
from panther_core.data.table import TransactionTable
from panther_core.data.topics import TRANSACTIONS
from panther_core.kafka.updates import updates
from panther_core.signature import sign
from trainer.drift.reference import score_bins
from trainer.log.either import open_log
from trainer.log.reading import read_table
from trainer.log.store import NO_DATE
from trainer.rollout import deploy
from trainer.rollout.announce import folder_of
from trainer.rollout.challenge import judge_challenger, train_challenger
from trainer.rollout.checks import Check, refusals
from trainer.rollout.go_live import Taken, promote, take_back, watch_or_go_back
from trainer.rollout.journal import Turn
from trainer.rollout.kafka_log import read_log
from trainer.rollout.mlflow_mirror import Event, mirror, reconcile
from trainer.rollout.refresh_report import Report
from trainer.rollout.retire import StillInUse, retire
from trainer.rollout.shadow_report import shadow_for
from trainer.rollout.watch import judge_shadow, too_few

_PATIENCE_S = 120.0  # for the workers' sweeps


@dataclass(frozen=True)
class Wanted:
    """What a turn is to do.

    `anew`: the challenger is trained from no weights, with a vocabulary of its own. `ingested`: the folder of a log
    that `panther ingest` writes, read in place of the topics, which are read whole; `days`: its newest so many, all if
    not given; `most_rows`: as many of them as hold no more payments, which bounds the memory. `matured_honest`: a
    payment that is older than the label delay and has no label counts as honest. `anyway`: switch whatever the gate
    says. `shadow_s`: how long the challenger follows the live stream before the switch; `watch_s`: how long it is
    watched after it. `sign_key`: the private key that its manifest is signed with. `why`: what began the turn, in
    words.
    """

    label_delay_ms: int
    seed: int = 0
    anyway: bool = False
    anew: bool = False
    ingested: Path | None = None
    days: float | None = None
    most_rows: int | None = None
    matured_honest: bool = False
    shadow_s: float = 0.0
    watch_s: float = 0.0
    sign_key: Path | None = None
    why: str = "by hand"


@dataclass(frozen=True)
class Refreshed:
    """What a turn did: the champion, the challenger, whether it went live, every check of the gate and of the watch."""

    previous: int
    version: int
    promoted: bool
    gate: list[Check]
    transactions: int
    labelled: int
    threshold: float
    unloaded: list[int]
    metrics: dict[str, Any]
    watch: list[Check] = field(default_factory=list)
    rolled_back: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = {name: [msgspec.to_builtins(check) for check in getattr(self, name)] for name in ("gate", "watch")}
        return asdict(self) | checks


@dataclass(frozen=True)
class Run:
    """The steps of one turn."""

    kafka: KafkaSettings
    settings: PantherSettings
    repository: Path
    wanted: Wanted
    turn: Turn

    @property
    def models(self) -> Path:
        return Path(self.settings.models_dir)

    @property
    def folder(self) -> Path:
        """Of the challenger."""
        return self.models / str(self.turn.version)

    def judged(self, champion: ModelUpdate) -> Refreshed:
        """Train, unless that is done, judge, and switch if the gate lets it."""
        wanted, version, base = self.wanted, self.turn.version, folder_of(champion, self.models)
        deploy.trusted_manifest(self.settings, base)  # or what nobody has signed would go on under a new signature
        log = self._read()
        manifest = _trained(self.folder)
        if manifest is None:
            manifest = train_challenger(
                log, base, self.folder, version, wanted.label_delay_ms, wanted.seed, wanted.anew
            )
        if wanted.sign_key is not None:  # anew where it is signed: the key may have changed since a turn was cut off
            sign(self.folder, wanted.sign_key)
        mirror(self.folder, "trained")
        deploy.install(self.settings, self.repository, self.folder)
        taken: Taken | None = None
        try:
            latency = partial(deploy.latencies_ms, self.settings.triton_url)
            found = judge_challenger(log, base, self.folder, wanted.label_delay_ms, latency, wanted.seed)
            for why in (against := refusals(found.checks)):
                say(f"  [bold red]the gate says no[/] {escape(why)}")
            counts = score_bins(found.scores).tolist() if len(found.scores) else []
            report = Report(
                champion=champion.version,
                challenger=version,
                promoted=False,
                gate=found.checks,
                score_counts=counts,
                alert_share=next((c.challenger for c in found.checks if c.check == "alert_budget"), None),
                transactions=len(log),
                labelled=int((log.label >= 0).sum()),
            )
            report.write(self.folder)
            if wanted.shadow_s and (not against or wanted.anyway):
                report, failed = self._shadowed(report, manifest)
                against += failed
            if not against or wanted.anyway:
                folder = str(self.folder.resolve())
                seen, why = champion.version, wanted.why
                taken = promote(self.kafka, self.settings, manifest, folder, instead_of=seen, why=why)
                taken.explain()
        finally:
            if taken is None:  # refused, or something failed: the server is as it was before
                self._take_out()
        if taken is None:
            self._mirror("refused", report.gate)
            say(f"  version {champion.version} stays live; {self.folder / 'refresh.html'} has every check")
            return self._result(report, manifest)
        return self.watched(taken.refused)

    def watched(self, refused: Sequence[str] = ()) -> Refreshed:
        """Watch the challenger, which is live, and take it back if it fails; else unload the versions before it.

        `refused`: why workers have not taken it, where they said so: then it is taken back at once. The champion stays
        loaded (trainer.rollout.retire), so that a rollback takes seconds.
        """
        manifest, _ = deploy.install(self.settings, self.repository, self.folder)  # it may have been unloaded since
        report = Report.read(self.folder)
        checks: list[Check] = []
        if refused:
            why = f"workers do not take version {self.turn.version}: {'; '.join(refused)}"
            checks = [Check("live_taken", False, None, None, None, why)]
            take_back(self.kafka, self.settings, self.repository, self.turn.version, why, self.turn.champion)
        elif self.wanted.watch_s:
            say(f"  version {self.turn.version} is live; it is watched for {span(self.wanted.watch_s)}")
            watched = (self.kafka, self.settings, self.repository, self.folder, self.wanted.watch_s)
            checks = watch_or_go_back(*watched, self.turn.champion)
        against = refusals(checks)
        report = msgspec.structs.replace(report, promoted=True, watch=checks, rolled_back=bool(against))
        report.write(self.folder)
        self._mirror("rolled_back" if against else "promoted", [*report.gate, *checks])
        unloaded: list[int] = []
        if not against:
            try:
                unloaded = retire(self.kafka, self.settings, self.repository, _PATIENCE_S)
            except (StillInUse, deploy.DeployError) as error:  # it is live all the same; `panther models retire`
                say(f"  {escape(str(error))}")
        return self._result(report, manifest, unloaded)

    def _read(self) -> TransactionTable:
        wanted = self.wanted
        if wanted.ingested is None:
            log = asyncio.run(read_log(self.kafka, self.settings))
        else:
            log = newest_days(wanted.ingested, wanted.days, self.settings.rates, wanted.most_rows)
        if not wanted.matured_honest:
            return log
        matures_ms = log.time_ms + wanted.label_delay_ms
        old = (log.label < 0) & (matures_ms <= log.time_ms[-1])
        told_ms = np.where(old, matures_ms, log.labels_told_ms(wanted.label_delay_ms))
        return replace(log, label=np.where(old, 0, log.label).astype(np.int8), told_ms=told_ms)

    def _shadowed(self, report: Report, manifest: Manifest) -> tuple[Report, list[str]]:
        """Let the challenger follow the live stream, and keep what it did beside the live version; what it failed."""
        say(f"  version {self.turn.version} follows the live stream for {span(self.wanted.shadow_s)}")
        delay_ms = self.wanted.label_delay_ms
        try:
            found = shadow_for(self.kafka, self.settings, self.folder, self.wanted.shadow_s, delay_ms)
        except BadInput as error:  # no payment came: there is nothing to say against it
            say(f"  {escape(str(error))}")
            report = msgspec.structs.replace(report, gate=[*report.gate, too_few("shadow_decisions", 0)])
            report.write(self.folder)
            return report, []
        checks = judge_shadow(found, max(report.alert_share or 0.0, manifest.alert_budget))
        for why in (failed := refusals(checks)):
            say(f"  [bold red]the shadow says no[/] {escape(why)}")
        report = msgspec.structs.replace(report, gate=[*report.gate, *checks], shadow=found)
        report.write(self.folder)
        return report, failed

    def _mirror(self, event: Event, checks: Sequence[Check]) -> None:
        mirror(self.folder, event, checks)
        reconcile(asyncio.run(updates(self.kafka)), self.models)

    def _take_out(self) -> None:
        """Unload the challenger, unless somebody has made it live meanwhile, or nobody can tell."""
        try:
            if asyncio.run(updates(self.kafka))[-1].version == self.turn.version:
                say(f"  version {self.turn.version} is live by now: it stays loaded")
                return
        except Exception as error:  # Kafka is away, or the switch was sent and nobody has heard of it
            say(f"  version {self.turn.version} stays loaded, perhaps it is live: {escape(str(error) or repr(error))}")
            return
        try:
            deploy.unload(self.settings.triton_url, self.repository, self.turn.version, self.settings.triton_headers)
        except deploy.DeployError as error:  # its folders are gone: the server drops it when it loads anything
            say(f"  {escape(str(error))}")

    def _result(self, report: Report, manifest: Manifest, unloaded: Sequence[int] = ()) -> Refreshed:
        return Refreshed(
            previous=report.champion,
            version=report.challenger,
            promoted=report.promoted,
            gate=report.gate,
            transactions=report.transactions,
            labelled=report.labelled,
            threshold=manifest.threshold,
            unloaded=list(unloaded),
            metrics=manifest.metrics,
            watch=report.watch,
            rolled_back=report.rolled_back,
        )


def newest_days(
    folder: Path, days: float | None, rates: Mapping[str, float], most_rows: int | None = None
) -> TransactionTable:
    """The newest days of an ingested log (None: all of it), as many of them as hold no more than `most_rows` payments,
    and one at least. Raises BadInput where it has no transaction."""
    held = open_log(folder).rows_by_date(TRANSACTIONS)
    held.pop(NO_DATE, None)
    if not held:
        raise BadInput(f"expected transactions in {folder}, found none: `panther ingest {folder}`")
    newest, since, rows = max(held), min(held), 0
    for date in sorted(held, reverse=True):
        rows += held[date]
        if most_rows is not None and rows > most_rows and date != newest:
            say(f"  {date} and the days before it are left out: more than {most_rows:,} payments")
            break
        since = date
    since_ms = iso_ms(since)
    if days is not None:
        since_ms = max(since_ms, round(iso_ms(newest) + DAY_MS - days * DAY_MS))
    return read_table(folder, since_ms, rates=rates)


def _trained(folder: Path) -> Manifest | None:
    """Manifest of a version whose training is over; None where it is not, or what is there is damaged."""
    try:
        return load_manifest(folder) if (folder / MANIFEST).exists() else None
    except PantherError:
        return None
