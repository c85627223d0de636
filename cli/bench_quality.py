"""`panther bench`, quality of the models: compared with baselines, on public or generated data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, LabelDelayDays, NamedFormat, Seed
from panther_core.base.console import console, emit
from panther_core.base.times import DAY_MS

app = typer.Typer()

Log = Annotated[str, typer.Option(help="File or folder of transactions, or `generator`.")]
LogFormat = Annotated[str, typer.Option(help="Its format; ignored for the generator.")]
SequenceFiles = Annotated[Path, typer.Option(help="Folder of sequence files: NAME.txt, NAME.dat, or either with .gz.")]
Sets = Annotated[str, typer.Option(help="Names with commas; all in the folder if not given.")]
Seeds = Annotated[str, typer.Option(help="Numbers with commas.")]
RunsAndCheckpoints = Annotated[
    Path, typer.Option(help="Folder of finished runs and checkpoints; found there, not run again.", file_okay=False)
]


def words(text: str, separator: str = ",") -> list[str]:
    """The words of a text between separators, without blanks around them; empty words are left out."""
    return [word.strip() for word in text.split(separator) if word.strip()]


def numbers(text: str) -> list[int]:
    """The whole numbers of a text between commas. Raises typer.BadParameter."""
    found = words(text)
    if not all(word.isdecimal() for word in found):
        raise typer.BadParameter(f"expected whole numbers with commas, like 0,1,2, got {text!r}")
    return [int(word) for word in found]


@app.command()
def seqrec(
    data: SequenceFiles,
    sets: Sets = "",
    models: Annotated[str, typer.Option(help="Names with commas.")] = "transformer,sasrec,hstu,sprm,panther",
    seeds: Annotated[str, typer.Option(help="Numbers with commas; the first one tunes.")] = "0,1,2",
    out: RunsAndCheckpoints = Path("build/seqrec"),
    tune: Annotated[bool, typer.Option(help="Try the grid for every model, not the defaults alone.")] = True,
    as_json: Json = False,
) -> None:
    """Next item on public sequence sets, full ranking: PANTHER beside Transformer, SASRec and HSTU, tuned alike."""
    from bench.sequences.seqrec_table import run_table
    from bench.tables import show

    result = run_table(data, words(sets), words(models), numbers(seeds), out, tune)
    show(result)
    if as_json:
        emit(result, as_json)


@app.command()
def rerank(
    data: SequenceFiles,
    sets: Sets = "",
    seeds: Seeds = "0,1,2",
    out: Annotated[
        Path, typer.Option(help="Folder of finished runs and encoders; found there, not run again.", file_okay=False)
    ] = Path("build/rerank"),
    as_json: Json = False,
) -> None:
    """Next item, full ranking: PANTHER alone, and with a DCN that orders its first 100 candidates anew."""
    from bench.sequences.rerank_table import run_rerank
    from bench.tables import show_rows

    result = run_rerank(data, words(sets), numbers(seeds), out)
    for name, facts in result["sets"].items():
        show_rows(f"{name}: {facts['evaluated']:,} users; on validation best: {facts['chosen_on_validation']}", facts)
    if as_json:
        emit(result, as_json)


@app.command()
def ablation(
    data: Log = "generator",
    format: LogFormat = "sparkov",
    out: Annotated[
        Path, typer.Option(help="Folder of finished runs; found there, not run again.", file_okay=False)
    ] = Path("build/ablation"),
    variants: Annotated[str, typer.Option(help="Names with semicolons; all if not given.")] = "",
    seeds: Seeds = "0,1,2",
    transactions: Annotated[int, typer.Option(help="At most so many, from the beginning.")] = 200_000,
    config: Annotated[
        Path | None, typer.Option(help="TOML file that changes the training of all; docs/training.md.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Next transaction, full ranking: PANTHER taken apart, beside Transformer, SASRec and HSTU, same budget."""
    from bench.quality.ablation import CONFIG, GENERATED, VARIANTS, run_ablation
    from bench.quality.transfer_logs import target_log
    from bench.tables import show_variants
    from trainer.fit.train_config import from_file

    log = target_log(data, format, transactions, GENERATED)
    training = CONFIG if config is None else from_file(config, CONFIG)
    chosen = words(variants, ";") or tuple(VARIANTS)
    result = run_ablation(log.table, log.profile, out, chosen, numbers(seeds), training)
    show_variants(result)
    if as_json:
        emit(result, as_json)


@app.command()
def transfer(
    data: Log = "generator",
    format: LogFormat = "sparkov",
    source: Annotated[str, typer.Option(help="The other log, pretrained on for C.2; `generator`: another one.")] = (
        "generator"
    ),
    source_format: LogFormat = "sparkov",
    seeds: Annotated[str, typer.Option(help="Numbers with commas; each draws other users too.")] = "0,1,2",
    transactions: Annotated[int, typer.Option(help="At most so many of each log, from the beginning.")] = 100_000,
    out: RunsAndCheckpoints = Path("build/transfer"),
    as_json: Json = False,
) -> None:
    """Next transaction of users that pretraining never saw, and after pretraining on another log."""
    from bench.quality.transfer import Transfer
    from bench.quality.transfer_logs import source_log, target_log
    from bench.tables import show_rows

    target, table = target_log(data, format, transactions), Transfer(out, numbers(seeds))
    unseen = table.unseen(target)
    show_rows(f"{target.name}: unseen users", unseen)
    elsewhere = table.elsewhere(source_log(source, source_format, transactions), target)
    show_rows(f"{elsewhere['source']}, then a small part of {target.name}: unseen users", elsewhere)
    if as_json:
        emit({"unseen": unseen, "elsewhere": elsewhere}, as_json)


