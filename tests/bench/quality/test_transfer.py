"""Transfer: unseen users stay unseen, every row is measured on the same events, and what fits is carried over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from bench.quality import transfer
from bench.quality.carry_over import carry_over, head_rows, table_rows
from bench.quality.transfer import CONFIG, NamedLog, Transfer, TransferConfig
from bench.quality.transfer_logs import YEN, source_log, target_log
from bench.quality.unseen_users import UserSplit, by_frequency, known_users, split_users, with_context, without_context
from bench.results import data_key
from panther_core.base.errors import BadInput
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.schema import CODE
from panther_core.data.table import TransactionTable, Words
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from trainer.fit.evaluate import Validation
from trainer.fit.pretrain import Batches, pretrain

TINY = msgspec.structs.replace(
    CONFIG,
    model=ModelConfig(d=8, layers=1, heads=1, length=16, prototypes=4, user_dim=4, cnn_dim=2, cnn_filters=2),
    epochs=1,
    validation_sample=50,
    amount_buckets=4,
)
SMALL = TransferConfig(train=TINY, small=0.3, budgets=(1, 2))


@pytest.fixture(scope="module")
def table() -> TransactionTable:
    return generate(GeneratorConfig(users=30, days=20, seed=5))


@pytest.fixture(scope="module")
def known_U(table: TransactionTable) -> np.ndarray:
    return known_users(table, 0.8, 1)


@pytest.fixture(scope="module")
def split(table: TransactionTable, known_U: np.ndarray) -> UserSplit:
    return split_users(table, known_U, known_U, TINY, PROFILE)


def fresh(split: UserSplit) -> PantherModel:
    torch.manual_seed(0)
    return PantherModel(TINY.model, split.schema, split.vocabulary).eval()


def test_users_are_split_at_random_and_smaller_parts_lie_within_larger(table: TransactionTable) -> None:
    first, small, other = (known_users(table, s, seed) for s, seed in ((0.8, 1), (0.3, 1), (0.8, 2)))
    assert (first.sum(), small.sum()) == (24, 9)
    assert (first | ~small).all()
    assert (first != other).any()


def test_nothing_of_unseen_users_enters_pretraining(
    table: TransactionTable, known_U: np.ndarray, split: UserSplit
) -> None:
    unseen_N = ~known_U[table.user.index]
    cuts = int(len(table) * TINY.validation_from), int(len(table) * TINY.test_from)
    part = split.part(split.fit_N)
    assert not unseen_N[part.order].any()
    assert part.order.max() < cuts[0]
    targets = sum(len(batch.target_N) for batch in Batches(part, TINY, 0).epoch(0))
    assert targets == len(part.order) == int((split.fit_N & split.history.kept).sum())
    assert not unseen_N[split.validation].any()
    assert cuts[0] <= split.validation.min() <= split.validation.max() < cuts[1]
    assert unseen_N[split.test].all()
    assert split.test.min() >= cuts[1]


def test_other_events_of_unseen_users_change_no_weight(
    table: TransactionTable, known_U: np.ndarray, split: UserSplit
) -> None:
    unseen_N = ~known_U[table.user.index]
    other = replace(table, amount=np.where(unseen_N, table.amount * 3 + 1, table.amount))
    changed = split_users(other, known_U, known_U, TINY, PROFILE)
    assert (changed.schema, changed.vocabulary) == (split.schema, split.vocabulary)
    assert (changed.history.code != split.history.code).any()
    weights = []
    for one in (split, changed):
        model = fresh(one)
        pretrain(model.panther, one.part(one.fit_N), TINY, 0)
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=0)


def test_profile_buckets_come_from_known_users(table: TransactionTable, known_U: np.ndarray) -> None:
    income = [1e9 if not known else value for known, value in zip(known_U, table.profile["income"], strict=True)]
    other = replace(table, profile=table.profile | {"income": income})
    mine, theirs = (split_users(t, known_U, known_U, TINY).schema.profile for t in (table, other))
    assert mine == theirs


def test_context_is_the_users_own_past(split: UserSplit) -> None:
    model = fresh(split)
    whole = model.encode_history(split.history)
    figures = with_context(model, split)
    judge = Validation(split.history, split.test, 10_000, TINY.model.length, 0)
    assert figures["hr@10"] == pytest.approx(judge.hit_rate(model.panther))
    own = model.encode_history(split.part(split.unseen_N))
    np.testing.assert_allclose(
        own.cached[own.place[split.test] - 1], whole.cached[whole.place[split.test] - 1], atol=1e-5
    )
    early = split.history.code.copy()
    early[split.unseen_N & split.early_N] = early[0]
    forgot = replace(split, history=replace(split.history, code=early))
    assert with_context(model, forgot) != figures
    assert without_context(model, forgot) == without_context(model, split) != figures


def test_frequencies_equal_a_naive_reference(split: UserSplit) -> None:
    tokens = split.vocabulary.tokens(split.history.code.view(CODE)).tolist()
    size = split.vocabulary.size
    often = np.bincount([tokens[i] for i in np.flatnonzero(split.fit_N)], minlength=size)
    by_popularity = np.argsort(often, kind="stable")[::-1].tolist()
    for own in (False, True):
        hits = 0
        for row in split.test.tolist():
            past = np.flatnonzero(split.history.user[:row] == split.history.user[row]).tolist() if own else []
            counts = np.bincount([tokens[i] for i in past], minlength=size)
            first = sorted(by_popularity, key=lambda t, c=counts: -c[t])[:10]
            hits += tokens[row] > 0 and tokens[row] in first
        assert by_frequency(split, own)["hr@10"] == pytest.approx(hits / len(split.test))


def test_unknown_is_a_miss_among_few_tokens_too(split: UserSplit) -> None:
    tokens = split.vocabulary.tokens(split.history.code[split.test].view(CODE))
    common = np.sort(np.argsort(-np.bincount(tokens)[1:])[:5])  # [UNK] left out; keys stay sorted
    keys = tuple(split.vocabulary.keys[i] for i in common.tolist())
    few = replace(split, vocabulary=msgspec.structs.replace(split.vocabulary, keys=keys))
    known = few.vocabulary.tokens(few.history.code[few.test].view(CODE)) > 0
    assert 0 < known.mean() < 1
    assert by_frequency(few, own=True)["hr@50"] == pytest.approx(known.mean())


def test_a_log_is_named_by_all_of_it(table: TransactionTable) -> None:
    device = Words(np.zeros(len(table), np.int32), ("d",))
    others = [replace(table, device=device), replace(table, currency=device), table.take(slice(1, None))]
    assert len({data_key(t) for t in (table, *others)}) == 4
    assert data_key(replace(table, amount=table.amount.copy())) == data_key(table)


def test_what_means_the_same_is_carried_over(split: UserSplit) -> None:
    other = generate(GeneratorConfig(users=20, days=10, seed=8, merchants=50))
    everyone = np.ones(20, np.bool_)
    there = split_users(replace(other, amount=other.amount * YEN), everyone, everyone, TINY, PROFILE[:2])
    source, target, before = fresh(there).panther, fresh(split).panther, fresh(split).panther
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    share = carry_over(source, target)
    assert 0 < share < 1
    for name in ("position_TD", "layers.0.sprm.prototypes_MD", "start_D", "user_head.0.weight"):
        torch.testing.assert_close(target.get_parameter(name), source.get_parameter(name), rtol=0, atol=0)
    for rows, theirs, tensor, origin, old in (
        (table_rows(target), table_rows(source), target.table, source.table, before.table),
        (head_rows(target), head_rows(source), *(p.attribute_heads.bias for p in (target, source, before))),
    ):
        for name, (low, high) in rows.items():
            want = origin[slice(*theirs[name])] if name in ("amount", "gap", "hour", "flags") else old[low:high]
            torch.testing.assert_close(tensor[low:high], want, rtol=0, atol=0)
    size = split.vocabulary.size
    torch.testing.assert_close(target.table[:size], before.table[:size], rtol=0, atol=0)
    torch.testing.assert_close(target.profile_table, before.profile_table, rtol=0, atol=0)
    assert target.table[list(table_rows(target).values())[-1][1] :].numel() == 0


def test_the_tables_have_every_row_and_run_nothing_twice(
    table: TransactionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = NamedLog("here", table, PROFILE)
    there = NamedLog("there", generate(GeneratorConfig(users=20, days=10, seed=8)), PROFILE)

    def run() -> tuple[dict[str, object], dict[str, object]]:
        both = Transfer(tmp_path, [0], SMALL)
        return both.unseen(here), both.elsewhere(there, here)

    first = run()
    unseen, elsewhere = (part["rows"] for part in first)
    assert list(unseen) == [  # type: ignore[call-overload]
        "popular", "own counts, then popular", "known users, without context", "known users", "all users",
    ]  # fmt: skip
    assert len(elsewhere) == 2 + 2 * len(SMALL.budgets)  # type: ignore[arg-type]
    for rows in (unseen, elsewhere):
        assert len({row["test_events"]["mean"] for row in rows.values()}) == 1  # type: ignore[attr-defined]
        for row in rows.values():  # type: ignore[attr-defined]
            assert 0 <= row["hr@1"]["mean"] <= row["hr@5"]["mean"] <= row["hr@10"]["mean"] <= 1
    lines = (tmp_path / "runs.jsonl").read_bytes()

    def fail(*_: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(transfer, "pretrain", fail)
    assert run() == first
    assert (tmp_path / "runs.jsonl").read_bytes() == lines


def test_the_generated_logs_differ_and_wrong_options_say_so(tmp_path: Path) -> None:
    here, there = target_log("generator", "", 500), source_log("generator", "", 500)
    assert len(here.table) == len(there.table) == 500
    assert np.median(there.table.amount) > 20 * np.median(here.table.amount)
    assert here.facts != there.facts
    with pytest.raises(BadInput, match="seed"):
        Transfer(tmp_path, [])
    with pytest.raises(BadInput, match="small <= known"):
        TransferConfig(small=0.9)
