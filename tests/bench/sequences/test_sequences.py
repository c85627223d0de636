"""The sequence benchmark: metrics against a naive reference, losses against torch's, learning, resuming, the table."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.results import RunStore
from bench.sequences import seqrec_table
from bench.sequences.batches import batches, held_out_inputs, training_inputs
from bench.sequences.contrast import behaviour_contrast
from bench.sequences.evaluate import ranks, ranks_of
from bench.sequences.losses import SampledItems, full_softmax, sampled_softmax
from bench.sequences.model import SequenceModel
from bench.sequences.sequence_config import MODELS, SequenceConfig, grid, named
from bench.sequences.train import Progress, SequenceLine, SequenceRun, train
from bench.tables import set_table
from panther_core.base.errors import BadInput
from panther_core.data.formats.sequences import LeaveOneOut, leave_one_out, read_sequences
from panther_core.model_config import ModelConfig
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.ranking import metrics

ITEMS = 12
SMALL = SequenceConfig(
    model=ModelConfig(length=8, d=16, layers=1, heads=2, prototypes=8, dropout=0.1, profile="none"),
    epochs=3,
    steps_per_epoch=10,
    batch_positions=128,
    learning_rate=1e-2,
    warm_up=5,
    average=0.9,
)


def walks(path: Path, users: int = 60) -> Path:
    """Users who count upwards, modulo ITEMS: the next item is certain."""
    rng = np.random.default_rng(0)
    lines = [
        " ".join([f"u{u}", *(str((start + i) % ITEMS) for i in range(length))])
        for u, (start, length) in enumerate(zip(rng.integers(0, ITEMS, users), rng.integers(3, 12, users), strict=True))
    ]
    path.write_text("\n".join([*lines, "short 1 2"]) + "\n")
    return path


@pytest.fixture
def split(tmp_path: Path) -> LeaveOneOut:
    return leave_one_out(read_sequences(walks(tmp_path / "walks.txt")))


def small(model: str, **changes: object) -> SequenceConfig:
    return msgspec.structs.replace(named(SMALL, model), **changes)


def test_ranks_and_metrics_equal_a_naive_reference() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 30, (40, 61)).astype(np.float32)  # ties on purpose
    target = rng.integers(1, 61, 40)
    seen = np.stack([rng.integers(0, 40, 80), rng.integers(1, 61, 80)])
    left_out = {(row, item) for row, item in seen.T.tolist() if item != target[row]}
    places = []
    for row in range(40):
        rivals = [i for i in range(1, 61) if i != target[row] and (row, i) not in left_out]
        places.append(sum(scores[row, i] >= scores[row, target[row]] for i in rivals))
    got = ranks_of(torch.from_numpy(scores.copy()), torch.from_numpy(target), torch.from_numpy(seen)).numpy()
    np.testing.assert_array_equal(got, places)
    figures = metrics(got)
    assert figures["hr@5"] == pytest.approx(np.mean([p < 5 for p in places]))
    assert figures["ndcg@10"] == pytest.approx(np.mean([1 / np.log2(p + 2) if p < 10 else 0 for p in places]))


def test_a_score_that_is_no_number_is_no_hit() -> None:
    assert int(ranks_of(torch.full((1, 9), torch.nan), torch.tensor([4]), None)[0]) == 8


def test_losses_equal_torch_s() -> None:
    torch.manual_seed(0)
    query, table = torch.randn(50, 8, requires_grad=True), torch.randn(21, 8, requires_grad=True)
    target = torch.randint(1, 21, (50,))
    want = F.cross_entropy(query @ table[1:].T, target - 1)
    got = full_softmax(query, table, target)
    torch.testing.assert_close(got, want)
    for mine, theirs in zip(
        torch.autograd.grad(got * 3, (query, table)), torch.autograd.grad(want * 3, (query, table)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    every = torch.arange(1, 21)  # a sample of every item once: own item apart, nothing is left to estimate
    # own items apart there are (21 - 1) of 20: weight 1
    sampled = sampled_softmax(
        query, F.embedding(target, table), F.embedding(every, table), SampledItems(every, target), 21
    )
    torch.testing.assert_close(sampled, want)
    want = F.cross_entropy(query @ table[1:].T, target - 1)
    for mine, theirs in zip(
        torch.autograd.grad(sampled, (query, table)), torch.autograd.grad(want, (query, table)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_chunks_of_the_softmax_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    query, table, target = torch.randn(50, 8), torch.randn(21, 8), torch.randint(1, 21, (50,))
    whole = full_softmax(query, table, target)
    same = SampledItems(torch.randint(1, 21, (9,)), target)
    sampled = sampled_softmax(query, table[target], table[same.sample_S], same, 20)
    monkeypatch.setattr("bench.sequences.losses._LOGITS", 21 * 7)
    monkeypatch.setattr("bench.sequences.losses._ROWS", 7)
    torch.testing.assert_close(full_softmax(query, table, target), whole)
    torch.testing.assert_close(sampled_softmax(query, table[target], table[same.sample_S], same, 20), sampled)


def test_no_training_position_sees_or_predicts_a_held_out_item(split: LeaveOneOut) -> None:
    inputs = training_inputs(split, length=5)
    for part in batches(inputs.lengths, 64, np.random.default_rng(0)):
        items, following = inputs.take(part)
        assert items.size <= 64
        for row, x, y in zip(part, items, following, strict=True):
            owner = int(np.searchsorted(split.sequences.bounds, inputs.begin[row], side="right")) - 1
            history = split.sequences.items[split.sequences.bounds[owner] : split.train_end[owner]]
            kept = int((x > 0).sum())
            np.testing.assert_array_equal(x[:kept], history[:-1][-5:])
            np.testing.assert_array_equal(y[:kept], history[1:][-5:])
            assert not y[kept:].any()


def test_held_out_inputs_end_before_the_item_asked_for(split: LeaveOneOut) -> None:
    for stage, back in (("validation", 2), ("test", 1)):
        inputs = held_out_inputs(split, stage, length=5)  # type: ignore[arg-type]
        items, following = inputs.take(np.arange(len(inputs.lengths)))
        for user, x, y in zip(split.evaluated, items, following, strict=True):
            history, kept = split.sequences.of(user), int((x > 0).sum())
            assert y[kept - 1] == history[-back]
            np.testing.assert_array_equal(x[:kept], history[:-back][-5:])


def test_one_pass_has_every_row_once(split: LeaveOneOut) -> None:
    inputs = training_inputs(split, length=8)
    rows = np.concatenate(list(batches(inputs.lengths, 64, np.random.default_rng(3))))
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(inputs.lengths)))


@pytest.mark.parametrize("name", MODELS)
def test_no_model_sees_the_future(name: str) -> None:
    torch.manual_seed(0)
    model = SequenceModel(small(name), ITEMS).eval()
    items = torch.randint(1, ITEMS + 1, (4, 8))
    changed = items.clone()
    changed[:, 5] = items[:, 5] % ITEMS + 1
    torch.testing.assert_close(model(items)[:, :5], model(changed)[:, :5], rtol=0, atol=0)
    assert (model(items)[:, 5] - model(changed)[:, 5]).abs().amax() > 1e-3
    padded = F.pad(items[:, :6], (0, 2))
    torch.testing.assert_close(model(padded)[:, :6], model(items[:, :6]))


@pytest.mark.parametrize("negatives", [0, 64])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_what_is_certain(split: LeaveOneOut, name: str, negatives: int) -> None:
    run = train(split, small(name, epochs=8, negatives=negatives), seed=0)
    assert run.test["hr@1"] > 0.9
    assert run.best_round <= run.rounds <= 8


@pytest.mark.parametrize("name", ["panther", "hstu"])
def test_a_resumed_run_equals_an_uninterrupted_one(split: LeaveOneOut, tmp_path: Path, name: str) -> None:
    config = small(name, learning_rate=1e-3)
    whole = train(split, config, seed=1)

    class Crash(Exception):
        pass

    class Crashing(Checkpoint):
        def save(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, epochs: int) -> None:
            super().save(model, optimiser, epochs)
            raise Crash

    for _ in range(2):
        with pytest.raises(Crash):
            train(split, config, 1, Crashing(tmp_path / "at", "key"))
    resumed = train(split, config, 1, Checkpoint(tmp_path / "at", "key"))
    assert (resumed.validation, resumed.test) == (whole.validation, whole.test)
    assert (resumed.best_round, resumed.rounds) == (whole.best_round, whole.rounds)
    assert train(split, config, seed=2).test != whole.test


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    torch.manual_seed(0)
    model = SequenceModel(small("sprm"), ITEMS)
    progress, want = Progress(model, msgspec.structs.replace(SMALL, average=0.25)), []
    for decay, value in ((0, 1.0), (2 / 11, 2.0), (0.25, 4.0)):  # a short decay at first
        torch.nn.init.constant_(model.norm.weight, value)
        progress.updated()
        want.append(value if not want else decay * want[-1] + (1 - decay) * value)
    progress.record(0, 0.5)
    torch.testing.assert_close(progress.best.norm.weight, torch.full((16,), want[-1]))
    torch.nn.init.constant_(model.norm.weight, 9.0)
    progress.updated()
    progress.record(1, 0.4)  # no better
    torch.testing.assert_close(progress.best.norm.weight, torch.full((16,), want[-1]))


def test_views_are_drawn_to_histories_with_the_same_next_item() -> None:
    first, second = F.normalize(torch.randn(3, 1, 8), dim=2), F.normalize(torch.randn(3, 1, 8), dim=2)
    following = torch.tensor([[5], [7], [5]])
    views = torch.cat([first, second])[:, 0]
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        log_p = (views[i] @ views[others].T / 0.2).log_softmax(dim=0)
        terms.append(-np.mean([log_p[others.index(j)].item() for j in others if following[j % 3] == following[i % 3]]))
    # scaled rows and padding behind them change nothing
    padded = [F.pad(3 * view, (0, 0, 0, 2), value=1.0) for view in (first, second)]
    got = behaviour_contrast(*padded, F.pad(following, (0, 2)), temperature=0.2)
    assert got.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_training_stops_when_validation_does_not_improve(split: LeaveOneOut, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([0.1, 0.3, 0.3, 0.2, 0.0, 0.4])
    monkeypatch.setattr("bench.sequences.train.metrics", lambda _: {"hr@10": next(figures, 1.0)})
    run = train(split, small("sasrec", epochs=6, patience=3, steps_per_epoch=1), seed=0)
    assert (run.best_round, run.rounds) == (2, 5)


def test_seen_items_are_left_out_only_where_nobody_repeats(split: LeaveOneOut) -> None:
    torch.manual_seed(0)
    model = SequenceModel(small("sasrec"), ITEMS)
    free, excluded = ranks(model, split, "test", False), ranks(model, split, "test", True)
    assert (excluded <= free).all()
    assert (excluded < free).any()


def tiny_table(out: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr(seqrec_table, "SequenceConfig", lambda: msgspec.structs.replace(SMALL, epochs=1))
    return seqrec_table.run_table(data, ["walks"], ["sasrec", "panther"], [0, 5], out)


def test_the_table_resumes_and_runs_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks(tmp_path / "walks.txt")
    first = tiny_table(tmp_path / "out", tmp_path, monkeypatch)
    lines = (tmp_path / "out" / "runs.jsonl").read_text().splitlines()
    points = len(grid(SMALL))
    assert len(lines) == 2 * (points + 1)
    assert not list((tmp_path / "out").glob("checkpoint-*"))

    def fail(*_: object) -> SequenceRun:
        raise AssertionError("ran again")

    monkeypatch.setattr(seqrec_table, "train", fail)
    assert tiny_table(tmp_path / "out", tmp_path, monkeypatch) == first
    records = [json.loads(line) for line in lines]
    chosen = max(records[:points], key=lambda r: r["run"]["validation"]["hr@10"])
    assert records[points]["config"] == chosen["config"]
    figures = [r["run"]["test"]["hr@10"] for r in (chosen, records[points])]
    row = first["sets"]["walks"]["models"]["sasrec"]["test"]["hr@10"]  # type: ignore[index]
    assert row == pytest.approx({"mean": np.mean(figures), "sd": np.std(figures, ddof=1)})
    assert set_table("walks", first["sets"]["walks"], 2).row_count == 2  # type: ignore[index]


def test_a_run_that_another_process_has_finished_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = RunStore(tmp_path / "out", SequenceLine)
    walks(tmp_path / "walks.txt")
    tiny_table(tmp_path / "out", tmp_path, monkeypatch)
    key = json.loads((tmp_path / "out" / "runs.jsonl").read_text().splitlines()[0])["key"]
    assert mine.find(key) is not None


def test_the_same_grid_for_every_model() -> None:
    points = [[named(point, "panther") for point in grid(small(m))] for m in MODELS]
    assert all(a == b for a, b in pairwise(points))


def test_wrong_names_say_what_there_is(tmp_path: Path) -> None:
    walks(tmp_path / "walks.txt")
    with pytest.raises(BadInput, match=r"Beauty.*got walks"):
        seqrec_table.run_table(tmp_path, ["Beauty"], ["sasrec"], [0], tmp_path / "out")
    with pytest.raises(BadInput, match="models out of"):
        seqrec_table.run_table(tmp_path, [], ["gru"], [0], tmp_path / "out")
    with pytest.raises(BadInput, match="seed"):
        seqrec_table.run_table(tmp_path, [], ["sasrec"], [], tmp_path / "out")
    with pytest.raises(BadInput, match="patience"):
        msgspec.structs.replace(SMALL, patience=0)


def test_movielens_comes_as_its_owner_packs_it(tmp_path: Path) -> None:
    for name in ("ratings.dat", "users.dat", "movies.dat"):
        (tmp_path / name).write_text("1::2::3::4\n")
    assert seqrec_table.find_sets(tmp_path, ()) == {"ratings": tmp_path / "ratings.dat"}