@app.command()
def fdh(
    data: Annotated[Path, typer.Option(help="Folder of the Fraud Detection Handbook's transactions.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write: TRANSACTION_ID and score of the test weeks.")],
    folds: Annotated[str | None, typer.Option(help="First training days, YYYY-MM-DD,...; the published ones.")] = None,
    seed: Seed = 0,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Also DeepFM, and LightGBM without groups of features.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fraud Detection Handbook, its prequential protocol: what is served beside LightGBM, DCN-v2 and DeepFM."""
    from bench.fraud.fdh import run_fdh
    from bench.fraud.protocol import parse_folds
    from bench.tables import folds_table
    from trainer.heads.ensemble import Settings

    result = run_fdh(data, out, parse_folds(folds), seed, Settings(ablations=ablations))
    if as_json:
        emit(result, True)
    else:
        console.print(folds_table(result))


@app.command()
def merchants(
    data: Log = "generator",
    format: LogFormat = "fdh",
    budgets: Annotated[str, typer.Option(help="Alerts a day as shares of the merchants, with commas.")] = (
        "0.0001,0.0002,0.0005"
    ),
    label_delay_days: LabelDelayDays = 7,
    as_json: Json = False,
) -> None:
    """Alerts on merchants where compromised ones are known: precision, share found, days, beside the rate of labels."""
    from bench.fraud.merchants import GENERATED, run_merchants
    from bench.quality.transfer_logs import target_log

    log = target_log(data, format, None, GENERATED)
    try:
        shares = tuple(float(word) for word in words(budgets))
    except ValueError:
        raise typer.BadParameter(f"expected shares with commas, like 0.0002,0.001, got {budgets!r}") from None
    emit(run_merchants(log.table, log.profile, round(label_delay_days * DAY_MS), shares), as_json)


@app.command()
def presets(
    data: Annotated[Path, typer.Option(help="Folder with the folders sparkov, fdh and tabformer.")],
    sets: Annotated[str, typer.Option(help="Names with commas; all if not given.")] = "",
    seeds: Seeds = "0,1,2",
    preset: Annotated[str, typer.Option(help="Of `panther models train`.")] = "default",
    without_merchants: Annotated[
        bool, typer.Option("--without-merchants", help="As a stream without `panther merchants` is served.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder of finished runs; found there, not run again.", file_okay=False)
    ] = Path("build/presets"),
    as_json: Json = False,
) -> None:
    """What a training serves on logs of many kinds, beside gradient boosting and the rules on the same rows."""
    from bench.fraud.presets import run_presets

    out.mkdir(parents=True, exist_ok=True)
    result = run_presets(data, words(sets), numbers(seeds), out, preset, not without_merchants)
    emit(result, as_json)
    raise typer.Exit(0 if result["ok"] else 1)


@app.command()
def fraud(
    data: Annotated[Path, typer.Option(help="File or folder of labelled transactions.")],
    format: NamedFormat = "sparkov",
    validate_from: Annotated[str, typer.Option(help="First day of the validation window.")] = "2020-04-01",
    test_from: Annotated[str, typer.Option(help="First day of the test window.")] = "2020-06-01",
    end: Annotated[str, typer.Option(help="Day after the test window.")] = "2020-09-01",
    label_delay_days: LabelDelayDays = 7,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder of the served artifact; found there, not trained again.", file_okay=False)
    ] = Path("build/fraud"),
    as_json: Json = False,
) -> None:
    """One split by time of a labelled log: what is served beside DCN and LightGBM, with and without PANTHER."""
    from bench.fraud.timesplit import run_fraud
    from bench.tables import windows_table
    from panther_core.data.formats import read_table

    table = read_table(format, data)
    result = run_fraud(table, (validate_from, test_from, end), label_delay_days, seed, folder=out)
    console.print(windows_table(result))
    if as_json:
        emit(result, True)


@app.command()
def drift(
    seeds: Annotated[str, typer.Option(help="Numbers with commas; the figures are of these.")] = "1,2,3,4,5",
    tuning_seeds: Annotated[str, typer.Option(help="Numbers with commas; these choose settings.")] = "101,102",
    users: Annotated[int, typer.Option(help="People in each generated log.", min=20)] = 150,
    out: Annotated[
        Path, typer.Option(help="Folder of models and scored logs; found there, not made again.", file_okay=False)
    ] = Path("build/drift"),
    as_json: Json = False,
) -> None:
    """Detectors of drift before labels: delay, false alarms and missed shifts, beside one that always and one that
    never alarms."""
    from bench.quality.drift_detectors import run_drift
    from bench.tables import drift_table

    result = run_drift(out, numbers(tuning_seeds), numbers(seeds), users)
    console.print(drift_table(result))
    if as_json:
        emit(result, True)
