"""Rows with histories cut off, so that a head learns what a first payment looks like.

A log in which most users are known has hardly a first payment among its newer rows. A head fitted on them takes a user
without a history for something never seen, and alerts. Here some rows are taken again as those of made-up users whose
history is only the few events before the row.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from panther_core.data.schema import AttributeSchema
from panther_core.data.table import EventRows
from panther_core.model.bulk import places, places_before
from panther_core.model.serving import PantherModel
from panther_core.state.history import History, prepare
from trainer.fit.finetune import HeadInputs, head_inputs

LENGTHS = (0, 1, 2, 5)  # events that are left before a row
_AT_ONCE = 16_384  # rows: an event takes two kilobytes here


def left_before(rows: int, lengths: tuple[int, ...], seed: int) -> NDArray[np.int64]:
    """How many events are left before each of so many rows [N], where it has so many."""
    return np.random.default_rng(seed).choice(np.array(lengths), rows)


def cut_inputs(
    model: PantherModel,
    schema: AttributeSchema,
    events: EventRows,
    history: History,
    rows: NDArray[np.int64],
    lengths: tuple[int, ...],
    seed: int,
) -> HeadInputs:
    """Inputs of the kept rows `rows` [N], each with a history of one of `lengths` events, or of fewer where it has no
    more. `events`: of the whole log. What the merchants of these events were known for must be in `history`."""
    place = places(history)
    left = np.minimum(left_before(len(rows), lengths, seed), history.history_len[rows])

    def inputs(part: slice) -> HeadInputs:
        ends = np.cumsum(left[part] + 1)
        user = np.repeat(np.arange(len(ends)), left[part] + 1)
        back = ends[user] - 1 - np.arange(len(user))
        taken = history.order[place[rows[part]][user] - back]
        made_up = events.of(taken)
        made_up["seller"] = history.seller[history.held(taken)]
        made_up["user"] = user + 1
        made_up["offset"] = np.arange(len(made_up))
        cut, own = prepare(made_up, schema, model.config.length), ends - 1
        return head_inputs(model, cut, model.encode_history(cut, wanted=places_before(cut, own)), own)

    stretches = [slice(low, low + _AT_ONCE) for low in range(0, len(rows), _AT_ONCE)]
    return reduce(HeadInputs.and_then, map(inputs, stretches))
