"""report.json of a version: all that its page shows, without names of users. Shares are 0..1, losses in nats.

Times of day and speeds are left out, so that two trainings with the same seed write the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from panther_core.artifact import RUN_REPORT, load_manifest
from panther_core.base.errors import ArtifactError
from panther_core.data.token_report import TokenReport
from panther_core.report.curves import Bin, Histogram
from trainer.fit.train_config import TrainConfig

FORMAT_VERSION = 2


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of the training: version, data, seed, code and settings."""

    name: str
    version: int
    transactions: int
    users: int
    data_window: tuple[int, int]
    """First and last event time, epoch ms."""
    test_from: int
    """Time of the first test transaction, epoch ms."""
    seed: int
    code_version: str
    tokenizer_version: str
    config: TrainConfig


class NextTokens(msgspec.Struct, frozen=True):
    """Next-transaction prediction on test events that have a history, ranked against the whole vocabulary."""

    events: int
    vocabulary: int
    ranked: dict[str, dict[str, float]]
    """HR@k and NDCG@k by predictor; the model comes first."""


class ScorerFigures(msgspec.Struct, frozen=True):
    """Figures of one scorer on the test rows. `recall` and `precision`: a thinned curve, at falling thresholds."""

    name: str
    metrics: dict[str, float]
    """The manifest's figures, from evaluation.fraud_metrics and alert_metrics."""
    interval: tuple[float, float]
    """95 % interval of the average precision, by resampling."""
    recall: list[float]
    precision: list[float]


class TopShare(msgspec.Struct, frozen=True):
    """The rows with the highest scores: share and number of rows, and the largest recall that so many rows can have."""

    share: float
    rows: int
    attainable: float


class Slice(msgspec.Struct, frozen=True):
    """Test rows of one value of a property: how many, frauds, alerts, and frauds among the alerts."""

    by: str
    value: str
    rows: int
    frauds: int
    alerts: int
    caught: int


class Fraud(msgspec.Struct, frozen=True, kw_only=True):
    """Fraud scores on the test slice."""

    rows: int
    frauds: int
    users: int
    threshold: float
    alert_budget: float
    validation: dict[str, float]
    alerts: int
    alerts_mean_score: float
    """Mean score of the alerts, the share of fraud that a calibrated score promises; 0 without alerts."""
    scorers: list[ScorerFigures]
    """The model first."""
    gains: dict[str, tuple[float, float, float]]
    """By other scorer: average precision of the model less that of the scorer, with its 95 % interval (both on the same
    resamples)."""
    resamples: int
    robbed: int | None = None
    """Users with frauds, or weeks of users where users are few; None in reports of older code."""
    top: list[TopShare]
    bins: list[Bin]
    histogram: Histogram


class Motif(msgspec.Struct, frozen=True):
    """Three events in a row, oldest first, in words.

    `measured`: occurrences among the sampled events. `weight`: mean weight of each prototype after the third event.
    """

    events: tuple[str, str, str]
    count: int
    users: int
    measured: int
    weight: list[float]


class Motifs(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent motifs, and the prototypes that the SPRM look-up of one layer weighs after them (paper 3.3,
    figure 3)."""

    attributes: list[str]
    layer: int
    """Number of the layer, from 1."""
    told_apart: list[float]
    """By layer: share of the weights' variance that lies between the motifs' means."""
    sampled_users: int
    sampled_events: int
    rows: list[Motif]
    overall: list[float]
    """Mean weight of each prototype over all sampled events."""


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """e_u of sampled users after their last event, on the first two principal components."""

    users: int
    explained: tuple[float, float]
    """Share of the variance on each component."""
    between: dict[str, float]
    """By profile field: share of the variance of e_u (all its dimensions) that lies between the field's values."""
    by_chance: dict[str, float]
    """By profile field: the share to be expected if its values were assigned to users at random."""
    field: str
    """The field that colours the map; "" without a profile."""
    groups: list[str]
    x: list[float]
    y: list[float]
    group: list[int]


class VersionReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of report.json."""

    format_version: int = FORMAT_VERSION
    about: About
    curve: list[dict[str, float]]
    """Pretraining by epoch (pretrain.csv)."""
    head_curve: list[float]
    """Validation average precision by epoch of fine-tuning."""
    tokens: TokenReport
    next_tokens: NextTokens
    fraud: Fraud
    motifs: Motifs | None
    """None for an encoder without prototypes."""
    embedding: Embedding
    thresholds: list[dict[str, float]] = []
    """What other thresholds would give on the test rows (trainer.report.verdict.thresholds)."""
    first_events: dict[str, float] = {}
    """Alerts on test rows as if they were among the first five of their users; empty in reports of older code."""
    slices: list[Slice] = []


def encode(report: VersionReport) -> bytes:
    """The report as JSON, each field on a line of its own."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def load(folder: Path) -> VersionReport:
    """The report in an artifact, its checksum verified. Raises ArtifactError, FingerprintMismatch."""
    manifest, path = load_manifest(folder), folder / RUN_REPORT
    if RUN_REPORT not in manifest.files:
        raise ArtifactError(
            f"expected {RUN_REPORT} among the files of {folder}, got none: code version {manifest.code_version} wrote "
            "no report; train anew with `panther models train`"
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=VersionReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(
            f"expected a report of format {FORMAT_VERSION} in {path}, got {error}: use the code version "
            f"{manifest.code_version} or train anew"
        ) from None
