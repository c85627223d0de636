from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stream.worker.warm_up as module
from panther_core.base.errors import ScorerUnavailable
from panther_core.data.table import TransactionTable
from panther_core.decide.engine import encode_request
from panther_core.decide.scoring import EncodeRequest
from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model
from panther_core.state.transition import append, complete
from stream.worker.warm_up import WarmUp


class Encoder:
    """A version's encoder in this process; notes whom it was asked for."""

    def __init__(self, artifact: Path) -> None:
        self.encoder = IncrementalEncoder(PantherModel.load(artifact), 1 << 26)
        self.asked: list[list[int]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def ask(self, request: Any, version: int) -> Any:
        assert version == 2
        assert isinstance(request, EncodeRequest)
        self.asked.append(request.user.tolist())
        self.meanwhile()
        return self.encoder.encode(request)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.1)
    monkeypatch.setattr(module, "_EVERY_S", 0.01)


def some_states(log: TransactionTable, artifact: Path, users: int) -> tuple[Any, Any]:
    """Users' hashes, and their states after one event each."""
    model = load_serving_model(artifact)
    events = log.events(model.schema, model.risk)[:users]
    states = model.codec.fresh(users)
    append(states, complete(states, events, model.schema))
    return np.arange(1, users + 1, dtype=np.uint64), states


def test_the_encoder_has_seen_everybody_who_came_once_and_a_few_at_a_time(
    log: TransactionTable, artifact_folder: Path, quick: None
) -> None:
    users, states = some_states(log, artifact_folder, 25)
    encoder = Encoder(artifact_folder)
    warm = WarmUp(encoder, 1000)  # ten in a step of .01 s
    warm.note(users, states)
    assert not warm._first, "no version is about to go live"

    async def go() -> None:
        shown = asyncio.create_task(warm.run(2, wanted=lambda: True))
        await asyncio.sleep(0.02)
        warm.note(users[:20], states[:20])
        warm.note(users, states)
        await shown

    asyncio.run(go())
    assert [user for step in encoder.asked for user in step] == users.tolist()
    assert max(map(len, encoder.asked)) == 10
    hits = encoder.encoder.pool.stats.hits
    encoder.encoder.encode(encode_request(states, users))
    assert encoder.encoder.pool.stats.hits == hits + 25, "their next encodings go on from what is kept"
    warm.note(users, states)
    assert not warm._first, "it is over"


def test_a_user_who_pays_again_is_shown_again(log: TransactionTable, artifact_folder: Path, quick: None) -> None:
    users, states = some_states(log, artifact_folder, 25)
    encoder = Encoder(artifact_folder)
    warm = WarmUp(encoder, 1000)

    async def go() -> None:
        shown = asyncio.create_task(warm.run(2, wanted=lambda: True))
        await asyncio.sleep(0)
        warm.note(users, states)
        while sum(map(len, encoder.asked)) < 25:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        model = load_serving_model(artifact_folder)
        append(states, complete(states, log.events(model.schema, model.risk)[:25], model.schema))
        warm.note(users, states)
        await shown

    asyncio.run(go())
    assert [user for step in encoder.asked for user in step] == [*users.tolist()] * 2
    stats = encoder.encoder.pool.stats
    assert (stats.misses, stats.hits) == (25, 25), "it goes on from what it has seen"
    suffix = stats.suffix
    encoder.encoder.encode(encode_request(states, users))
    assert stats.suffix == suffix, "their newest events are among it"


def test_it_ends_where_users_go_on_coming(
    log: TransactionTable, artifact_folder: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_S", 0.2)
    _, states = some_states(log, artifact_folder, 1)
    encoder = Encoder(artifact_folder)
    warm = WarmUp(encoder, 1000)
    come = iter(range(1, 1_000_000))
    together = range(5)
    encoder.meanwhile = lambda: [warm.note(np.array([next(come)], np.uint64), states) for _ in together]

    async def go() -> None:
        shown = asyncio.create_task(warm.run(2, wanted=lambda: True))
        await asyncio.sleep(0.02)
        encoder.meanwhile()
        await asyncio.wait_for(shown, 30)

    asyncio.run(go())
    asked = sum(map(len, encoder.asked))
    assert 5 <= asked <= 200, "no more than it may show in that time"


def test_a_few_who_go_on_coming_are_not_waited_for(
    log: TransactionTable, artifact_folder: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, states = some_states(log, artifact_folder, 1)
    encoder = Encoder(artifact_folder)
    warm = WarmUp(encoder, 1000)
    come = iter(range(1, 1_000_000))

    async def go() -> None:
        shown = asyncio.create_task(warm.run(2, wanted=lambda: True))
        while not shown.done():
            await asyncio.sleep(0.04)  # three in a look of .1 s, in which it may show a hundred
            warm.note(np.array([next(come)], np.uint64), states)

    asyncio.run(asyncio.wait_for(go(), 60))
    assert encoder.asked


def test_a_version_that_does_not_answer_or_is_no_longer_wanted_is_not_waited_for(
    log: TransactionTable, artifact_folder: Path, quick: None
) -> None:
    users, states = some_states(log, artifact_folder, 2)

    class Down:
        tried = 0

        async def ask(self, *_: Any) -> Any:
            self.tried += 1
            raise ScorerUnavailable("down")

    async def go(scorer: Any, wanted: bool) -> None:
        warm = WarmUp(scorer, 100)
        shown = asyncio.create_task(warm.run(2, wanted=lambda: wanted))
        await asyncio.sleep(0)
        warm.note(users, states)
        await asyncio.wait_for(shown, 30)

    down, encoder = Down(), Encoder(artifact_folder)
    asyncio.run(go(down, True))
    assert down.tried == 1
    asyncio.run(go(encoder, False))
    assert encoder.asked == []
