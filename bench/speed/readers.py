"""`python -m bench.speed.readers --rows 24000000`: seconds and peak memory of reading a large file in IBM's format.

Writes random rows in that format (users in order, a hundred thousand merchants, twenty years) into a temporary folder,
then reads them, and then fits a tokenizer on them, each in a process of its own. TMPDIR needs 80 bytes a row for the
file and 48 for sorting it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from panther_core.base.console import say
from panther_core.data.formats import read
from panther_core.data.token_fit import TokenOptions, fit_tokens

_FILE = "credit_card_transactions-ibm_v2.csv"
_PART_ROWS = 200_000
_ROWS_A_USER = 12_000


def write_file(folder: Path, rows: int, seed: int) -> None:
    """Write `rows` random transactions in the format of IBM's file into `folder`."""
    rng = np.random.default_rng(seed)
    merchants = rng.integers(-(2**62), 2**62, 100_000)
    codes = rng.integers(3000, 9000, 109)
    options = pacsv.WriteOptions(quoting_style="none")
    with pacsv.CSVWriter(folder / _FILE, _part(rng, 0, 1, merchants, codes).schema, write_options=options) as writer:
        for first in range(0, rows, _PART_ROWS):
            writer.write_table(_part(rng, first, min(_PART_ROWS, rows - first), merchants, codes))


def _part(rng: np.random.Generator, first: int, rows: int, merchants: Any, codes: Any) -> pa.Table:
    channel = rng.integers(0, 3, rows)
    online = channel == 2
    place = {"Merchant City": ("La Verne", "ONLINE"), "Merchant State": ("CA", ""), "Zip": ("91750.0", "")}
    clock = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(1440)]
    columns = {
        "User": (first + np.arange(rows)) // _ROWS_A_USER,
        "Card": rng.integers(0, 4, rows),
        "Year": rng.integers(2000, 2020, rows),
        "Month": rng.integers(1, 13, rows),
        "Day": rng.integers(1, 29, rows),
        "Time": np.array(clock)[rng.integers(0, 1440, rows)],
        "Amount": np.char.add("$", np.char.mod("%.2f", rng.lognormal(3, 1, rows))),
        "Use Chip": np.array(["Swipe Transaction", "Chip Transaction", "Online Transaction"])[channel],
        "Merchant Name": merchants[np.minimum(rng.geometric(1e-4, rows), len(merchants)) - 1],
        **{name: np.where(online, away, home) for name, (home, away) in place.items()},
        "MCC": codes[np.minimum(rng.geometric(0.05, rows), len(codes)) - 1],
        "Errors?": np.full(rows, ""),
        "Is Fraud?": np.where(rng.random(rows) < 0.001, "Yes", "No"),
    }
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def measure(what: str, folder: Path) -> dict[str, Any]:
    """Read the file (`read`) or fit a tokenizer on it (`tokens`) in this process; seconds and peak memory."""
    began = time.perf_counter()
    if what == "read":
        rows = sum(len(table) for table in read("tabformer", folder))
    else:
        found = fit_tokens(lambda: read("tabformer", folder), TokenOptions(amount_buckets=100, coverage=0.96)).report
        rows = found.fitted.events + (found.later.events if found.later else 0)
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"rows": rows, "seconds": round(seconds, 1), "rows_per_s": round(rows / seconds), "peak_mb": peak_mb}


def main() -> None:
    """Command line; the result is one JSON object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help="used by the command itself")
    args = parser.parse_args()
    if args.measure:
        sys.stdout.write(json.dumps(measure(args.measure[0], Path(args.measure[1]))))
        return
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="panther-readers-") as folder:
        write_file(Path(folder), args.rows, args.seed)
        result["file_mb"] = (Path(folder) / _FILE).stat().st_size >> 20
        for what in ("read", "tokens"):
            argv = [sys.executable, "-m", "bench.speed.readers", "--measure", what, folder]
            result[what] = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
            say(f"  {what}: {result[what]}")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
