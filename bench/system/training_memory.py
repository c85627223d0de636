"""`panther bench training-memory`: how much memory a refresh takes from a log of so many rows, and what fits a machine.

For each size a log is written as `panther ingest` writes it, and a process of its own reads it and trains and judges a
challenger, as `panther refresh --log` does. Its peak is what the kernel says of the process at its end; between two
sizes the slope is bytes a row.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from panther_core.base.console import say
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.events import Label
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.table import TransactionTable
from panther_core.data.topics import LABELS, TRANSACTIONS
from panther_core.kafka.reading import KafkaRecord
from trainer.fit.train_config import preset
from trainer.log.ingest import SCHEMAS, label_row, transaction_row
from trainer.log.reading import read_table
from trainer.log.store import LogStore, Row
from trainer.rollout.challenge import judge_challenger, train_challenger
from trainer.training import train

_BATCH, _USER_EVENTS, _DELAY_MS = 50_000, 120, 3 * DAY_MS


def run_training_memory(folder: Path, sizes: list[int], memory_gib: float, model: str = "tiny") -> dict[str, Any]:
    """`model`: preset of the champion, whose shape the challenger has. Keys: `peaks_mb` by rows, `bytes_per_row` of the
    largest two sizes, and `rows_that_fit` into `memory_gib`."""
    chosen = preset(model)
    # as a log of a million payments would have it, and trained for a moment: how good it is takes no memory
    config = msgspec.structs.replace(chosen, sized=False, epochs=min(2, chosen.epochs))
    shutil.rmtree(folder, ignore_errors=True)
    peaks: dict[int, float] = {}
    for rows in sorted(sizes):
        log = _sixty_days(rows)
        base, place = folder / "1", folder / f"log-{rows}"
        if not base.exists():
            train(_sixty_days(20_000), base, config=config, version=1, label_delay_ms=_DELAY_MS, profile=PROFILE)
        _write(LogStore(place), log)
        argv = [sys.executable, "-m", "bench.system.training_memory", str(place), str(base), str(folder / f"{rows}")]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        peaks[rows] = float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])
        say(f"  {rows:,} rows: {peaks[rows]:,.0f} MB")
    (few, low), (many, high) = sorted(peaks.items())[-2:]
    slope = (high - low) * 1e6 / (many - few)
    return {
        "peaks_mb": peaks,
        "bytes_per_row": round(slope, 1),
        "rows_that_fit": int(many + (memory_gib * 2**30 - high * 1e6) / slope),
        "memory_gib": memory_gib,
    }


def _sixty_days(rows: int) -> TransactionTable:
    """So many payments: the more there are, the more users they are of."""
    config = GeneratorConfig(users=max(60, rows // _USER_EVENTS), days=60, mean_transactions_per_day=2.2, seed=1)
    return generate(config).take(slice(0, rows))


def _write(store: LogStore, log: TransactionTable) -> None:
    settings, clock = PantherSettings(partitioner="none"), int(log.time_ms[-1])

    def record(offset: int, key: str, value: msgspec.Struct, sent_ms: int) -> KafkaRecord:
        data = msgspec.json.encode(value)
        return KafkaRecord(TRANSACTIONS, 0, offset, sent_ms, 1, key.encode(), data, None, len(key), len(data), [])

    offset = 0
    for low in range(0, len(log), _BATCH):
        part = log.take(slice(low, low + _BATCH))
        paid: list[Row] = []
        told: list[Row] = []
        for payment, moment, fraud in zip(part.rows(), part.time_ms.tolist(), part.label.tolist(), strict=True):
            paid.append(transaction_row(record(offset, payment.user_id, payment, moment), settings, clock))
            label = Label(
                transaction_id=payment.transaction_id,
                user_id=payment.user_id,
                label=fraud,
                label_time=moment + _DELAY_MS,
                source="chargeback",
            )
            told.append(label_row(record(offset, payment.user_id, label, label.label_time), clock + _DELAY_MS))
            offset += 1
        for topic, rows in ((TRANSACTIONS, paid), (LABELS, told)):
            store.write(topic, 0, rows, low, offset - 1, SCHEMAS[topic])


def main() -> None:
    """One refresh without servers; prints {"peak_mb"}. Arguments: the log, the champion, the challenger's folder."""
    place, base, folder = map(Path, sys.argv[1:4])
    log = read_table(place)
    train_challenger(log, base, folder, 2, _DELAY_MS)
    judge_challenger(log, base, folder, _DELAY_MS)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"peak_mb": round(kib * 1024 / 1e6, 1), "rows": len(log)}) + "\n")


if __name__ == "__main__":
    main()
