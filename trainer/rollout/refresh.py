"""One turn of the refresh loop: read the log back, train a challenger, judge it beside the champion, switch to it, and
watch it.

The workers go on meanwhile: the challenger is loaded and answers before they hear of it, and each user moves to it at
their next event. A challenger that the gate refuses (trainer.rollout.gate) is taken out of service again; its folder
stays, with the reasons in refresh.json and refresh.html. One that fails in the stream (trainer.rollout.watch) is taken
back.

A turn may be killed at any moment. What is live is what the topic says; what was begun is in the folder of models
(trainer.rollout.journal), and the next turn goes on from there: with the same number, with the challenger if its
training was over, with the watch if it was live.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path

from rich.markup import escape

from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.files import locked
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS, HOUR_MS, now_ms
from panther_core.data.events import ModelUpdate
from panther_core.kafka.updates import updates
from panther_core.signature import check_key
from trainer.rollout import deploy, journal
from trainer.rollout.announce import announce
from trainer.rollout.checks import refusals
from trainer.rollout.go_live import refused_by
from trainer.rollout.journal import Ended, Turn
from trainer.rollout.refresh_report import REPORT
from trainer.rollout.turn import Refreshed, Run, Wanted

_TRIES = 3  # of one challenger, before a turn begins with another
_WATCHED_MS = 6 * HOUR_MS  # of errors, before the watch of a live one is given up: it may be the broker that is away


def refresh_once(kafka: KafkaSettings, settings: PantherSettings, triton_repository: Path, wanted: Wanted) -> Refreshed:
    """Train a challenger from the live version, and switch to it if the gate lets it through; or go on with the turn
    that a killed process had begun.

    Raises BadInput where no version is live, where there is no data, and where another refresh is running; and as
    check_wanted.
    """
    check_wanted(settings, wanted)
    models = Path(settings.models_dir)
    with _alone(models):
        history = asyncio.run(updates(kafka))
        if not history:
            raise BadInput(
                "expected a live version to go on from, found none: `panther models train`, then `panther models load` "
                "and `panther models promote`"
            )
        turn = _turn(settings, triton_repository, history)
        is_live = history[-1].version == turn.version
        try:
            run = Run(kafka, settings, triton_repository, wanted, turn)
            # one that is live was cut off before or after the workers gave their word
            done = run.watched(refused_by(kafka, settings, turn.version)) if is_live else run.judged(history[-1])
        except Exception as error:  # the turn stays begun: the next one goes on with it
            said = str(error) or repr(error)
            journal.add(models, Ended(now_ms(), wanted.why, turn.champion, turn.version, error=said, live=is_live))
            raise
        against = refusals([*done.gate, *done.watch])
        ended = Ended(now_ms(), wanted.why, done.previous, done.version, done.promoted, done.rolled_back, against)
        journal.add(models, ended)
        journal.finish(models)
        return done


def check_wanted(settings: PantherSettings, wanted: Wanted) -> None:
    """Return if a turn can do what is wanted, as far as that can be told before hours of training.

    Raises BadInput where labels come later than Kafka keeps their payments, and where versions must be signed and no
    key is named; InvalidFile where the key cannot be read, or is not the one that they must be signed with.
    """
    if wanted.label_delay_ms >= settings.retention_days * DAY_MS:
        raise BadInput(
            f"expected labels to come before Kafka forgets their payments, got a label delay of "
            f"{wanted.label_delay_ms / DAY_MS:g} days and PANTHER_RETENTION_DAYS of {settings.retention_days:g}: raise "
            "it"
        )
    if settings.models_key is not None and wanted.sign_key is None:
        raise BadInput(
            "expected --sign-key, since PANTHER_MODELS_KEY is set and a version without a signature would be refused "
            "once it is trained (docs/registry.md)"
        )
    if wanted.sign_key is not None:
        check_key(wanted.sign_key, settings.models_key)


def _turn(settings: PantherSettings, triton_repository: Path, history: list[ModelUpdate]) -> Turn:
    """The turn to go on with, or a new one. A begun one is given up where its challenger was live and is not any more,
    where another version than its champion is live, and after _TRIES errors, which of a live one's watch are to be
    _WATCHED_MS apart: what it has loaded is unloaded."""
    models, live = Path(settings.models_dir), history[-1].version
    turn = journal.begun(models)
    if turn is not None:
        was_live = turn.version in {update.version for update in history}
        is_live = live == turn.version
        failed = [
            one.ended_ms
            for one in journal.ended_turns(models)
            if one.error is not None and one.challenger == turn.version and one.live == is_live
        ]
        given_up = len(failed) >= _TRIES and (not is_live or now_ms() - failed[0] >= _WATCHED_MS)
        judged = (models / str(turn.version) / REPORT).exists()  # else somebody else has made it live
        if not given_up and ((is_live and judged) or (live == turn.champion and not was_live)):
            say(f"  going on with the refresh to version {turn.version}, which was cut off")
            return turn
        back = was_live and live == turn.champion  # by an operator, or by the turn itself before it was cut off
        why = [f"given up: {f'after {len(failed)} errors' if given_up else f'version {live} is live by now'}"]
        why += [history[-1].why] if back and history[-1].why else []
        if not was_live:
            try:
                deploy.unload(settings.triton_url, triton_repository, turn.version, settings.triton_headers)
            except deploy.DeployError as error:  # its folders are gone: the server drops it when it loads anything
                say(f"  {escape(str(error))}")
                why.append(f"it was not unloaded: {error}")
        journal.add(
            models, Ended(now_ms(), "a turn that was cut off", turn.champion, turn.version, was_live, back, why)
        )
    turn = Turn(live, _next_number(models, triton_repository, history))
    journal.begin(models, turn)
    return turn


def switch(kafka: KafkaSettings, settings: PantherSettings, triton_repository: Path, version: int) -> None:
    """Install a version on Triton, then announce it to the workers."""
    folder = Path(settings.models_dir) / str(version)
    manifest, _ = deploy.install(settings, triton_repository, folder)
    asyncio.run(announce(kafka, manifest, str(folder.resolve())))


def _alone(models: Path) -> AbstractContextManager[None]:
    """Keep a second refresh of the same models out."""
    taken = f"expected no other refresh of {models}, found one running: wait for it, or end it"
    return locked(models / ".refresh.lock", taken)


def _next_number(models: Path, triton_repository: Path, history: list[ModelUpdate]) -> int:
    """One that no version has or ever had, a trial that was loaded from elsewhere too: numbers are never used twice."""
    found = [*models.glob("*"), *triton_repository.glob("*/*")]
    there = [int(path.name) for path in found if deploy.is_version(path.name)]
    tried = [turn.challenger for turn in journal.ended_turns(models)]
    return max([*there, *tried, *(update.version for update in history)]) + 1
