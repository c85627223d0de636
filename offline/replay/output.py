"""A replay's result folder: results appear only when they are whole, and a killed run goes on where it stopped.

DIR/decisions-v{VERSION}.parquet, DIR/replay.json     the result
DIR/merchant-alerts-v{VERSION}.jsonl                  alerts on merchants, as on merchant.alerts
DIR/.partial/plan.json                                what the result depends on; a run with another plan is refused
DIR/.partial/v{VERSION}-{CHUNK}.parquet, .jsonl       decisions and alerts of one chunk
DIR/.partial/memory-{CHUNKS}/                         what the replayers knew of the users after so many chunks
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offline.replay.columns import SCHEMA
from offline.replay.replayer import Replayer
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.data.merchant_events import MerchantAlert
from panther_core.decide.records import to_json

_SAVE_SHARE = 10  # memory is saved once this many times the last save's seconds have gone by


class Output:
    """The folder of one run."""

    def __init__(self, folder: Path, plan: dict[str, Any], replayers: list[Replayer]) -> None:
        """Go on with a killed run of the same `plan`, or begin. Raises BadInput where other results lie in the way."""
        self.folder, self._partial, self._replayers = folder, folder / ".partial", replayers
        self._saved, self._save_s = time.perf_counter(), 0.0
        if (folder / "replay.json").exists():
            raise BadInput(f"expected a new folder, {folder} holds a finished replay: give another --out or remove it")
        kept, text = self._partial / "plan.json", json.dumps(plan, indent=1, sort_keys=True)
        if kept.exists() and kept.read_text() != text:
            before = json.loads(kept.read_text())
            other = sorted(name for name in plan.keys() | before.keys() if plan.get(name) != before.get(name))
            raise BadInput(
                f"{self._partial} holds an unfinished replay that differs in {', '.join(other)}: give the same "
                "options to finish it, or remove the folder to begin anew"
            )
        self._partial.mkdir(parents=True, exist_ok=True)
        _write(kept, text)
        self.chunks = self._restore()
        self.merchant_alerts = [0] * len(replayers)
        """Of each model, once the run is finished."""

    def _restore(self) -> int:
        """The number of chunks that are done; sets the replayers back to what they knew after that chunk."""
        done = max((int(path.name.split("-")[1]) for path in self._partial.glob("memory-*[0-9]")), default=0)
        for replayer in self._replayers if done else ():
            folder = self._memory(done) / str(replayer.serving.live.version)
            replayer.restore({path.stem: np.load(path) for path in folder.glob("*.npy")})
        return done

    def add(self, tables: list[pa.Table], alerts: list[list[MerchantAlert]]) -> None:
        """Keep the decisions of the next chunk and the alerts on merchants, those of one model after another."""
        for replayer, table, own in zip(self._replayers, tables, alerts, strict=True):
            lines = b"".join(to_json(alert) + b"\n" for alert in own)
            self._part(replayer, self.chunks).with_suffix(".jsonl").write_bytes(lines)
            pq.write_table(table, self._part(replayer, self.chunks), compression="zstd")
        self.chunks += 1
        if time.perf_counter() - self._saved >= _SAVE_SHARE * self._save_s:
            self._save()

    def _save(self) -> None:
        started = time.perf_counter()
        temporary = self._partial / "saving"
        shutil.rmtree(temporary, ignore_errors=True)
        for replayer in self._replayers:
            folder = temporary / str(replayer.serving.live.version)
            folder.mkdir(parents=True)
            for name, array in replayer.memory().items():
                np.save(folder / f"{name}.npy", array)
        os.replace(temporary, self._memory(self.chunks))
        for old in self._partial.glob("memory-*[0-9]"):
            if old != self._memory(self.chunks):
                shutil.rmtree(old)
        self._saved = time.perf_counter()
        self._save_s = self._saved - started

    def finish(self, manifest: dict[str, Any]) -> list[Path]:
        """Join the chunks into one file a model; the manifest is written last, so it stands only beside whole files."""
        out = []
        for i, replayer in enumerate(self._replayers):
            alerts = self.folder / f"merchant-alerts-v{replayer.serving.live.version}.jsonl"
            with written_whole(alerts) as whole, whole.open("wb") as file:
                for chunk in range(self.chunks):
                    lines = self._part(replayer, chunk).with_suffix(".jsonl").read_bytes()
                    self.merchant_alerts[i] += lines.count(b"\n")
                    file.write(lines)
            path = self.folder / f"decisions-v{replayer.serving.live.version}.parquet"
            with written_whole(path) as whole, pq.ParquetWriter(whole, SCHEMA, compression="zstd") as writer:
                for chunk in range(self.chunks):
                    writer.write_table(pq.read_table(self._part(replayer, chunk)))
            out.append(path)
        _write(self.folder / "replay.json", json.dumps(manifest, indent=1))
        shutil.rmtree(self._partial)
        return out

    def _part(self, replayer: Replayer, chunk: int) -> Path:
        return self._partial / f"v{replayer.serving.live.version}-{chunk:06d}.parquet"

    def _memory(self, chunks: int) -> Path:
        return self._partial / f"memory-{chunks:06d}"


def _write(path: Path, text: str) -> None:
    with written_whole(path) as aside:
        aside.write_text(text)
