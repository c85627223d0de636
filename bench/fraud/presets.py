"""`panther bench presets`: what the default training serves on logs of many kinds, beside boosting and the rules.

Each set is trained on with `panther models train`'s own defaults and judged on the training's own test slice. Finished
runs are kept, and not run again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.base.times import DAY_MS
from panther_core.data.formats import read_table
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.table import TransactionTable
from trainer.fit.train_config import preset
from trainer.report.facts import load
from trainer.report.verdict import behind
from trainer.training import train

_USERS_OF_CARDS = 300
_MANY = 50_000


def easy(seed: int = 0, rows: int = 20_000) -> TransactionTable:
    """Payments whose frauds are easy to tell: large amounts at night at few merchants, as of an own small file."""
    table = generate(GeneratorConfig(users=_USERS_OF_CARDS, days=120, seed=seed, newcomer_share=0)).take(slice(0, rows))
    rng = np.random.default_rng(seed)
    fraud = rng.random(len(table)) < 0.006
    amount = np.where(fraud, table.amount * rng.uniform(4, 12, len(table)) + 100, table.amount)
    return replace(table, amount=amount, label=fraud.astype(np.int8))


#: name -> (folder of --data or "", format, rows or None for all)
SETS: dict[str, tuple[str, str, int | None]] = {
    "sparkov-50k": ("sparkov", "sparkov", _MANY),
    "sparkov": ("sparkov", "sparkov", None),
    "fdh-50k": ("fdh", "fdh", _MANY),
    "fdh": ("fdh", "fdh", None),
    "tabformer-user0": ("tabformer", "tabformer", None),
    "generator-20k": ("", "generator", 20_000),
    "generator-1m": ("", "generator", 1_000_000),
    "easy-20k": ("", "easy", 20_000),
}


def run_presets(
    data: Path, sets: Sequence[str], seeds: Sequence[int], out: Path, name: str, merchants: bool = True
) -> dict[str, Any]:
    """A row for each set and seed, with the preset `name`. Raises BadInput for a set that is not known.

    `merchants`: whether anything is known of merchants.
    """
    rows = []
    for chosen in sets or tuple(SETS):
        if chosen not in SETS:
            raise BadInput(f"expected sets out of {', '.join(SETS)}, got {chosen!r}")
        for seed in seeds:
            done = out / f"{chosen}-{seed}.json"
            if not done.exists():
                table = _table(data, chosen)
                table = table if merchants else table.with_unknown_merchants()
                row = _row(chosen, table, seed, out / f"{chosen}-{seed}", name)
                with written_whole(done) as part:
                    part.write_bytes(msgspec.json.encode(row))
            rows.append(msgspec.json.decode(done.read_bytes()))
            say(f"  {rows[-1]}")
    return {"rows": rows, "ok": all(row["ok"] for row in rows)}


def _table(data: Path, chosen: str) -> TransactionTable:
    folder, format, rows = SETS[chosen]
    made: dict[str, Callable[[], TransactionTable]] = {
        "easy": lambda: easy(rows=rows or 0),
        "generator": lambda: generate(GeneratorConfig(users=max(200, (rows or 0) // 100), days=60, seed=0)),
    }
    if format in made:
        return made[format]().take(slice(0, rows))
    return read_table(format, data / folder, limit=rows)


def _row(chosen: str, table: TransactionTable, seed: int, folder: Path, name: str) -> dict[str, Any]:
    began = time.monotonic()
    profile = PROFILE if SETS[chosen][1] == "generator" else None
    delay_ms = min(7 * DAY_MS, (int(table.time_ms[-1]) - int(table.time_ms[0])) // 40)  # short logs have short slices
    manifest = train(table, folder, config=preset(name), label_delay_ms=delay_ms, seed=seed, profile=profile)
    fraud, metrics = load(folder).fraud, manifest.metrics
    worth = {scorer.name: scorer.metrics["average_precision"] for scorer in fraud.scorers}
    rates = metrics["test"]["alert_rate"], metrics["test_first_events"]["alert_rate"]
    shutil.rmtree(folder)
    return {
        "set": chosen,
        "rows": len(table),
        "seed": seed,
        "ap_served": worth["model"],
        "ap_boosting": worth["gradient boosting"],
        "ap_boosting_panther": worth["gradient boosting + PANTHER"],
        "ap_without_panther": worth["model without PANTHER"],
        "ap_rules": worth["rules"],
        "interval": fraud.scorers[0].interval,
        "gain_over_boosting": fraud.gains["gradient boosting"],
        "gain_of_panther": fraud.gains["model without PANTHER"],
        "blend": metrics["blend"],
        "frauds": fraud.frauds,
        "alert_rate": rates[0],
        "alert_rate_cold": rates[1],
        "minutes": round((time.monotonic() - began) / 60, 2),
        "ok": not behind(fraud.gains) and max(rates) <= 2 * manifest.alert_budget,
    }
