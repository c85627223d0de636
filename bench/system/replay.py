"""`panther bench replay`: how fast a log is replayed in process, with users who have a whole context behind them;
`panther bench replay-report`: what a replay of public data says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.bench_system import Json
from panther_core.base.console import emit
from panther_core.data.formats import FORMATS

if TYPE_CHECKING:
    from bench.load import Load

app = typer.Typer()
CHUNK = 200_000  # rows, as the readers give them


@app.command()
def replay(
    folder: Annotated[Path, typer.Option("--dir", help="Run folder.")] = Path("build/bench-replay"),
    users: Annotated[int, typer.Option(help="Users, each with a history.")] = 2000,
    history: Annotated[int, typer.Option(help="Events a user has before the clock starts, on average.")] = 256,
    transactions: Annotated[int, typer.Option(help="Transactions that are timed.")] = 400_000,
    as_json: Json = False,
) -> None:
    """Replay through a trained model, chunk by chunk with decisions written, after an untimed past."""
    from bench.load import Load

    emit(run_replay(folder, Load(users, history), transactions), as_json)


@app.command("replay-report")
def replay_report(
    data: Annotated[Path, typer.Option(help="File or folder of the data set.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    train_until: Annotated[str, typer.Option(help="The model is trained on the days before, YYYY-MM-DD.")],
    until: Annotated[str | None, typer.Option(help="Day after the last one replayed.")] = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="Run folder; build/report-FORMAT if not given.")] = None,
    label_delay_days: Annotated[float, typer.Option(help="How late labels come.", min=0, max=3650)] = 7,
    as_json: Json = False,
) -> None:
    """Train on an earlier window, replay what follows, and write the report of it (DIR/replay/report.html)."""
    from bench.system.replay_report import run_replay_report

    place = folder or Path(f"build/report-{format}")
    emit(run_replay_report(place, data, format, train_until, until, label_delay_days), as_json)


@app.command()
def parity(
    folder: Annotated[Path, typer.Option("--dir", help="Run folder.")] = Path("build/bench-parity"),
    users: Annotated[int, typer.Option(help="Users, each with a history.")] = 1000,
    history: Annotated[int, typer.Option(help="Events a user has before the stream begins, on average.")] = 128,
    transactions: Annotated[int, typer.Option(help="Transactions to stream.")] = 200_000,
    rate: Annotated[float, typer.Option(help="Transactions a second.")] = 2000,
    as_json: Json = False,
) -> None:
    """A stream with redeliveries, late events, workers that come, go and are killed, and a switch, against its replay.

    Exit code 0 only if nothing differs and nothing is missing.
    """
    from bench.load import Load
    from bench.system.parity import run_bench_parity

    report = run_bench_parity(folder, Load(users, history), transactions, rate)
    emit(report, as_json)
    raise typer.Exit(0 if report["mismatches"] == report["missing"] == 0 else 1)


def run_replay(folder: Path, load: Load, transactions: int) -> dict[str, Any]:
    """Keys as docs/benchmarks names them; `profile` is seconds by step."""
    import numpy as np
    import pyarrow.parquet as pq

    from bench.load import label_delay_ms, long_table
    from infra.local.training import train_once
    from offline.replay import Replayer
    from offline.replay.columns import decision_columns
    from panther_core.model.serving import PantherModel
    from panther_core.serving_model import load_serving_model

    table = long_table(load, transactions)
    split = load.users * load.history
    seen = table.take(slice(max(0, split - 400_000), split))
    train_once(folder, seen, key=f"bench {load.users} {load.history}", label_delay_ms=label_delay_ms(seen))
    artifact = folder / "models" / "1"
    replayer = Replayer(load_serving_model(artifact), PantherModel.load(artifact))
    for low in range(0, split, CHUNK):
        replayer.decide(table.take(slice(low, min(low + CHUNK, split))))
    replayer.seconds.clear()
    started, write_s, lengths = time.perf_counter(), 0.0, []
    for low in range(split, len(table), CHUNK):
        part = table.take(slice(low, low + CHUNK))
        decided = replayer.decide(part)
        lengths.append(decided.decision["history_len"])
        before = time.perf_counter()
        pq.write_table(decision_columns(part, decided, 0), folder / "decisions.parquet", compression="zstd")
        write_s += time.perf_counter() - before
    seconds = time.perf_counter() - started
    profile = {name: round(value, 2) for name, value in replayer.seconds.items()} | {"write": round(write_s, 2)}
    count = len(table) - split
    return {
        "tps": round(count / seconds, 1),
        "transactions": count,
        "seconds": round(seconds, 2),
        "history_len": int(np.median(np.concatenate(lengths))),
        "profile": profile,
    }
