"""`panther bench`, the whole system: Kafka, a worker and Triton, or the replay of a log by the worker's code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.load import Load
from cli.options import Data, Json, LabelDelayDays, NamedFormat, RunFolder
from panther_core.base.console import emit

app = typer.Typer()

TrainUntil = Annotated[str, typer.Option(help="The model is trained on the days before, YYYY-MM-DD.")]
Users = Annotated[int, typer.Option(help="Users, each with a history.")]
UsersOf256 = Annotated[int, typer.Option(help="Users, each with a history of 256 events on average.")]
HistoryBefore = Annotated[int, typer.Option(help="Events a user has before the stream begins, on average.")]
Rate = Annotated[float, typer.Option(help="Transactions a second.")]
OpenLoopRate = Annotated[float, typer.Option(help="Transactions a second, open loop.")]


@app.command()
def e2e(
    folder: RunFolder = Path("build/bench"),
    users: Users = Load.users,
    history: HistoryBefore = Load.history,
    backlog: Annotated[int, typer.Option(help="Transactions of the capacity phase.")] = Load.backlog,
    rate: Annotated[
        float, typer.Option(min=1, help="Offered in the sustained phase, transactions a second.")
    ] = Load.rate,
    seconds: Annotated[float, typer.Option(min=10, help="Length of the sustained phase.")] = Load.seconds,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of what was sustained, in the latency phase.")
    ] = Load.share,
    latency_seconds: Annotated[float, typer.Option(min=10, help="Length of the latency phase.")] = Load.latency_seconds,
    as_json: Json = False,
) -> None:
    """End to end through Kafka, Faust, RocksDB and Triton: capacity, a sustained rate, latency at a share of it."""
    from bench.system.e2e import run_e2e

    emit(run_e2e(folder, Load(users, history, backlog, rate, seconds, share, latency_seconds)), as_json)


@app.command()
def stream(
    data: Data,
    format: NamedFormat,
    train_until: TrainUntil,
    folder: Annotated[Path | None, typer.Option("--dir", help="Run folder; build/stream-FORMAT if not given.")] = None,
    transactions: Annotated[int, typer.Option(help="Transactions to stream from that day on.")] = 100_000,
    rate: Rate = 1000,
    label_delay_days: LabelDelayDays = 7,
    as_json: Json = False,
) -> None:
    """Public data end to end: train on an earlier window, stream what follows, score it against the labels."""
    from bench.system.public_stream import run_stream

    place = folder or Path(f"build/stream-{format}")
    result = run_stream(place, data, format, train_until, transactions, rate, label_delay_days)
    emit(result, as_json)
    raise typer.Exit(0 if result["missing"] == result["contradicted"] == 0 else 1)


@app.command()
def swap(
    folder: RunFolder = Path("build/bench"),
    users: UsersOf256 = 10_000,
    rate: OpenLoopRate = 1300,
    as_json: Json = False,
) -> None:
    """A second version takes over under steady load: latency before, during and after, errors, mixed decisions."""
    from bench.system.swap_and_outage import run_swap

    emit(run_swap(folder, Load(users), rate), as_json)


@app.command()
def reloads(
    artifact: Annotated[Path, typer.Argument(help="Folder of a trained version.")],
    times: Annotated[int, typer.Option(help="How many loads and unloads.", min=1)] = 200,
    folder: RunFolder = Path("build/bench-reloads"),
    as_json: Json = False,
) -> None:
    """A version loaded and unloaded many times beside one that serves: the server's latency and memory afterwards."""
    from bench.system.reloads import run_reloads

    emit(run_reloads(folder, artifact, times), as_json)


@app.command("training-memory")
def training_memory(
    rows: Annotated[str, typer.Option(help="Sizes of the log, comma separated; two at least.")] = "100000,200000",
    memory_gib: Annotated[float, typer.Option(help="Of the machine that is asked about.", min=0.1)] = 24,
    model: Annotated[str, typer.Option("--preset", help="Of the champion: tiny, demo, default.")] = "tiny",
    folder: RunFolder = Path("build/bench-training-memory"),
    as_json: Json = False,
) -> None:
    """How much memory a refresh takes from a log of so many rows, and how many rows fit a machine by the slope."""
    from bench.system.training_memory import run_training_memory

    sizes = [int(size) for size in rows.split(",")]
    if len(set(sizes)) < 2 or min(sizes) < 40_000:
        raise typer.BadParameter(f"expected two sizes of 40,000 rows and more, got {rows}")
    emit(run_training_memory(folder, sizes, memory_gib, model), as_json)


@app.command()
def outage(
    folder: RunFolder = Path("build/bench"),
    users: UsersOf256 = 2000,
    rate: OpenLoopRate = 500,
    as_json: Json = False,
) -> None:
    """Triton is killed, hangs and comes back under steady load: how soon noticed, how soon well, what was lost."""
    from bench.system.swap_and_outage import run_outage

    emit(run_outage(folder, Load(users), rate), as_json)


