"""The user split of `panther bench transfer` (paper C.1), the figures on unseen users, and two baselines by frequency.

Users are split at random into known and unseen. Everything fitted (schema, profile buckets, vocabulary, popularity)
comes from known users' events before the first cut in time. The epoch is chosen on known users' events between the two
cuts. Tested are unseen users' events behind the second cut, with these users' earlier events as context.

N events, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.results import Figures
from panther_core.data.schema import CODE, AttributeSchema, ProfileField
from panther_core.data.table import TransactionTable
from panther_core.data.vocabulary import Vocabulary, fit_vocabulary
from panther_core.model.serving import PantherModel
from panther_core.state.history import History, prepare
from trainer.fit.dataset import keep
from trainer.fit.evaluate import Validation, hit_rates, token_ranks
from trainer.fit.ranking import MISS, metrics
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.train_config import TrainConfig

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class UserSplit:
    """A log whose users are split into known and unseen."""

    history: History
    schema: AttributeSchema
    vocabulary: Vocabulary
    fit_N: Mask
    """Events that schema, vocabulary and popularity were fitted on."""
    early_N: Mask
    """Events of all users before the first cut."""
    unseen_N: Mask
    """Events of unseen users."""
    validation: NDArray[np.int64]
    """Rows of known users between the cuts."""
    test: NDArray[np.int64]
    """Rows of unseen users behind the second cut whose user has earlier events."""

    def part(self, keep_N: Mask) -> History:
        """The history with only the events `keep_N`."""
        return keep(self.history, keep_N)

    def judge(self, config: TrainConfig, seed: int) -> Validation:
        """The validation that chooses the epoch."""
        return Validation(self.history, self.validation, config.validation_sample, config.model.length, seed)


def known_users(table: TransactionTable, share: float, seed: int) -> Mask:
    """Mask [users] of a random `share` of the users; a smaller share of the same seed is part of a larger one."""
    count = len(table.user.words)
    out = np.zeros(count, np.bool_)
    out[np.random.default_rng((seed, count)).permutation(count)[: round(count * share)]] = True
    return out


def split_users(
    table: TransactionTable,
    known_U: Mask,
    fit_U: Mask,
    config: TrainConfig,
    profile: tuple[ProfileField, ...] | None = None,
) -> UserSplit:
    """Split the users: `known_U` may be trained on, and of them `fit_U` are. The cuts in time are those of `config`."""
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
    return UserSplit(
        history, schema, vocabulary, fit_N, early_N, ~known_N, np.flatnonzero(between), np.flatnonzero(counts)
    )


def with_context(model: PantherModel, split: UserSplit) -> Figures:
    """HR@k and NDCG@k of the test rows, with each user's earlier events as context."""
    unseen = split.part(split.unseen_N)
    return hit_rates(model, split.history, model.encode_history(unseen), split.test)


@torch.inference_mode()
def without_context(model: PantherModel, split: UserSplit) -> Figures:
    """HR@k and NDCG@k of the same rows predicted from the profile alone, as for a user without history."""
    profile = torch.from_numpy(split.history.profile[split.test])
    return metrics(token_ranks(model.panther, model.panther.start(profile), split.history.code[split.test]))


def by_frequency(split: UserSplit, own: bool) -> Figures:
    """A baseline without learning: tokens ranked by their frequency in the training events.

    With `own`, tokens are ranked by how often the user had them so far, and ties by the frequency in training. [UNK]
    counts as a miss, as for the models.
    """
    tokens = split.vocabulary.tokens(split.history.code.view(CODE))
    size = split.vocabulary.size
    often = np.bincount(tokens[split.fit_N & split.history.kept], minlength=size)
    order_V = np.empty(size, np.int64)
    order_V[np.argsort(often, kind="stable")] = np.arange(size)
    counts_N = np.zeros(len(tokens), np.bool_)
    counts_N[split.test] = True
    rank = np.full(len(tokens), MISS, np.int64)
    unseen = split.part(split.unseen_N)
    for low, high in zip(unseen.bounds[:-1], unseen.bounds[1:], strict=True):
        key_V = order_V.copy()
        for row in unseen.order[low:high].tolist():
            if counts_N[row] and tokens[row]:
                rank[row] = int((key_V > key_V[tokens[row]]).sum())
            key_V[tokens[row]] += own * size
    return metrics(rank[split.test])
