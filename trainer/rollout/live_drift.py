"""The live version and the log, laid beside each other: what `panther drift` looks at, once or again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from rich.markup import escape

from panther_core.base.console import say
from panther_core.base.errors import BadInput, PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.kafka.updates import updates
from trainer.drift.gauges import DriftGauges
from trainer.drift.look import Drift, look, newest
from trainer.rollout.announce import folder_of
from trainer.rollout.kafka_log import read_log
from trainer.rollout.turn import newest_days

_MOST_ROWS = 5_000_000  # of them, which bounds the memory; as a refresh
_PAST_DAYS = 60.0  # of a folder's log, read before the days compared, as users' and merchants' history


def live_folder(kafka: KafkaSettings, settings: PantherSettings) -> Path:
    """The artifact of the live version. Raises BadInput where there is none."""
    history = asyncio.run(updates(kafka))
    if not history:
        raise BadInput(
            "expected a live version to compare with, found none: name an artifact with --model, or "
            "`panther models promote` one"
        )
    return folder_of(history[-1], Path(settings.models_dir))


def look_at_log(
    folder: Path,
    ingested: Path | None,
    kafka: KafkaSettings | None,
    settings: PantherSettings,
    days: float,
    delay_ms: int,
) -> Drift:
    """Look at the newest `days` of the log in the folder `ingested`, or of Kafka's topics where there is none.

    Raises BadInput where there are too few payments, and for a version of before `reference.json`.
    """
    if ingested is None:
        assert kafka is not None
        log = asyncio.run(read_log(kafka, settings))
    else:
        log = newest_days(ingested, days + delay_ms / DAY_MS + _PAST_DAYS, settings.rates, _MOST_ROWS)
    return look(log, folder, *newest(log, days, delay_ms), delay_ms)


def watch(look_now: Callable[[], Drift], every_s: float, gauges: DriftGauges, show: Callable[[Drift], None]) -> None:
    """Look every so many seconds, until interrupted. The first look may fail; later failures are said and counted."""
    first = True
    while True:
        began = time.monotonic()
        try:
            found = look_now()
        except PantherError as error:
            if first:
                raise
            gauges.failures.inc()
            say(f"  {escape(str(error))}")
        else:
            gauges.show(found)
            show(found)
        first = False
        time.sleep(max(0.0, every_s - (time.monotonic() - began)))
