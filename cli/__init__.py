"""The `panther` command: every role's commands under one name."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Annotated

import typer

from bench.system import replay as commands_replay
from cli import backtest as commands_backtest
from cli import bench_quality as commands_quality
from cli import bench_speed as commands_worker
from cli import bench_system as commands_run
from cli import chaos as commands_chaos
from cli import data as commands_data
from cli import dlq as commands_dlq
from cli import parity as parity_commands
from cli import refresh as trainer_commands
from cli import replay as stream_commands
from cli import report as report_commands
from cli import run as commands_stack
from cli.models import app as models
from panther_core.base.console import emit, say
from panther_core.base.errors import PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
topics = typer.Typer(no_args_is_help=True, help="Topics of the application.")
app.add_typer(topics, name="topics")
commands_run.bench.registered_commands += commands_quality.app.registered_commands
commands_run.bench.registered_commands += commands_replay.app.registered_commands
commands_run.bench.registered_commands += commands_worker.app.registered_commands
commands_run.bench.registered_commands += commands_chaos.bench.registered_commands
app.add_typer(commands_run.bench, name="bench")
app.add_typer(commands_data.app, name="data")
app.add_typer(models, name="models")
app.add_typer(commands_dlq.app, name="dlq")
for part in (
    commands_stack.app,
    stream_commands.app,
    trainer_commands.app,
    commands_run.app,
    commands_backtest.app,
    commands_chaos.app,
    report_commands.app,
    parity_commands.app,
):
    app.registered_commands += part.registered_commands


@topics.command("create")
def topics_create(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")] = False,
) -> None:
    """Make the topics that are missing; existing ones are checked, never changed."""
    from infra.topics import create_topics

    emit(asyncio.run(create_topics(KafkaSettings(), PantherSettings())), as_json)


@topics.command("describe")
def topics_describe() -> None:
    """The topics and their records as an AsyncAPI document, on stdout."""
    from infra.asyncapi import document

    sys.stdout.write(json.dumps(document(), indent=1) + "\n")


def main() -> None:
    """Entry point: errors raised on purpose are one readable line and exit code 1, without a traceback."""
    # Threads that wait must not spin: beside another busy process that costs a factor of ten (docs/log.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except PantherError as error:
        say(f"[bold red]error[/] {error}")
        sys.exit(1)
