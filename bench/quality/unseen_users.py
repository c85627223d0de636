"""Users that pretraining never saw (paper C.1): who is known, which rows count, and what to compare with.

Users are split at random. Everything that is fitted (schema, profile buckets, vocabulary, popularity) comes from known
users' events before the first cut, the epoch is chosen on known users' events between the cuts, and the rows that
count are unseen users' events behind the second cut, with their own earlier events as context.

N events, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.results import Figures
from panther_core.data.schema import CODE, AttributeSchema, ProfileField, Vocabulary, fit_vocabulary
from panther_core.data.table import TransactionTable
from panther_core.model.serving import PantherModel
from panther_core.state.history import History, prepare
from trainer.fit.dataset import among
from trainer.fit.evaluate import Validation, hit_rates, token_ranks
from trainer.fit.ranking import MISS, metrics
from trainer.fit.train_config import TrainConfig
from trainer.training import fit_log_schema

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Apart:
    """A log whose users are split."""

    history: History
    schema: AttributeSchema
    vocabulary: Vocabulary
    fit_N: Mask
    """Events that everything was fitted on."""
    early_N: Mask
    """Events of all users before the first cut."""
    unseen_N: Mask
    """Events of users that are not known."""
    validation: NDArray[np.int64]
    """Rows of known users between the cuts."""
    test: NDArray[np.int64]
    """Rows of unseen users behind the second cut that have a history."""

    def part(self, keep_N: Mask) -> History:
        """History of those events alone."""
        return among(self.history, keep_N)

    def judge(self, config: TrainConfig, seed: int) -> Validation:
        """What chooses the epoch."""
        return Validation(self.history, self.validation, config.validation_sample, config.model.length, seed)


def known_users(table: TransactionTable, share: float, seed: int) -> Mask:
    """[users] true for a random `share` of the users."""
    count = len(table.user.words)
    out = np.zeros(count, np.bool_)
    out[np.random.default_rng((seed, count)).permutation(count)[: round(count * share)]] = True
    return out


def set_apart(
    table: TransactionTable,
    known_U: Mask,
    fit_U: Mask,
    config: TrainConfig,
    profile: tuple[ProfileField, ...] | None = None,
) -> Apart:
    """`known_U`: users that may be trained on; `fit_U`: those of them that are. The cuts are the config's."""
    rows = np.arange(len(table))
    cuts = [int(len(table) * share) for share in (config.validation_from, config.test_from)]
    known_N, early_N = known_U[table.user.index], rows < cuts[0]
    fit_N = fit_U[table.user.index] & early_N
    schema = fit_log_schema(table.take(np.flatnonzero(fit_N)), profile, config)
    history = prepare(table.events(schema, None), schema, config.model.length)  # without labels: no counterparty risk
    codes = history.code[fit_N & history.kept].view(CODE)
    vocabulary, _ = fit_vocabulary(schema, codes, config.vocabulary)
    counts = ~known_N & (rows >= cuts[1]) & history.kept & (history.history_len > 0)
    between = known_N & ~early_N & (rows < cuts[1])
    return Apart(history, schema, vocabulary, fit_N, early_N, ~known_N, np.flatnonzero(between), np.flatnonzero(counts))


def with_context(model: PantherModel, apart: Apart) -> Figures:
    """HR@k and NDCG@k of the test rows, each user's own earlier events as context."""
    unseen = apart.part(apart.unseen_N)
    return hit_rates(model, apart.history, model.encode_history(unseen), apart.test)


@torch.inference_mode()
def without_context(model: PantherModel, apart: Apart) -> Figures:
    """The same rows from the profile alone: what a cold user gets."""
    profile = torch.from_numpy(apart.history.profile[apart.test])
    return metrics(token_ranks(model.panther, model.panther.start(profile), apart.history.code[apart.test]))


def by_frequency(apart: Apart, own: bool) -> Figures:
    """Nothing learnt: tokens by how often they occur in the training events; with `own`, by how often the user had
    them so far, and among equals by the former. [UNK] counts as a miss, as for the models."""
    tokens = apart.vocabulary.tokens(apart.history.code.view(CODE))
    size = apart.vocabulary.size
    often = np.bincount(tokens[apart.fit_N & apart.history.kept], minlength=size)
    order_V = np.empty(size, np.int64)
    order_V[np.argsort(often, kind="stable")] = np.arange(size)
    counts_N = np.zeros(len(tokens), np.bool_)
    counts_N[apart.test] = True
    rank = np.full(len(tokens), MISS, np.int64)
    unseen = apart.part(apart.unseen_N)
    for low, high in zip(unseen.bounds[:-1], unseen.bounds[1:], strict=True):
        key_V = order_V.copy()
        for row in unseen.order[low:high].tolist():
            if counts_N[row] and tokens[row]:
                rank[row] = int((key_V > key_V[tokens[row]]).sum())
            key_V[tokens[row]] += own * size
    return metrics(rank[apart.test])