@app.command()
def shadow(
    folder: RunFolder = Path("build/bench-shadow"),
    users: UsersOf256 = 1000,
    rate: OpenLoopRate = 100,
    pairs: Annotated[int, typer.Option(min=1, help="Stretches without and with a shadow, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=5, help="Length of a stretch.")] = 30,
    as_json: Json = False,
) -> None:
    """Decision latency under a steady load, with and without `panther shadow run` beside it, in turn."""
    from bench.system.shadow import run_shadow_bench

    emit(run_shadow_bench(folder, Load(users), rate, pairs, seconds), as_json)


@app.command()
def parity(
    folder: RunFolder = Path("build/bench-parity"),
    users: Users = 1000,
    history: HistoryBefore = 128,
    transactions: Annotated[int, typer.Option(help="Transactions to stream.")] = 200_000,
    rate: Rate = 2000,
    as_json: Json = False,
) -> None:
    """A stream with redeliveries, late events, workers that come, go and are killed, and a switch, against its replay.

    Exit code 0 only if nothing differs and nothing is missing.
    """
    from bench.system.parity import run_bench_parity

    report = run_bench_parity(folder, Load(users, history), transactions, rate)
    emit(report, as_json)
    raise typer.Exit(0 if report["mismatches"] == report["missing"] == 0 else 1)


@app.command()
def fuzz(
    folder: RunFolder = Path("build/fuzz"),
    messages: Annotated[int, typer.Option(help="Records through the intake in process.", min=1)] = 1_000_000,
    through_kafka: Annotated[int, typer.Option(help="Records through a real worker; 0 = none.", min=0)] = 50_000,
    artifacts: Annotated[
        int, typer.Option(help="Damaged artifacts, and records of the topics that are read back; 0 = none.", min=0)
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="Decides every byte.")] = 0,
    as_json: Json = False,
) -> None:
    """Damaged records by the million; exit code 0 only if each was decided or dead-lettered and nothing crashed."""
    from bench.chaos.fuzz import run_fuzz

    result = run_fuzz(folder, messages, through_kafka, seed)
    if artifacts:
        from bench.chaos.fuzz_artifacts import fuzz_artifacts

        result["artifacts"] = fuzz_artifacts(folder / "models" / "1", folder / "artifacts", artifacts, seed)
        result["ok"] = result["ok"] and result["artifacts"]["ok"]
    emit(result, as_json)
    raise typer.Exit(0 if result["ok"] else 1)


@app.command()
def hotkey(
    folder: RunFolder = Path("build/bench-hotkey"),
    users: Users = 2000,
    seconds: Annotated[float, typer.Option(min=5, help="Length of each row.")] = 20,
    as_json: Json = False,
) -> None:
    """Others at 500/s beside a hot user, a hot merchant, a producer of garbage: what it costs the others."""
    from bench.system.hotkey import run_hotkey

    emit(run_hotkey(folder, users, seconds), as_json)


@app.command()
def cases(
    folder: RunFolder = Path("build/cases"),
    only: Annotated[list[str] | None, typer.Option(help="Name of a case; may be repeated. All if not given.")] = None,
    as_json: Json = False,
) -> None:
    """What people's clusters, producers and peers do to the stream; exit code 0 only if each case is ok."""
    from bench.cases.suite import run_cases

    result = run_cases(folder, only or ())
    emit(result, as_json)
    raise typer.Exit(0 if result["ok"] else 1)


@app.command()
def replay(
    folder: RunFolder = Path("build/bench-replay"),
    users: Users = 2000,
    history: Annotated[int, typer.Option(help="Events a user has before the clock starts, on average.")] = 256,
    transactions: Annotated[int, typer.Option(help="Transactions that are timed.")] = 400_000,
    as_json: Json = False,
) -> None:
    """Replay through a trained model, chunk by chunk with decisions written, after an untimed past."""
    from bench.system.replay import run_replay

    emit(run_replay(folder, Load(users, history), transactions), as_json)


@app.command("replay-report")
def replay_report(
    data: Data,
    format: NamedFormat,
    train_until: TrainUntil,
    until: Annotated[str | None, typer.Option(help="Day after the last one replayed.")] = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="Run folder; build/report-FORMAT if not given.")] = None,
    label_delay_days: LabelDelayDays = 7,
    as_json: Json = False,
) -> None:
    """Train on an earlier window, replay what follows, and write the report of it (DIR/replay/report.html)."""
    from bench.system.replay_report import run_replay_report

    place = folder or Path(f"build/report-{format}")
    emit(run_replay_report(place, data, format, train_until, until, label_delay_days), as_json)
