"""Fraud heads by name on one set of rows, so that they see the same features, the same days and the same sample.

lightgbm, dcn, deepfm     on the features alone
lightgbm+panther          the features, e_u and Delta
dcn+panther               the same and the text convolution over the last 100 events: the paper's hybrid (eq. 3)
episodes                  no head: the chance of fraud by trainer.heads.compromise (`panther bench fdh` only)
panther                   the system: weighted mean logit of the two with PANTHER, and of episodes
lightgbm+dcn              control: the same mean without PANTHER
lightgbm-labels, ...      ablations: without a group of features (ABLATIONS)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.data.schema import AttributeSchema
from panther_core.entities.columns import Matrix
from panther_core.entities.grouped import Floats, Ints
from panther_core.model.codes import as_tensor
from panther_core.model_config import ModelConfig
from trainer.heads.behaviour import BehaviourInputs
from trainer.heads.boosting import best_columns, boosted_logits
from trainer.heads.encoding import PiecewiseLinear
from trainer.heads.neural import Inputs, Kind, Training, build, fit, logits

SYSTEM, BASELINE, EPISODES = "panther", "lightgbm", "episodes"
BLENDS = {SYSTEM: ("lightgbm+panther", "dcn+panther"), "lightgbm+dcn": ("lightgbm", "dcn")}
PARTS = ("lightgbm", "lightgbm+panther", "dcn", "dcn+panther")
#: groups of features left out, by name of the ablation
ABLATIONS = {
    "lightgbm-labels": ("seller.", "payer."),
    "lightgbm-spending": ("spending.",),
    "lightgbm-context": ("context.",),
}


@dataclass(frozen=True)
class Settings:
    """Chosen on windows before the published test folds."""

    negatives: float = 0.1
    """Share of the legitimate rows that heads learn from; scores are corrected for it."""
    boosted: int = 3
    """LightGBM fits averaged, each on its own half of those rows."""
    neural: int = 2
    """Neural fits averaged, likewise."""
    neural_weight: float = 0.35
    """Of the neural head in the system's mean logit; boosting has the rest."""
    episodes_weight: float = 0.5
    """Of the log odds from episodes of compromise in the system's mean logit, where there are such; heads the rest."""
    threads: int = 2
    """Of LightGBM."""
    ablations: bool = False
    """Whether DeepFM, and LightGBM without groups of features, are fitted too."""
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Heads:
    """Everything heads learn from and are tested on, for the rows in use (R of the table's)."""

    rows: Ints  # [R] row numbers, ascending
    learnable: NDArray[np.bool_]  # [R] drawn for training; the others are there to be tested
    label: NDArray[np.int8]  # [R]
    matrix: Matrix  # [R, F]
    behaviour: BehaviourInputs  # [R]
    model: tuple[ModelConfig, AttributeSchema]
    settings: Settings

    def score(self, name: str, matured: Ints, test: Ints, seed: int) -> Floats:
        """Fraud logits of the rows `test` by part `name`, fitted on the drawn rows among `matured`; both row numbers.

        The mean over a few fits; each sees all frauds and half of the drawn legitimate rows.
        """
        learn = np.flatnonzero(np.isin(self.rows, matured) & self.learnable)
        at = np.searchsorted(self.rows, test)
        boosted = name.startswith("lightgbm")
        x_RF = self._columns(name) if boosted else self._best(name, learn)
        total = np.zeros(len(test))
        fits = self.settings.boosted if boosted else self.settings.neural
        for member in range(fits):
            half = np.random.default_rng((seed, member)).random(len(learn)) < 0.5
            part = learn[half | (self.label[learn] == 1)]
            own = seed * 100 + member
            total += self._boosted(x_RF, part, at, own) if boosted else self._neural(name, x_RF, part, at, own)
        # sampling raised the odds of fraud by 1 / share
        return np.asarray(total / fits + np.log(self.settings.negatives / 2), np.float64)

    def _columns(self, name: str) -> NDArray[np.float32]:
        """What boosting sees."""
        if name in ABLATIONS:
            return self.matrix.without(ABLATIONS[name]).values
        if not name.endswith("+panther"):
            return self.matrix.values
        return np.hstack([self.matrix.values, self.behaviour.delta_NX, self.behaviour.e_NU])

    def _best(self, name: str, learn: Ints) -> NDArray[np.float32]:
        """What a neural head sees: the best columns, and Delta (e_u is an input of its own)."""
        x_RF, settings = self.matrix.values, self.settings
        best = best_columns(x_RF[learn], self.label[learn], settings.training.columns, settings.threads)
        return np.hstack([x_RF[:, best], *([self.behaviour.delta_NX] if name.endswith("+panther") else [])])

    def _boosted(self, x_RF: NDArray[np.float32], part: Ints, at: Ints, seed: int) -> Floats:
        return boosted_logits(x_RF[part], self.label[part], x_RF[at], self.settings.threads, seed)

    def _neural(self, name: str, x_RF: NDArray[np.float32], part: Ints, at: Ints, seed: int) -> Floats:
        training, hybrid = self.settings.training, name.endswith("+panther")
        kind: Kind = "deepfm" if name.startswith("deepfm") else "dcn"
        torch.manual_seed(seed)
        encoding = PiecewiseLinear(x_RF[part], self.label[part], training.bins)
        model = build(kind, encoding, training, self.model if hybrid else None)
        fit(model, self._inputs(x_RF, part, hybrid), self.label[part], training, seed)
        return logits(model, self._inputs(x_RF, at, hybrid))

    def _inputs(self, x_RF: NDArray[np.float32], at: Ints, hybrid: bool) -> Inputs:
        cpu = torch.device("cpu")
        width = self.behaviour.e_NU.shape[1] if hybrid else 0
        codes = self.behaviour.codes_NS[at] if hybrid else np.zeros((len(at), 0), np.uint64)
        return Inputs(
            torch.from_numpy(x_RF[at]), torch.from_numpy(self.behaviour.e_NU[at][:, :width]), as_tensor(codes, cpu)
        )


def blended(scores: dict[str, Floats], settings: Settings) -> dict[str, Floats]:
    """Weighted mean logits of every blend whose parts (boosted, neural) are there; EPISODES, if there, joins each."""
    there = {name: parts for name, parts in BLENDS.items() if all(p in scores for p in parts)}
    w, e = settings.neural_weight, settings.episodes_weight if EPISODES in scores else 0.0
    heads = {name: (1 - w) * scores[boosted] + w * scores[neural] for name, (boosted, neural) in there.items()}
    return {name: (1 - e) * head + (e * scores[EPISODES] if e else 0) for name, head in heads.items()}
