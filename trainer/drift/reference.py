"""reference.json of an artifact: what the training saw, so that what the version sees later can be laid beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core import artifact
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.base.odds import log_odds
from panther_core.base.ranges import Range, check_ranges
from panther_core.data.events import MAX_TIME_MS
from panther_core.data.schema import CODE
from panther_core.decide.scoring import SURPRISE
from panther_core.report.curves import Floats
from trainer.drift.expected import expected
from trainer.drift.stability import counts_of

#: upper edges of the score's bins, as log odds; the last bin has none
SCORE_EDGES = np.arange(-10, 5.25, 0.5)
_MOST_CODES, _MOST_ROWS = 1 << 16, 2**53


class NoReference(BadInput):
    """A version whose training has kept nothing to compare with: a refresh makes one that has it."""


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a training saw. Raises BadInput for a value out of range.

    `codes`, of the rows that were learnt from; all else of the test rows, of which the version has learnt nothing, so
    that they are what it sees when it goes live. `learnt`, `tested`: first and last event time, epoch ms.
    """

    codes: dict[str, list[int]]
    """By attribute (scoring.SURPRISE), rows by code; hours are those of the day."""
    learnt: tuple[int, int]
    tested: tuple[int, int]
    rows: Annotated[int, Range(1, _MOST_ROWS)]
    """Test rows."""
    unk_share: Annotated[float, Range(0, 1)]
    surprise_mean: Annotated[float, Range(-1e6, 1e6)]
    """Of the sum over attributes, nats."""
    surprise_std: Annotated[float, Range(0, 1e6)]
    scores: list[int]
    """Rows by bin of log odds (SCORE_EDGES)."""
    alerts: Annotated[int, Range(0, _MOST_ROWS)]
    """Rows whose score reached the threshold."""
    average_precision: Annotated[float, Range(0, 1)]
    """That the scores promise (trainer.drift.expected)."""

    def __post_init__(self) -> None:
        check_ranges(self, artifact.REFERENCE)
        if set(self.codes) != set(SURPRISE):
            raise BadInput(f"expected codes of {', '.join(SURPRISE)}, got {', '.join(sorted(self.codes))[:80]!r}")
        if len(self.scores) != len(SCORE_EDGES) + 1:
            raise BadInput(f"expected {len(SCORE_EDGES) + 1} bins of scores, got {len(self.scores)}")
        for name, counts in (*self.codes.items(), ("scores", self.scores)):
            if not 0 < len(counts) <= _MOST_CODES or min(counts) < 0 or not 0 < sum(counts) <= _MOST_ROWS:
                raise BadInput(f"expected counts of {name} from 0 on, and one above, got others")
        if sum(self.scores) != self.rows or self.alerts > self.rows:
            raise BadInput(f"expected {self.rows} scores, and no more alerts, got {sum(self.scores)} and {self.alerts}")
        for begin, end in (self.learnt, self.tested):
            if not -MAX_TIME_MS <= begin <= end <= MAX_TIME_MS:
                raise BadInput("expected times of rows in epoch ms, the first before the last, got others")


def attribute_codes(code: NDArray[np.void]) -> dict[str, NDArray[np.integer]]:
    """Codes [N] of each attribute watched. Hours are those of the day: a few days are no sample of a week."""
    return {name: code[name] % 24 if name == "hour" else code[name] for name in SURPRISE}


def score_bins(score: Floats) -> NDArray[np.int64]:
    """Rows by bin of log odds."""
    return np.bincount(np.searchsorted(SCORE_EDGES, log_odds(score)), minlength=len(SCORE_EDGES) + 1).astype(np.int64)


def write_reference(
    folder: Path,
    learnt: tuple[NDArray[np.uint64], NDArray[np.int64]],
    tested: tuple[Floats, NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]],
    threshold: float,
) -> None:
    """Write reference.json. `learnt`: packed CODE [N] and event times of the rows learnt from; `tested`: score [M],
    surprise [M, A], whether the vocabulary lacks the combination [M], and event times of the test rows."""
    code, time_ms = learnt
    score, surprise, unk, tested_ms = tested
    total = surprise.sum(axis=1, dtype=np.float64)
    seen = Reference(
        codes={name: counts_of(column).tolist() for name, column in attribute_codes(code.view(CODE)).items()},
        learnt=(int(time_ms.min()), int(time_ms.max())),
        tested=(int(tested_ms.min()), int(tested_ms.max())),
        rows=len(score),
        unk_share=float(unk.mean()),
        surprise_mean=float(total.mean()),
        surprise_std=float(total.std()),
        scores=score_bins(score).tolist(),
        alerts=int((score >= threshold).sum()),
        average_precision=min(1.0, expected(score, threshold).average_precision),
    )
    with written_whole(folder / artifact.REFERENCE) as part:
        part.write_bytes(msgspec.json.encode(seen))


def load_reference(folder: Path) -> Reference:
    """What the training of the version in `folder` saw.

    Raises ArtifactError, and NoReference for a version of before this file.
    """
    if artifact.REFERENCE not in artifact.load_manifest(folder).files:
        raise NoReference(
            f"expected {artifact.REFERENCE} in {folder}, which says what the training saw, got none: the version is of "
            "an older code; `panther refresh` or `panther models train` makes one that has it"
        )
    return artifact.read_json(folder, artifact.REFERENCE, Reference)
