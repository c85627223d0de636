"""Fraud heads on one set of rows, so that they see the same features, days and sample; and the means of their logits.

lightgbm, dcn, deepfm     on the features alone
lightgbm+panther          the features, e_u and Delta
dcn+panther               the same and the text convolution over the last 100 events: the paper's hybrid (eq. 3)
lightgbm-merchants, ...   ablations: without a group of features (ABLATIONS)
panther                   weighted mean logit of the two heads with PANTHER
lightgbm+dcn              control: the same mean without PANTHER
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.data.merchant_events import RISK_NAMES
from panther_core.data.schema import AttributeSchema
from panther_core.entities.arrays import Floats, Ints
from panther_core.model.codes import as_tensor
from panther_core.model_config import ModelConfig
from trainer.heads.behaviour import BehaviourInputs
from trainer.heads.boosting import best_columns, boosted_logits
from trainer.heads.encoding import PiecewiseLinear
from trainer.heads.matrix import Matrix
from trainer.heads.neural import NeuralInputs, Training, build, fit, logits


@dataclass(frozen=True)
class Head:
    """A kind of head, and the inputs that it sees."""

    name: str
    base: Literal["lightgbm", "dcn", "deepfm"]
    with_panther: bool = False
    """Whether e_u and Delta (and for a network the text convolution) are inputs beside the features."""
    without: tuple[str, ...] = ()
    """Beginnings of the names of features that are left out."""

    @property
    def boosted(self) -> bool:
        """Whether LightGBM is fitted, not a network."""
        return self.base == "lightgbm"


_BOOSTED, _BOOSTED_PANTHER = Head("lightgbm", "lightgbm"), Head("lightgbm+panther", "lightgbm", with_panther=True)
_DCN, _DCN_PANTHER = Head("dcn", "dcn"), Head("dcn+panther", "dcn", with_panther=True)
#: heads of every benchmark
PARTS = (_BOOSTED, _BOOSTED_PANTHER, _DCN, _DCN_PANTHER)
DEEPFM = Head("deepfm", "deepfm")
ABLATIONS = (
    Head("lightgbm-merchants", "lightgbm", without=tuple(f"merchant_{name}" for name in RISK_NAMES)),
    Head(
        "lightgbm-spending", "lightgbm", without=("spend_", "unusual_", "ratio_", "excess_", "since_unusual", "last_")
    ),
)

SYSTEM = "panther"
#: a boosted and a neural head whose logits are averaged, by the name of the mean
BLENDS = {SYSTEM: (_BOOSTED_PANTHER, _DCN_PANTHER), "lightgbm+dcn": (_BOOSTED, _DCN)}


@dataclass(frozen=True)
class Settings:
    """Chosen on windows before the published test folds."""

    negatives: float = 0.1
    """Share of the legitimate rows that heads are fitted on; logits are corrected for the sampling."""
    boosted: int = 3
    """Number of LightGBM fits that are averaged, each on a half of those rows."""
    neural: int = 2
    """Number of neural fits that are averaged, each on a half of those rows."""
    neural_weight: float = 0.35
    """Weight of the neural head in the mean logit; boosting has the rest."""
    threads: int = 2
    """Threads of LightGBM."""
    ablations: bool = False
    """Whether DeepFM, and LightGBM without groups of features, are fitted too."""
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class HeadRows:
    """The R rows of a table that heads are fitted and tested on, with all inputs."""

    rows: Ints  # [R] row numbers, ascending
    learnable: NDArray[np.bool_]  # [R] drawn for fitting; other rows are for testing alone
    label: NDArray[np.int8]  # [R]
    matrix: Matrix  # [R, F]
    behaviour: BehaviourInputs  # [R]
    model: tuple[ModelConfig, AttributeSchema]
    settings: Settings

    def score(self, head: Head, matured: Ints, test: Ints, seed: int) -> Floats:
        """Fraud logits of the rows `test` by `head`, fitted on the drawn rows among `matured`; both row numbers.

        The logits are the mean of a few fits, each on all frauds and a half of the drawn legitimate rows.
        """
        learn = np.flatnonzero(np.isin(self.rows, matured) & self.learnable)
        at = np.searchsorted(self.rows, test)
        x_RF = self._boosted_columns(head) if head.boosted else self._neural_columns(head, learn)
        total = np.zeros(len(test))
        fits = self.settings.boosted if head.boosted else self.settings.neural
        for member in range(fits):
            half = np.random.default_rng((seed, member)).random(len(learn)) < 0.5
            part = learn[half | (self.label[learn] == 1)]
            own = seed * 100 + member
            total += self._boosted(x_RF, part, at, own) if head.boosted else self._neural(head, x_RF, part, at, own)
        # each fit has seen a share (negatives / 2) of the legitimate rows, which raised the odds of fraud by 1 / share
        return np.asarray(total / fits + np.log(self.settings.negatives / 2), np.float64)

    def _boosted_columns(self, head: Head) -> NDArray[np.float32]:
        matrix = self.matrix.without(head.without)
        panther = (self.behaviour.delta_NX, self.behaviour.e_NU) if head.with_panther else ()
        return np.hstack([matrix.values, *panther])

    def _neural_columns(self, head: Head, learn: Ints) -> NDArray[np.float32]:
        """The features that boosting gains most by, and Delta (e_u is an input of its own)."""
        x_RF, settings = self.matrix.without(head.without).values, self.settings
        best = best_columns(x_RF[learn], self.label[learn], settings.training.columns, settings.threads)
        return np.hstack([x_RF[:, best], *([self.behaviour.delta_NX] if head.with_panther else [])])

    def _boosted(self, x_RF: NDArray[np.float32], part: Ints, at: Ints, seed: int) -> Floats:
        return boosted_logits(x_RF[part], self.label[part], x_RF[at], self.settings.threads, seed)

    def _neural(self, head: Head, x_RF: NDArray[np.float32], part: Ints, at: Ints, seed: int) -> Floats:
        training = self.settings.training
        torch.manual_seed(seed)
        encoding = PiecewiseLinear(x_RF[part], self.label[part], training.bins)
        model = build(head.base == "deepfm", encoding, training, self.model if head.with_panther else None)
        fit(model, self._inputs(head, x_RF, part), self.label[part], training, seed)
        return logits(model, self._inputs(head, x_RF, at))

    def _inputs(self, head: Head, x_RF: NDArray[np.float32], at: Ints) -> NeuralInputs:
        cpu = torch.device("cpu")
        width = self.behaviour.e_NU.shape[1] if head.with_panther else 0
        codes = self.behaviour.codes_NS[at] if head.with_panther else np.zeros((len(at), 0), np.uint64)
        return NeuralInputs(
            torch.from_numpy(x_RF[at]), torch.from_numpy(self.behaviour.e_NU[at][:, :width]), as_tensor(codes, cpu)
        )


def blended(scores: dict[str, Floats], settings: Settings) -> dict[str, Floats]:
    """Weighted mean logits of every blend whose two heads are in `scores`."""
    w = settings.neural_weight
    return {
        name: (1 - w) * scores[boosted.name] + w * scores[neural.name]
        for name, (boosted, neural) in BLENDS.items()
        if boosted.name in scores and neural.name in scores
    }
