"""Fits the blend that is served (panther_core.model.blend): boosted heads beside the neural ones, weights, calibration.

Half of the users of the validation slice say when to stop, the other half choose the weights: rows that have chosen a
head's best epoch would flatter that head. With a handful of frauds the best weights are chance, so they are chosen many
times, by users drawn with replacement, and the mean of the choices is served (Caruana et al., "Ensemble selection from
libraries of models", ICML 2004), drawn towards boosting and the rules, which need the fewest frauds, as if _PRIOR more
users with frauds had spoken for them: for the rules half as loudly, and less where they are worse than boosting on the
whole slice. Calibration is fitted on the whole slice.

Shapes: N rows, X dense inputs, U width of e_u, M heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, log_loss

from panther_core.base.odds import sigmoid
from panther_core.decide.rules import RuleModel
from panther_core.model.blend import (
    BOOSTING,
    BOOSTING_PANTHER,
    DCN,
    DCN_CONTEXT,
    RULES,
    Blend,
    BlendConfig,
    Member,
    Name,
    calibrated,
)
from panther_core.model.head import ContextHead, FraudHead
from panther_core.model.kernels.dcn_kernel import dcn_weights
from panther_core.model.kernels.tree_kernel import Trees
from panther_core.model.trees import read_trees
from panther_core.state.features import WIDTH
from trainer.fit.calibrate import platt
from trainer.fit.finetune import HeadInputs, all_logits
from trainer.heads.boosting import stopped_early

_SOFT = 0.05  # of a column's standard deviation: wide enough that the last digits of a sum do not show in a score
_STEPS, _DRAWS = 5, 20  # of the grid of weights; draws of users, each of which chooses
_HONEST = 5000  # rows that a draw's average precision is taken on, beside the frauds
_PRIOR = 20.0  # users with frauds
_RULES, _POWER = 0.5, 4  # the rules' part beside boosting's, times this power of their worth beside its
_FOLDS = 5  # of validation, to choose between the two calibrations
_KNOTS = 200
_AT_ONCE = 131_072  # rows whose logits are computed together
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class FittedBlend:
    """A blend, the best one of the heads that know nothing of PANTHER, and the trees of both as text by name."""

    blend: Blend
    without: Blend
    texts: dict[Name, str]

    def logits(self, head: FraudHead, inputs: HeadInputs) -> F64:
        """Calibrated logits [N] of the blend."""
        return in_parts(self.blend.logit, all_logits(head, inputs), inputs)

    def logits_without(self, inputs: HeadInputs) -> F64:
        """As `logits`, of the blend without PANTHER."""
        return in_parts(self.without.logit, np.zeros(len(inputs)), inputs)

    def alone(self, name: Name, inputs: HeadInputs) -> F64:
        """Logits [N] of one boosted head before calibration, whether the blend has it or not."""
        return in_parts(partial(self.blend.raw, name), np.zeros(len(inputs)), inputs)


def in_parts(logits: Callable[[F64, F32, F32], F64], dcn_N: F64, inputs: HeadInputs) -> F64:
    """Logits [N] of rows, so many at once that what they take meanwhile is bounded. `dcn`: logits of the dcn."""
    dense, e = inputs.dense_NX.numpy(), inputs.e_NU.numpy()
    parts = [slice(low, low + _AT_ONCE) for low in range(0, max(1, len(dcn_N)), _AT_ONCE)]
    return np.concatenate([logits(dcn_N[part], dense[part], e[part]) for part in parts])


def second_half(user_N: NDArray[np.int32], label: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether a row [N] belongs to the half of the users that chooses weights: every second of those with a fraud, and
    every second of the others. A lone user with a fraud is in the first half."""
    victims = np.unique(user_N[label == 1])
    place = np.where(np.isin(user_N, victims), np.searchsorted(victims, user_N), user_N)
    return np.asarray(place % 2 == 1)


def fit_blend(
    head: FraudHead,
    context: ContextHead,
    rules: RuleModel,
    inputs: Mapping[str, HeadInputs],
    label: Mapping[str, NDArray[np.int8]],
    user_N: NDArray[np.int32],
    weighing_N: NDArray[np.bool_],
    seed: int,
) -> FittedBlend:
    """Fit on the rows "chosen", stop early on "judged", calibrate on "validation".

    `user` and `weighing` [N]: users of the validation rows, and which of these rows choose the weights.
    """
    fitted = {name: inputs[name] for name in ("chosen", "judged")}
    columns: dict[Name, dict[str, NDArray[np.float32]]] = {
        BOOSTING: {name: part.dense_NX[:, :WIDTH].numpy() for name, part in fitted.items()},
        BOOSTING_PANTHER: {n: torch.cat([part.dense_NX, part.e_NU], dim=1).numpy() for n, part in fitted.items()},
    }
    texts, trees = dict[Name, str](), dict[Name, Trees]()
    for name, x in columns.items():
        # LightGBM sets OpenMP's number of threads for the whole process; another number would change torch's results
        texts[name] = stopped_early(
            (x["chosen"], label["chosen"]), (x["judged"], label["judged"]), torch.get_num_threads(), seed
        )
        trees[name] = read_trees(texts[name], x["chosen"].shape[1])
    soft = _SOFT * columns[BOOSTING_PANTHER]["chosen"].std(axis=0).astype(np.float64)
    soft[:WIDTH] = 0.0  # these are the same to the last digit wherever they are computed
    config = BlendConfig((Member(DCN, 1, 1, 0),), (0.0, 1.0), (0.0, 1.0), tuple(soft.tolist()))
    parts = Blend(config, rules, trees, dcn_weights(context))

    held, truth = inputs["validation"], label["validation"]
    dcn, names = all_logits(head, held), (DCN, DCN_CONTEXT, BOOSTING, BOOSTING_PANTHER, RULES)
    raw = {name: in_parts(partial(parts.raw, name), dcn, held) for name in names}
    own = {name: platt(logit, truth) for name, logit in raw.items()}
    even = {name: own[name][0] * logit + own[name][1] for name, logit in raw.items()}

    def of(names: tuple[Name, ...]) -> Blend:
        logits = np.stack([even[name] for name in names])
        worth = {name: float(average_precision_score(truth, even[name])) for name in names}
        boosted = [name for name in names if name in (BOOSTING, BOOSTING_PANTHER)]
        # rules that are better than boosting on a handful of frauds may be so by chance
        rules = _RULES * min(1.0, worth[RULES] / max(worth[name] for name in boosted)) ** _POWER
        prior = np.array([1.0 if name in boosted else rules if name == RULES else 0.0 for name in names])
        prior /= prior.sum()
        weights = _weights(logits[:, weighing_N], truth[weighing_N], user_N[weighing_N], prior, seed)
        shares = zip(names, weights.tolist(), strict=True)
        members = tuple(Member(name, weight, *own[name]) for name, weight in shares if weight)
        return replace(parts, config=BlendConfig(members, *_calibration(weights @ logits, truth, seed), config.soft))

    return FittedBlend(of(tuple(raw)), of((DCN_CONTEXT, BOOSTING, RULES)), texts)


