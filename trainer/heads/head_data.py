"""What the fraud heads are fitted and judged on: which rows of a log, and their inputs.

These rows are a tenth of a log or so. Features, and the encoder's outputs, are held for them alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.base.memory import give_back
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema
from panther_core.data.table import EventRows, TransactionTable
from panther_core.model.bulk import by_users, places_before
from panther_core.model.codes import as_tensor
from panther_core.model.outputs import unpack
from panther_core.model.serving import PantherModel
from panther_core.state.history import History
from trainer.fit.arrived import Arrived
from trainer.fit.cold import LENGTHS, cut_inputs, left_before
from trainer.fit.dataset import Rows, Split
from trainer.fit.evaluate import next_ranks
from trainer.fit.finetune import HeadInputs, sample_negatives
from trainer.fit.ranking import metrics
from trainer.fit.train_config import TrainConfig
from trainer.heads.blending import second_half

_MAPPED = 1500  # users at most on a report's map
_FIRST, _COLD_ROWS = 5, 5000  # a user's first events, which are judged apart; on so many rows


@dataclass(frozen=True)
class HeadRows:
    """Rows of a log; none is a copy."""

    chosen: Rows
    """Learnt from; `again`: those that are taken once more, as of users with few events or none."""
    again: Rows
    judged: Rows
    """Of the validation rows: these say when to stop."""
    validation: Rows
    weighing: NDArray[np.bool_]
    """[validation] whether a row chooses the weights of the blend."""
    test: Rows
    early: Rows
    """Of the validation rows, as first events of users; `cold`: of the test rows."""
    cold: Rows

    @classmethod
    def of(
        cls,
        label: NDArray[np.int8],
        kept: NDArray[np.bool_],
        user: NDArray[np.int32],
        rows: Split,
        config: TrainConfig,
        seed: int,
    ) -> HeadRows:
        """`label`, `kept` (no copy) and `user` (number) [N] of all rows."""
        validation, test = rows.validation[kept[rows.validation]], rows.test[kept[rows.test]]
        chosen = sample_negatives(label, rows.finetune[kept[rows.finetune]], config, seed)
        weighing = second_half(user[validation], label[validation])  # the first picks the best epoch
        judged = sample_negatives(label, validation[~weighing], config, seed)  # a sample is enough for that
        again = chosen[np.random.default_rng(seed).random(len(chosen)) < config.cold_share]
        early, cold = (
            part[np.random.default_rng(seed).permutation(len(part))[:_COLD_ROWS]] for part in (validation, test)
        )
        return cls(chosen, again, judged, validation, weighing, test, early, cold)

    def cut(self) -> dict[str, tuple[Rows, tuple[int, ...]]]:
        """Rows that are taken as of users with few events, and how many these may be (cold.cut_inputs)."""
        lengths = tuple(range(_FIRST))
        return {
            "again": (self.again, LENGTHS),
            "early": (self.early, lengths),
            "cold": (self.cold, lengths),
        }

    def with_features(self, arrived: Arrived, seed: int) -> Rows:
        """All rows whose features, or what was known of whose merchants, the inputs take."""
        before = [arrived.earlier(part, left_before(len(part), few, seed)) for part, few in self.cut().values()]
        return np.unique(np.concatenate([self.chosen, self.validation, self.test, *before]))


@dataclass(frozen=True)
class HeadData:
    """Inputs and labels by the names of HeadRows ("chosen": with `again` behind it), and what else the encoder's
    outputs are for."""

    rows: HeadRows
    inputs: dict[str, HeadInputs]
    labels: dict[str, NDArray[np.int8]]
    next_tokens: dict[str, float]
    """Hit rates of the next tokens of the test rows (trainer.fit.ranking.metrics)."""
    last: Rows
    """Places [K] of the last events of some users; `last_e` [K, U]: e_u after them."""
    last_e: NDArray[np.float32]


def head_data(
    model: PantherModel,
    table: TransactionTable,
    schema: AttributeSchema,
    risk: MerchantRisk,
    history: History,
    rows: HeadRows,
    seed: int,
) -> HeadData:
    """Encode the history and gather what heads need of it.

    `schema`, `risk` and `history`: those of `table` (trainer.fit.dataset.prepare_events), with the features of
    `rows.with_features`.
    """
    parts = {"chosen": rows.chosen, "judged": rows.judged, "validation": rows.validation, "test": rows.test}
    last = _last_places(history, seed)
    before = places_before(history, np.concatenate([*parts.values()]))
    codes_K = as_tensor(history.code[history.order], model.device)
    inputs = {name: HeadInputs.room(model, history, codes_K, part) for name, part in parts.items()}
    ranks, e = list[NDArray[np.int64]](), list[NDArray[np.float32]]()
    for wanted, first, end in by_users(history, np.union1d(before, last)):
        encoded = model.encode_history(history, wanted=wanted)
        for name, room in inputs.items():
            own = room.within(first, end)
            room.fill(model, history, encoded, parts[name], own)
            if name == "test":
                ranks.append(next_ranks(model, history, encoded, rows.test[own]))
        after = encoded.after(last[(last >= first) & (last < end)])
        e.append(unpack(torch.from_numpy(after), model.config).e_BU.numpy().copy())
        del encoded  # before the next users'
        give_back()
    labels = {name: table.label[part] for name, part in parts.items()}
    cut = partial(cut_inputs, model, schema, EventRows(table, schema, risk), history)
    for name, (part, lengths) in rows.cut().items():
        if len(part):
            inputs[name], labels[name] = cut(part, lengths, seed), table.label[part]
    if len(rows.again):
        inputs["chosen"] = inputs["chosen"].and_then(inputs.pop("again"))
        labels["chosen"] = np.concatenate([labels["chosen"], labels.pop("again")])
    return HeadData(rows, inputs, labels, metrics(np.concatenate(ranks)), last, np.concatenate(e))


def _last_places(history: History, seed: int) -> NDArray[np.int64]:
    """Places (in History.order) of the last events of _MAPPED users drawn at random, or of all if they are fewer."""
    last = (history.bounds[1:] - 1)[np.diff(history.bounds) > 0]
    return np.sort(np.random.default_rng(seed).permutation(last)[:_MAPPED])
