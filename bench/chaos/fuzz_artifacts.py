"""`panther bench fuzz --artifacts`: damaged and forged artifacts, and records of the topics that are read back.

Each goes through the functions that workers and commands use. Allowed are a clean result and a PantherError; whatever
is exported must hold the artifact's own files, and what lies beside the folders must stay as it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from bench.chaos.fuzz_records import RecordFuzz
from bench.chaos.mutations import chosen, damaged, mutated, with_text
from panther_core.artifact import KNOWN, MANIFEST, NEEDED, WEIGHTS
from panther_core.base.errors import PantherError
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model
from panther_core.state.features import WIDTH
from trainer.drift.reference import load_reference
from trainer.rollout.deploy import MODELS, TEMPLATES, export

_EXAMPLES = 5
_NETWORK_EVERY = 200  # artifacts whose network is loaded too, which takes a hundred times as long
#: names in manifest.files; the files outside, which these lead to, have the checksums that the manifest says
_OUTSIDE = ("../outside/secret", "../../case/outside/secret", "schema.json/../../outside/secret")
NAMES = (
    *_OUTSIDE,
    *("../model.py", "../config.pbtxt", "model.py", "config.pbtxt", "__pycache__/model.cpython-311.pyc", "a/b"),
    *("./schema.json", "schema.json/", ".", "..", "", "\x00", "schema.json\x00.py", "x" * 300, "manifest.json"),
    *("~/x", "$HOME/x", "C:\\x", "schema.json ", "\u202eschema.json", "report.html", "/etc/passwd", "/dev/zero"),
)


def fuzz_artifacts(artifact: Path, folder: Path, count: int, seed: int) -> dict[str, Any]:
    """`count` cases in turns of an artifact and a record; `ok` only if none crashed and none left its folder.

    `artifact`: a whole version to begin from; `folder`: room for the cases, made anew.
    """
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    case = _ArtifactFuzz(artifact, folder / "case", rng)
    records = RecordFuzz(artifact, rng)
    logging.disable(logging.CRITICAL)  # a worker says of each update why it is refused
    try:
        return _run(case, records, count, began)
    finally:
        logging.disable(logging.NOTSET)


def _run(case: _ArtifactFuzz, records: RecordFuzz, count: int, began: float) -> dict[str, Any]:
    outcomes, crashes, escapes = Counter[str](), list[str](), list[str]()
    for number in range(count):
        run: Callable[[], str] = case.run if number % 2 else records.run
        try:
            outcomes[run()] += 1
        except PantherError as error:
            outcomes[type(error).__name__] += 1
        except _Escaped as error:
            escapes.append(str(error))
        except Exception:
            crashes.append(f"case {number}: {traceback.format_exc(limit=-4)}")
    return {
        "ok": not crashes and not escapes,
        "cases": count,
        "outcomes": dict(outcomes.most_common()),
        "crashes": len(crashes),
        "escapes": len(escapes),
        "examples": (crashes + escapes)[:_EXAMPLES],
        "per_s": round(count / (time.perf_counter() - began)),
    }


class _Escaped(Exception):
    """Something that is no file of an artifact was taken over, or a file outside was changed."""


class _ArtifactFuzz:
    """A working copy of an artifact, one thing of which is wrong in each case."""

    def __init__(self, artifact: Path, room: Path, rng: np.random.Generator) -> None:
        shutil.rmtree(room, ignore_errors=True)
        self._whole, self._case, self._repository = room / "whole", room / "case" / "1", room / "repository"
        shutil.copytree(artifact, self._whole, ignore=lambda _, names: set(names) - KNOWN - {MANIFEST})
        self._manifest = json.loads((self._whole / MANIFEST).read_bytes())
        self._outside = room / "case" / "outside" / "secret"
        self._outside.parent.mkdir(parents=True)
        self._outside.write_bytes(b"import os  # code of somebody else\n")
        for beside in ("model.py", "config.pbtxt"):
            (room / "case" / beside).write_bytes(self._outside.read_bytes())
        self._before = self._beside()
        self._rng, self._number = rng, 0
        shutil.copytree(self._whole, self._case)
        for within in ("model.py", "config.pbtxt", "report.html"):
            (self._case / within).write_bytes(self._outside.read_bytes())

    def run(self) -> str:
        """One case; returns which kind it was, where the artifact was taken. Raises PantherError, _Escaped."""
        kind = chosen((self._wrong_manifest, self._wrong_names, self._wrong_file, self._wrong_kind_of_file), self._rng)
        self._number += 1
        touched = kind()
        try:
            self._use()
            return f"taken: {kind.__name__.strip('_')}"
        finally:
            self._restore(*touched)
            if self._beside() != self._before:
                raise _Escaped(f"{kind.__name__}: files beside the artifact changed")

    def _use(self) -> None:
        """What a worker, a deployment and Triton do with an artifact."""
        try:
            version = export(self._case, self._repository)
            self._check_repository(version)
        finally:
            shutil.rmtree(self._repository, ignore_errors=True)
        model = load_serving_model(self._case)
        score = model.live.rules.score(np.zeros((1, WIDTH), np.float32))
        if not (
            0 <= score[0] <= 1 and len(model.codec.fresh(1)) == 1 and len(model.risk.level(model.risk.merchant[:3]))
        ):
            raise ValueError("a model was taken that gives no score")
        load_reference(self._case)
        if self._number % _NETWORK_EVERY == 0:
            PantherModel.load(self._case)

    def _check_repository(self, version: int) -> None:
        allowed = {MANIFEST, *KNOWN}
        for model in MODELS:
            home = self._repository / model / str(version)
            if {path.name for path in home.iterdir()} != {"model.py", "__pycache__", "artifact"}:
                raise _Escaped(f"other files in {home.name}")
            if (home / "model.py").read_bytes() != (TEMPLATES / model / "model.py").read_bytes():
                raise _Escaped("the artifact's code is in the repository")
            if {path.name for path in (home / "artifact").iterdir()} - allowed:
                raise _Escaped("other files in the exported artifact")
            if any(path.is_symlink() or not path.is_file() for path in (home / "artifact").iterdir()):
                raise _Escaped("a link in the exported artifact")

    def _wrong_manifest(self) -> tuple[str, ...]:
        (self._case / MANIFEST).write_bytes(mutated(self._manifest, self._rng))
        return (MANIFEST,)

    def _wrong_names(self) -> tuple[str, ...]:
        """A name that is none of an artifact's, with the checksum of the file that it leads to; or one too few."""
        files = dict(self._manifest["files"])
        if self._rng.random() < 0.2:
            files.pop(chosen(NEEDED, self._rng))
        else:
            data = self._outside.read_bytes()
            files[chosen(NAMES, self._rng)] = hashlib.sha256(data).hexdigest()
        self._write(files=files)
        return (MANIFEST,)

    def _wrong_file(self) -> tuple[str, ...]:
        """A file with wrong content under a right checksum."""
        name = chosen(NEEDED, self._rng)
        path, data = self._case / name, (self._whole / name).read_bytes()
        if name.endswith(".json") and self._rng.random() < 0.8:
            data = mutated(json.loads(data), self._rng)
        elif name.endswith(".safetensors") and name != WEIGHTS and self._rng.random() < 0.6:
            data = self._wrong_tensors(self._whole / name)
        else:
            data = damaged(data[:400], self._rng) + data[400:]
        path.write_bytes(data)
        self._write(files=self._manifest["files"] | {name: hashlib.sha256(data).hexdigest()})
        return name, MANIFEST

    def _wrong_tensors(self, path: Path) -> bytes:
        tensors, rng = load_file(path), self._rng
        name = chosen(sorted(tensors), rng)
        wrong = tensors[name]
        changes: tuple[Callable[[], np.ndarray[Any, Any]], ...] = (
            lambda: wrong[:-1],
            lambda: wrong.reshape(1, -1),
            lambda: wrong.astype(np.float64),
            lambda: np.zeros(0, wrong.dtype),
            lambda: wrong[::-1].copy(),
            lambda: np.full_like(wrong, np.nan) if wrong.dtype.kind == "f" else wrong + 250,
            lambda: -wrong,
        )
        changed = dict(tensors)
        changed[name] = chosen(changes, rng)()
        if rng.random() < 0.2:
            changed["other"] = changed.pop(name)
        data: bytes = save({key: np.ascontiguousarray(value) for key, value in changed.items()})
        return data

    def _wrong_kind_of_file(self) -> tuple[str, ...]:
        """A link (to the very same bytes, to a file outside, to nothing), a folder or a pipe in place of a file."""
        name = chosen((*NEEDED, MANIFEST), self._rng)
        path = self._case / name
        path.unlink()
        kind = int(self._rng.integers(6))
        if kind < 3:
            path.symlink_to((self._whole / name, self._outside, path.with_name("nothing"))[kind])
        elif kind == 3:
            path.mkdir()
        elif kind == 4:
            os.mkfifo(path)
        return (name,)

    def _write(self, **changes: Any) -> None:
        manifest = self._manifest | changes
        if self._rng.random() < 0.1:
            field = chosen(("version", "threshold", "cached_width"), self._rng)
            data = with_text(manifest, (field,), "4294967296")
        else:
            data = json.dumps(manifest).encode()
        (self._case / MANIFEST).write_bytes(data)

    def _restore(self, *names: str) -> None:
        for name in names:
            path = self._case / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            shutil.copy2(self._whole / name, path)

    def _beside(self) -> dict[str, bytes]:
        """Every file beside the artifact's folder, by name."""
        home = self._case.parent
        found = [path for path in home.rglob("*") if path.is_file() and self._case not in path.parents]
        return {str(path.relative_to(home)): path.read_bytes() for path in found}