def _weights(logit_MN: F64, label: NDArray[np.int8], user: NDArray[np.int32], prior_M: F64, seed: int) -> F64:
    """Weights [M] of the mean, summing to 1: the mean of those with the best average precision in each draw of users,
    and of `prior`."""
    if not 0 < label.sum() < len(label):
        return prior_M
    rng = np.random.default_rng(seed)
    frauds, honest = np.flatnonzero(label == 1), rng.permutation(np.flatnonzero(label != 1))
    rows = np.concatenate([frauds, honest[:_HONEST]])
    each = np.ones(len(rows))
    each[len(frauds) :] = len(honest) / min(len(honest), _HONEST)
    _, who = np.unique(user[rows], return_inverse=True)
    grid = np.array([w for w in product(range(_STEPS + 1), repeat=len(logit_MN)) if sum(w) == _STEPS]) / _STEPS
    means = grid @ logit_MN[:, rows]
    chosen = []
    for _ in range(_DRAWS):
        times = np.bincount(rng.integers(0, who.max() + 1, who.max() + 1), minlength=who.max() + 1)[who] * each
        if times[: len(frauds)].any():
            worth = [average_precision_score(label[rows], mean, sample_weight=times) for mean in means]
            chosen.append(grid[np.flatnonzero(np.array(worth) >= max(worth) - 1e-12)].mean(axis=0))
    victims = len(np.unique(user[frauds]))
    own = np.mean(chosen, axis=0) if chosen else prior_M
    weights = (victims * own + _PRIOR * prior_M) / (victims + _PRIOR)
    weights[weights < 0.05] = 0  # a head that hardly counts costs as much as one that does
    return np.asarray(weights / weights.sum())


def _calibration(mean_N: F64, label: NDArray[np.int8], seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots of Platt's or of the isotonic calibration, whichever has the smaller loss on rows that it was not fitted
    on."""
    if label.sum() < 2 * _FOLDS:
        return _platt_knots(mean_N, label)
    fold = np.empty(len(label), np.int64)
    for kind in (0, 1):  # frauds and honest rows are spread over all folds
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(label == kind))
        fold[rows] = np.arange(len(rows)) % _FOLDS
    loss = dict.fromkeys((_platt_knots, _isotonic_knots), 0.0)
    for k in range(_FOLDS):
        for fit in loss:
            fitted = fit(mean_N[fold != k], label[fold != k])
            config = BlendConfig((Member(DCN, 1, 1, 0),), *fitted, ())
            chance = sigmoid(calibrated(mean_N[fold == k], config))
            loss[fit] += log_loss(label[fold == k], np.clip(chance, 1e-9, 1 - 1e-9), labels=[0, 1])
    return min(loss, key=lambda fit: loss[fit])(mean_N, label)


def _platt_knots(mean_N: F64, label: NDArray[np.int8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    scale, bias = platt(mean_N, label)
    return (0.0, 1.0), (bias, scale + bias)


def _isotonic_knots(mean_N: F64, label: NDArray[np.int8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The centres of the steps of isotonic regression, between which the calibration is linear: no two logits become
    one score. Platt's where there are too few steps."""
    chance = IsotonicRegression().fit(mean_N, label).predict(mean_N)
    least = 1 / (len(label) + 2)  # of a step without a fraud, or without an honest row
    step, at = np.unique(np.clip(chance, least, 1 - least), return_inverse=True)
    centre, height = np.bincount(at, mean_N) / np.bincount(at), np.log(step / (1 - step))
    kept = np.unique(np.linspace(0, len(step) - 1, min(len(step), _KNOTS)).round().astype(int))
    # steps may differ by rounding alone
    kept = kept[np.append(True, (np.diff(centre[kept]) > 1e-6) & (np.diff(height[kept]) > 1e-6))]
    if len(kept) < 3:
        return _platt_knots(mean_N, label)
    return tuple(centre[kept].tolist()), tuple(height[kept].tolist())
