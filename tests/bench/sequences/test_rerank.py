"""The recommendation head: an untrained one ranks as the encoder does, a trained one learns, and nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from bench.results import FiguresRun, RunStore, over_seeds
from bench.sequences import rerank_table
from bench.sequences.candidates import CandidateLists, held_out_lists, training_lists
from bench.sequences.evaluate import history_pairs, ranks
from bench.sequences.model import SequenceModel
from bench.sequences.rerank_head import RerankConfig, Reranker, new_places, popularity, train_head
from bench.sequences.rerank_table import run_rerank, trained_encoder, without_newest
from bench.sequences.sequence_config import SequenceConfig
from panther_core.base.errors import BadInput, InvalidFile
from panther_core.data.formats.sequences import LeaveOneOut, leave_one_out, read_sequences
from panther_core.model_config import ModelConfig

ITEMS = 30
ENCODER = SequenceConfig(
    model=ModelConfig(length=8, d=16, layers=1, heads=2, prototypes=8, dropout=0.1, profile="none", head_hidden=16),
    epochs=1,
    steps_per_epoch=5,
    batch_positions=128,
    learning_rate=1e-2,
    negatives=0,
    average=0.5,
)
HEAD = RerankConfig(candidates=20, sampled=10, held_in=3, epochs=3, batch=32, learning_rates=(1e-2, 1e-3))


def walks(path: Path, repeats: bool) -> Path:
    """Users who count upwards in steps of 1 or 2; with `repeats` some take an item twice."""
    rng = np.random.default_rng(0)
    rows = []
    for u in range(60):
        items = (rng.integers(0, ITEMS) + np.cumsum(rng.integers(1, 3, rng.integers(3, 14)))) % ITEMS
        kept = items if repeats else list(dict.fromkeys(items.tolist()))
        again = kept[:1] if repeats and u < 30 else []
        rows.append(" ".join(map(str, [f"u{u}", *kept[:2], *again, *kept[2:]])))
    path.write_text("\n".join([*rows, "short 1 2"]) + "\n")
    return path


@pytest.fixture(params=[False, True], ids=["no item twice", "repeats"])
def split(tmp_path: Path, request: pytest.FixtureRequest) -> LeaveOneOut:
    found = leave_one_out(read_sequences(walks(tmp_path / "walks.txt", request.param)))
    assert found.repeats() == request.param
    return found


@pytest.fixture
def encoder(split: LeaveOneOut) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(ENCODER, len(split.sequences.item_names)).eval()


def changed_test_items(split: LeaveOneOut) -> LeaveOneOut:
    items = split.sequences.items.copy()
    last = split.train_end[split.evaluated] + 1
    items[last] = items[last] % len(split.sequences.item_names) + 1
    return replace(split, sequences=replace(split.sequences, items=items))


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_a_constant_head_ranks_as_the_encoder_does(split: LeaveOneOut, encoder: SequenceModel, stage: str) -> None:
    want = ranks(encoder, split, stage, not split.repeats())  # type: ignore[arg-type]
    for count in (5, 1000):
        found = held_out_lists(encoder, split, stage, count)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.place_M.numpy(), want)
        head = Reranker(encoder, popularity(split))
        np.testing.assert_array_equal(new_places(head, found), want)
        torch.nn.init.constant_(head.dcn.out.bias, 0.5)
        np.testing.assert_array_equal(new_places(head, found), want)


def test_a_head_moves_items_within_the_candidates_only(split: LeaveOneOut, encoder: SequenceModel) -> None:
    found = held_out_lists(encoder, split, "test", 10)
    head = Reranker(encoder, popularity(split))
    torch.nn.init.normal_(head.dcn.out.weight)
    places, before = new_places(head, found), found.place_M.numpy()
    inside = before < 10
    assert (places[inside] < 10).all()
    assert (places[inside] != before[inside]).any()
    np.testing.assert_array_equal(places[~inside], before[~inside])
    row = int(np.flatnonzero(inside)[0])
    with torch.inference_mode():
        scores = head(found, torch.arange(10).expand(len(found), 10))[row].numpy()
    own = scores[found.item_MN[row].numpy() == int(found.target_M[row])]
    assert places[row] == (scores >= own).sum() - 1


def test_candidates_are_items_that_may_come(split: LeaveOneOut, encoder: SequenceModel) -> None:
    found = held_out_lists(encoder, split, "test", 12)
    for row, user in enumerate(split.evaluated):
        there = found.logit_MN[row] > -torch.inf
        history = set(split.sequences.of(user)[:-1].tolist())
        items = found.item_MN[row][there].tolist()
        assert 0 not in items
        if split.repeats():
            assert found.seen_MN[row][there].tolist() == [item in history for item in items]
        else:
            assert not history & set(items) - {int(found.target_M[row])}
    pairs = history_pairs(split.sequences, split.train_end[split.evaluated])
    assert pairs.shape[1] == sum(len(split.sequences.of(u)) - 1 for u in split.evaluated)


def test_training_lists_hold_no_held_out_item(split: LeaveOneOut, encoder: SequenceModel) -> None:
    for seen in (split, without_newest(split, HEAD.held_in)):
        mine, other = (training_lists(encoder, s, seen, 20, 10_000, 0) for s in (split, changed_test_items(split)))
        for name in ("h_MD", "item_MN", "logit_MN", "seen_MN", "target_M", "place_M"):
            torch.testing.assert_close(getattr(mine, name), getattr(other, name), rtol=0, atol=0)
        begin, end = split.sequences.bounds[:-1], split.train_end
        first = np.maximum(begin + 1, end - 8) if seen is split else np.maximum(begin + 1, seen.train_end)
        want = [split.sequences.items[a:b] for a, b in zip(first, end, strict=True)]
        np.testing.assert_array_equal(mine.target_M.numpy(), np.concatenate(want))


def test_the_second_way_keeps_the_newest_training_items_from_the_encoder(split: LeaveOneOut) -> None:
    seen = without_newest(split, 3)
    assert ((split.train_end - seen.train_end) <= 3).all()
    assert (seen.train_end >= np.minimum(split.sequences.bounds[:-1] + 2, split.train_end)).all()
    assert (seen.train_end < split.train_end).any()


def test_changing_the_test_item_changes_no_weight(split: LeaveOneOut, tmp_path: Path) -> None:
    weights = []
    for number, data in enumerate((split, changed_test_items(split))):
        encoder = trained_encoder(data, ENCODER, 0, tmp_path / str(number))
        head = Reranker(encoder, popularity(data))
        train_head(
            head, training_lists(encoder, data, data, 20, 10_000, 0), held_out_lists(encoder, data, "validation", 20),
            HEAD, (1e-2, 0),
        )  # fmt: skip
        weights.append(encoder.state_dict() | {f"head.{k}": v for k, v in head.state_dict().items()})
    assert len(weights[0]) == len(weights[1])
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=0)


def test_a_head_learns_what_the_encoder_does_not_know() -> None:
    """The item that comes is the most popular candidate; the encoder's own order is of no use."""
    torch.manual_seed(0)
    count = 400
    encoder = SequenceModel(ENCODER, ITEMS)
    often = np.arange(ITEMS + 1.0)
    item = torch.rand(count, ITEMS).argsort(dim=1)[:, :10] + 1
    logit = torch.rand(count, 10).sort(dim=1, descending=True).values
    target = item.amax(dim=1)
    place = (item == target[:, None]).long().argmax(dim=1)
    every = CandidateLists(torch.randn(count, 16), item, logit, torch.zeros_like(item, dtype=torch.bool), target, place)
    head = Reranker(encoder, often)
    half = torch.arange(count // 2)
    config = msgspec.structs.replace(HEAD, epochs=20)
    figures = train_head(head, every.take(half), every.take(half + count // 2), config, (1e-2, 0))
    assert figures["best_epoch"] > 0
    assert figures["ndcg@10"] > 0.8
    assert (new_places(head, every.take(half + count // 2)) == 0).mean() > 0.6


def test_another_state_of_the_encoder_keeps_the_head(split: LeaveOneOut, encoder: SequenceModel) -> None:
    head = Reranker(encoder, popularity(split))
    torch.manual_seed(1)
    later = SequenceModel(ENCODER, len(split.sequences.item_names)).eval()
    head.take_items_of(later)
    torch.testing.assert_close(head.item_ID, later.output_rows().detach())
    found = held_out_lists(later, split, "test", 20)
    np.testing.assert_array_equal(new_places(head, found), found.place_M.numpy())


def test_an_encoder_goes_on_from_given_weights(split: LeaveOneOut, tmp_path: Path) -> None:
    started = trained_encoder(without_newest(split, 3), ENCODER, 0, tmp_path)
    still = msgspec.structs.replace(ENCODER, learning_rate=1e-6, warm_up=100_000)
    went_on = trained_encoder(split, still, 0, tmp_path, started)
    fresh = trained_encoder(split, still, 0, tmp_path)
    torch.testing.assert_close(went_on.item_ND, started.item_ND, atol=1e-5, rtol=0)
    assert (fresh.item_ND - started.item_ND).abs().amax() > 1e-3
    again = trained_encoder(split, still, 0, tmp_path, started)
    torch.testing.assert_close(again.item_ND, went_on.item_ND, rtol=0, atol=0)


def test_the_table_runs_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks(tmp_path / "walks.txt", repeats=False)
    first = run_rerank(tmp_path, ["walks"], [0, 1], tmp_path / "out", HEAD, ENCODER)
    rows = first["sets"]["walks"]["rows"]
    ways = ("encoder", "encoder without the newest", "encoder caught up")
    assert list(rows) == [way + suffix for way in ways for suffix in ("", " + DCN")]
    for way in ways:
        own, headed = rows[way], rows[f"{way} + DCN"]
        assert own["hr@50"] == headed["hr@50"], "20 candidates: places behind them do not move"
        if way != "encoder caught up":
            assert headed["validation_ndcg@10"]["mean"] >= own["validation_ndcg@10"]["mean"]
    assert first["sets"]["walks"]["chosen_on_validation"] in rows
    assert len((tmp_path / "out" / "runs.jsonl").read_bytes().splitlines()) == 12

    def fail(*_: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(rerank_table, "trained_encoder", fail)
    assert run_rerank(tmp_path, ["walks"], [0, 1], tmp_path / "out", HEAD, ENCODER) == first


def test_wrong_options_and_lines_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2 <= candidates"):
        RerankConfig(candidates=1)
    with pytest.raises(BadInput, match="learning_rates"):
        RerankConfig(learning_rates=())
    with pytest.raises(BadInput, match="seed"):
        run_rerank(tmp_path, [], [], tmp_path / "out")
    (tmp_path / "runs.jsonl").write_text('{"key": 1}\n')
    with pytest.raises(InvalidFile, match="row 1: expected a run"):
        RunStore(tmp_path, FiguresRun)
    assert over_seeds([{"a": 1.0}, {"a": 3.0}]) == {"a": {"mean": 2.0, "sd": 1.4142}}
