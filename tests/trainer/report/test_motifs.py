"""Motifs are counted as a loop would, and the weights are those of the windows the stream has."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
import pytest
import torch

from panther_core.data.schema import CODE
from panther_core.model.codes import as_tensor
from panther_core.model.layers import Layer
from panther_core.model.serving import PantherModel
from panther_core.state.history import History
from panther_core.state.window import window_start
from tests.panther_core.model.conftest import CONFIG, LENGTH, SCHEMA, make_model, random_history
from trainer.report import motifs
from trainer.report.motifs import measure_motifs, name_events, prototype_weights, triples


@pytest.fixture
def history() -> History:
    return random_history(np.random.default_rng(0), [1, 3, 40, 2, 17, 0, 16, 8, 0], profile_changes=0.1)


def test_motif_counts_equal_a_naive_count(history: History) -> None:
    named = name_events(history.code[history.order], SCHEMA)
    assert named.attributes == ["category", "channel"]
    naive: Counter[tuple[str, ...]] = Counter()
    for low, high in pairwise(history.bounds.tolist()):
        codes = [history.code[row : row + 1].view(CODE)[0] for row in history.order[low:high]]
        words = [f"{('?', *SCHEMA.categories)[c['category']]}, {('?', *SCHEMA.channels)[c['channel']]}" for c in codes]
        naive.update(zip(words, words[1:], words[2:], strict=False))
    kinds = len(named.names)
    numbers, counts = np.unique(triples(named.number_E, history.bounds, kinds), return_counts=True)
    found = {
        tuple(named.names[part] for part in (number // kinds**2, number // kinds % kinds, number % kinds)): count
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        if number >= 0
    }
    assert found == dict(naive)
    measured = measure_motifs(make_model(CONFIG).panther, SCHEMA, history, seed=0)
    assert measured is not None
    assert [m.count for m in measured.rows] == [count for _, count in naive.most_common(motifs.MOTIFS)]
    assert all(naive[motif.events] == motif.count for motif in measured.rows)


@pytest.mark.parametrize("profile", ["positional", "first"])
def test_weights_are_those_after_the_newest_event_of_the_streams_window(history: History, profile: str) -> None:
    model = make_model(msgspec.structs.replace(CONFIG, profile=profile))
    places = np.arange(len(history.order))
    by_layer = prototype_weights(model.panther, history, places)
    assert [weights.shape for weights in by_layer] == [(len(places), CONFIG.prototypes)] * CONFIG.layers
    for low, high in pairwise(history.bounds.tolist()):
        for place in range(low, high):
            begin = low + window_start(place - low + 1, LENGTH)
            expected = naive_weights(model, history, begin, place)
            for weights, layer in zip(by_layer, expected, strict=True):
                np.testing.assert_allclose(weights[place], layer, atol=1e-5)


@torch.inference_mode()
def naive_weights(model: PantherModel, history: History, begin: int, last: int) -> list[np.ndarray]:
    """One window, and attention over the prototypes written out."""
    rows = history.order[begin : last + 1]
    x = model.panther.inputs(
        as_tensor(history.code[rows][None], model.device), torch.from_numpy(history.profile[rows[-1:]])
    )
    out = []
    for layer in model.panther.layers:
        assert isinstance(layer, Layer)
        assert layer.sprm is not None
        c = layer.sprm.convolve(layer.sprm.taps(layer.norm(x)))[0, -1].numpy()
        logits = layer.sprm.prototypes_MD.numpy() @ c / np.sqrt(len(c))
        out.append(np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())
        x = layer(x)
    return out


def test_a_motif_that_is_nowhere_and_an_encoder_without_prototypes(history: History) -> None:
    short = random_history(np.random.default_rng(0), [2, 1, 2])
    measured = measure_motifs(make_model(CONFIG).panther, SCHEMA, short, seed=0)
    assert measured is not None
    assert measured.rows == []
    plain = make_model(msgspec.structs.replace(CONFIG, sprm=False))
    assert measure_motifs(plain.panther, SCHEMA, history, seed=0) is None


def test_a_sample_of_users_is_enough(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motifs, "_EVENTS", 20)
    measured = measure_motifs(make_model(CONFIG).panther, SCHEMA, history, seed=0)
    assert measured is not None
    assert 20 <= measured.sampled_events < len(history.order)
    assert sum(measured.overall) == pytest.approx(1, abs=1e-3)
