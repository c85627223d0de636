"""Panels of `panther --help`, and the options that several commands have with the same name, type and meaning.

Each command sets its own default for such an option: `limit: Limit = None`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from panther_core.base.settings import KafkaSettings
from panther_core.base.times import iso_ms
from panther_core.data.formats import FORMATS

# panels of `panther --help`, by who needs the command
RUN_IT, WORK_ALERTS, TRAIN_AND_DEPLOY = "Run it", "Work alerts", "Train and deploy"
LOOK_BACK = "Look back and measure"

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
RunFolder = Annotated[Path, typer.Option("--dir", help="Run folder.")]
Repository = Annotated[Path, typer.Option(help="Triton's model repository.")]
REPOSITORY = Path("build/stack/models")  # of the stack that `panther up` starts
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]

DATA = typer.Option("--data", help="File or folder of the data set.")
Data = Annotated[Path, DATA]
NamedFormat = Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")]
Format = Annotated[
    str | None,
    typer.Option(help=f"One of {', '.join(FORMATS)}; csv is your own file, and what a mapping is taken for."),
]
Start = Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")]
End = Annotated[str | None, typer.Option(help="Day after the last, YYYY-MM-DD.")]
Limit = Annotated[int | None, typer.Option(help="At most so many transactions.")]
LabelDelayDays = Annotated[
    float, typer.Option("--label-delay-days", "--label-delay", help="How late labels come.", min=0, max=3650)
]
Since = Annotated[
    str | None, typer.Option(help="First day measured, YYYY-MM-DD; if none, the time at which the training ended.")
]


def answering_kafka() -> KafkaSettings:
    """How to reach Kafka, for a command that is about to. Raises KafkaUnavailable within ten seconds."""
    from panther_core.kafka.reading import require_kafka

    kafka = KafkaSettings()
    asyncio.run(require_kafka(kafka))
    return kafka


def moment_ms(option: str, text: str) -> int:
    """Epoch ms of a day or an ISO 8601 time. Raises typer.BadParameter."""
    try:
        return iso_ms(text)
    except ValueError:
        raise typer.BadParameter(f"expected {option} as YYYY-MM-DD or an ISO 8601 time, got {text!r}") from None


def duration_s(option: str, text: str, zero: bool = False) -> float:
    """Seconds of a duration like 30s, 10m, 6h or 1d; of 0s only where `zero` allows it. Raises typer.BadParameter."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit in units and number.replace(".", "", 1).isdecimal() and (zero or float(number) > 0):
        return float(number) * units[unit]
    raise typer.BadParameter(f"expected {option} like 30s, 10m, 6h or 1d, got {text!r}")


def behind_others() -> None:
    """Let this process wait for others, such as a worker on the same machine; a process gets no nicer by a second call.

    Without the right to be nice (a container may forbid it) it goes on as it is.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(10, os.getpriority(os.PRIO_PROCESS, 0)))
