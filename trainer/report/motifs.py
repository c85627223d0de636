"""Frequent motifs (three events in a row), and the weights that a layer's pattern branch then gives its prototypes.

Paper 3.3, figure 3. Motifs are counted on the codes alone; the weights are computed on the same windows that the stream
would encode. Shapes: E events in the order of `History.order` (user by user), S sampled events, K motifs, M prototypes,
N layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panther_core.data.schema import CODE, AttributeSchema
from panther_core.data.token_report import value_names
from panther_core.model.bulk import chunks, padded, plan
from panther_core.model.codes import as_tensor
from panther_core.model.layers import Layer
from panther_core.model.panther import Panther
from panther_core.model.serving import POSITIONS
from panther_core.state.history import History
from trainer.report.embedding import between_share
from trainer.report.facts import Motif, Motifs

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MOTIFS = 12
_EVENTS = 12_000  # number of events that are encoded: under two seconds on one core
_WORDS = 8  # attributes are added to the names of events until at least so many different names occur


@dataclass(frozen=True)
class Named:
    """Events named by their behaviour: attributes that make up a name, index of each event's name, the names."""

    attributes: list[str]
    number_E: Ints
    names: list[str]


def name_events(code_E: NDArray[np.uint64], schema: AttributeSchema) -> Named:
    """Name events by category; add the channel, then the amount, while fewer than _WORDS different names occur."""
    columns, known = code_E.view(CODE), value_names(schema)
    attributes: list[str] = []
    names, number_E = [""], np.zeros(len(code_E), np.int64)
    for name in ("category", "channel", "amount"):
        present, index_E = np.unique(columns[name], return_inverse=True)
        if len(present) > 1:
            attributes.append(name)
            pair, number_E = np.unique(number_E * len(present) + index_E, return_inverse=True)
            words = [known[name][code] for code in present.tolist()]
            names = [
                ", ".join(filter(None, (names[p // len(present)], words[p % len(present)]))) for p in pair.tolist()
            ]
        if len(names) >= _WORDS:
            break
    return Named(attributes, number_E, names)


def triples(number_E: Ints, bounds: Ints, kinds: int) -> Ints:
    """Number [E] of the motif that ends at each event; -1 where the user has fewer than three events by then."""
    out = np.full(len(number_E), -1, np.int64)
    out[2:] = (number_E[:-2] * kinds + number_E[1:-1]) * kinds + number_E[2:]
    starts = bounds[:-1][np.diff(bounds) > 0]
    out[starts] = -1
    out[np.minimum(starts + 1, len(out) - 1)] = -1
    return out


def measure_motifs(panther: Panther, schema: AttributeSchema, history: History, seed: int) -> Motifs | None:
    """Count motifs and measure the prototypes' weights after them. No labels are read. None for an encoder without
    prototypes."""
    depth = [i for i, layer in enumerate(panther.layers) if isinstance(layer, Layer) and layer.sprm is not None]
    if not depth:
        return None
    named = name_events(history.code[history.order], schema)
    motif_E = triples(named.number_E, history.bounds, len(named.names))
    numbers, counts = np.unique(motif_E[motif_E >= 0], return_counts=True)
    top_K = numbers[np.argsort(-counts, kind="stable")[:MOTIFS]]
    row_E = _rows(motif_E, top_K)
    place_S, users = _sample(history, seed)
    weight_NSM = prototype_weights(panther, history, place_S)
    last_SM, row_S, user_E = weight_NSM[-1], row_E[place_S], history.user[history.order]
    return Motifs(
        attributes=named.attributes,
        layer=depth[-1] + 1,
        told_apart=[between_share(weight_SM[row_S >= 0], row_S[row_S >= 0]) for weight_SM in weight_NSM],
        sampled_users=users,
        sampled_events=len(place_S),
        rows=[
            Motif(
                events=_words(number, named.names),
                count=int((row_E == k).sum()),
                users=len(np.unique(user_E[row_E == k])),
                measured=int((row_S == k).sum()),
                weight=last_SM[row_S == k].mean(axis=0).round(5).tolist(),
            )
            for k, number in enumerate(top_K.tolist())
            if (row_S == k).any()
        ],
        overall=last_SM.mean(axis=0).round(5).tolist(),
    )


@torch.inference_mode()
def prototype_weights(panther: Panther, history: History, place_S: Ints) -> list[Floats]:
    """Softmax weights [S, M] over the prototypes of each layer, first layer first, after the events at `place_S`.

    `place_S`: places in `History.order`, ascending, and for each user either all or none.
    """
    row_E = history.order[place_S]
    user_E = history.user[row_E]
    starts = np.flatnonzero(np.append(True, user_E[1:] != user_E[:-1]))
    part = replace(history, order=row_E, bounds=np.append(starts, len(row_E)))
    windows, code_E = plan(part, panther.config.length), history.code[row_E]
    out: list[Floats] = []
    for at in chunks(windows.end - windows.begin, POSITIONS):
        w = windows.take(at)
        codes_BT = padded(code_E, w.begin, w.end)
        place_BT = w.begin[:, None] + np.arange(codes_BT.shape[1])
        asked_BT = (place_BT >= w.first[:, None]) & (place_BT < w.end[:, None])
        profile_B8 = torch.from_numpy(history.profile[row_E[w.end - 1]])
        for i, weight_BTM in enumerate(_by_layer(panther, as_tensor(codes_BT, panther.start_D.device), profile_B8)):
            if i == len(out):
                out.append(np.empty((len(row_E), weight_BTM.shape[-1])))
            out[i][place_BT[asked_BT]] = weight_BTM.numpy()[asked_BT]
    return out


def _by_layer(panther: Panther, codes_BT: Tensor, profile_B8: Tensor) -> Iterator[Tensor]:
    x_BTD = panther.inputs(codes_BT, profile_B8)
    skipped = x_BTD.shape[1] - codes_BT.shape[1]  # 1 where the profile is a token of its own at the front
    for layer in panther.layers:
        if isinstance(layer, Layer) and layer.sprm is not None:
            yield layer.sprm.weights(layer.sprm.convolve(layer.sprm.taps(layer.norm(x_BTD))))[:, skipped:]
        x_BTD = layer(x_BTD)


def _sample(history: History, seed: int) -> tuple[Ints, int]:
    """Places of all events of users drawn at random, about _EVENTS of them, and the number of these users."""
    size_U = np.diff(history.bounds)
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(size_U))
    drawn = np.sort(drawn[: 1 + int(np.searchsorted(np.cumsum(size_U[drawn]), _EVENTS))])
    return np.concatenate([np.arange(history.bounds[u], history.bounds[u + 1]) for u in drawn]), len(drawn)


def _rows(motif_E: Ints, top_K: Ints) -> Ints:
    """Index in `top_K` of each event's motif, -1 where the motif is not among them."""
    order = np.argsort(top_K)
    at = np.minimum(np.searchsorted(top_K[order], motif_E), len(top_K) - 1)
    return np.where(top_K[order][at] == motif_E, order[at], -1) if len(top_K) else np.full(len(motif_E), -1)


def _words(number: int, names: list[str]) -> tuple[str, str, str]:
    kinds = len(names)
    return names[number // kinds**2], names[number // kinds % kinds], names[number % kinds]
