"""Several replicas as one scorer: routing and retries against made-up ones, kill -9 against real servers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.process import group_members
from infra.local.triton import TritonPorts, TritonServer
from panther_core.artifact import load_manifest
from panther_core.base.errors import ArtifactError, ScorerUnavailable
from panther_core.base.settings import triton_headers
from panther_core.decide.scoring import EncodeRequest, EncodeResponse, ScoreResponse
from panther_core.model.serving import PantherModel
from stream.scorer.rendezvous import rendezvous
from stream.scorer.replicas import ReplicaScorer
from stream.scorer.triton_control import TritonControl
from tests.stream.scorer.test_contract import assert_same, encode_request, score_request
from tests.stream.scorer.test_triton_scorer import request as made_up_score
from trainer.rollout.deploy import DeployError, check_loaded, check_serves, export, load, served

# ---- routing ----


@given(st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=6), st.data())
def test_a_replica_that_leaves_moves_its_own_users_only(seeds: set[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(sorted(seeds)))
    gone = data.draw(st.sampled_from(order))
    users = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
    before = np.asarray(order, np.uint64)[rendezvous(users, order)]
    left = sorted(seeds - {gone})
    after = np.asarray(left, np.uint64)[rendezvous(users, left)]
    np.testing.assert_array_equal((before != after), before == gone)


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_users_are_spread_evenly(replicas: int) -> None:
    scorer = ReplicaScorer([f"triton-{i}:8001" for i in range(replicas)], client=Fake, control=FakeControl)
    users = np.random.default_rng(1).integers(0, 2**64, 10_000, dtype=np.uint64)
    counts = np.bincount(rendezvous(users, list(scorer._seeds.values())), minlength=replicas)
    assert np.abs(counts / (10_000 / replicas) - 1).max() < 0.1


@pytest.mark.parametrize("urls", ["", "a:1,,b:1", "a:1,a:1"])
def test_a_list_that_makes_no_sense_is_refused(urls: str) -> None:
    with pytest.raises(ValueError, match="TRITON_URL"):
        ReplicaScorer(urls)


# ---- replicas with fake clients ----


class Fake:
    """A client that answers with the users of the request; raises if its url is in `down`, hangs if in `hung`."""

    down: set[str] = set()  # noqa: RUF012 - set by each test
    hung: set[str] = set()  # noqa: RUF012
    seen: list[tuple[str, int]] = []  # noqa: RUF012

    def __init__(self, url: str, *_: float) -> None:
        self.url = url

    async def _gate(self, rows: int) -> None:
        Fake.seen.append((self.url, rows))
        await asyncio.sleep(0.001)
        if self.url in Fake.down:
            raise ScorerUnavailable(f"{self.url} is down")
        if self.url in Fake.hung:
            await asyncio.sleep(60)

    async def ask(self, request: Any, version: int) -> Any:
        if isinstance(request, EncodeRequest):
            await self._gate(len(request.user))
            expected = np.stack([request.user] * 3, 1)
            return EncodeResponse(request.user.astype(np.float32)[:, None], expected)
        rows = len(request.code)
        await self._gate(rows)
        return ScoreResponse(np.zeros(rows, np.float32), np.zeros((rows, 6), np.float32))


class FakeControl:
    """A server whose canary fails if its url is in Fake.down or Fake.hung."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def canary(self, within_s: float) -> str | None:
        await asyncio.sleep(0.001)
        return "down" if self.url in Fake.down | Fake.hung else None


@pytest.fixture
def fakes() -> Iterator[type[Fake]]:
    Fake.down, Fake.hung, Fake.seen = set(), set(), []
    yield Fake
    Fake.down, Fake.hung = set(), set()


def run_faked(
    call: Callable[[ReplicaScorer], Coroutine[Any, Any, Any]], urls: str = "a:1,b:1,c:1", encode_deadline_s: float = 0.6
) -> Any:
    async def go() -> Any:
        scorer = ReplicaScorer(urls, 0.3, encode_deadline_s, client=Fake, control=FakeControl)  # type: ignore[arg-type]
        try:
            return await call(scorer)
        finally:
            await scorer.close()

    return asyncio.run(go())


def windows(rows: int) -> EncodeRequest:
    user = np.random.default_rng(2).integers(0, 2**64, rows, dtype=np.uint64)
    codes = np.ones((rows, 4), np.uint64)
    return EncodeRequest(user, codes, np.ones(rows, np.int32), user, np.zeros((rows, 8), np.uint8))


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_answers_come_in_row_order(fakes: type[Fake], rows: int) -> None:
    request = windows(rows)
    answer = run_faked(lambda s: s.ask(request, 1))
    np.testing.assert_array_equal(answer.expected[:, 0], request.user)
    assert sum(n for _, n in fakes.seen) == rows
    assert len(fakes.seen) == min(rows, 3) or rows == 2


def test_it_says_what_keeps_all_from_answering_and_begins_to_watch_by_itself(fakes: type[Fake]) -> None:
    async def until(scorer: ReplicaScorer, well: bool) -> None:
        async with asyncio.timeout(10):
            while (scorer.problem() is None) is not well:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.01)

    async def looks(scorer: ReplicaScorer) -> None:
        problem = scorer.problem()
        assert problem is not None, "nobody has answered yet"
        assert "a:1, b:1, c:1" in problem
        await until(scorer, well=True)
        fakes.down |= {"a:1", "b:1"}
        await asyncio.sleep(1)
        assert scorer.problem() is None, "one is enough"
        fakes.down |= {"c:1"}
        await until(scorer, well=False)

    run_faked(looks)


def test_a_machine_that_stood_still_is_not_taken_for_a_server_that_does_not_answer(
    fakes: type[Fake], caplog: pytest.LogCaptureFixture
) -> None:
    stood = []

    class Frozen(FakeControl):
        async def canary(self, within_s: float) -> str | None:
            if stood:
                return None
            stood.append(within_s)
            time.sleep(within_s + 0.5)  # noqa: ASYNC251 - nothing runs meanwhile
            return "deadline exceeded"

    async def looks() -> None:
        scorer = ReplicaScorer("a:1", 0.3, 0.6, client=Fake, control=Frozen)  # type: ignore[arg-type]
        try:
            await scorer.ask(windows(3), 1)
            await asyncio.sleep(0.1)
            await scorer.ask(windows(3), 1)
        finally:
            await scorer.close()

    asyncio.run(looks())
    assert stood
    assert "is down" not in caplog.text


def test_a_version_out_of_service_takes_no_calls_from_the_others(fakes: type[Fake]) -> None:
    looks = []

    class Retired(Fake):
        async def ask(self, request: Any, version: int) -> Any:
            if version == 1 and looks:
                raise ScorerUnavailable("Request for unknown model: 'panther_score' version 1 is not at ready state")
            return await super().ask(request, version)

    class Loader(FakeControl):
        async def states(self, model: str) -> dict[str, str]:
            await asyncio.sleep(0.3)
            return {"1": "UNAVAILABLE", "2": "READY"}

        async def load(self, model: str) -> None:
            looks.append(model)
            await asyncio.sleep(0.3)

    async def switch() -> None:
        scorer = ReplicaScorer("a:1", 0.3, 0.6, client=Retired, control=Loader)  # type: ignore[arg-type]
        try:
            await scorer.ask(made_up_score(3), 1)
            looks.append("retired")
            with suppress(ScorerUnavailable):  # a last call, which finds that the version is gone
                await scorer.ask(made_up_score(3), 1)
            async with asyncio.timeout(10):
                while len(looks) < 2:
                    await scorer.ask(made_up_score(3), 2)
            for _ in range(30):
                await scorer.ask(made_up_score(3), 2)
                await asyncio.sleep(0.02)
            assert scorer.problem() is None
        finally:
            await scorer.close()

    asyncio.run(switch())
    assert "panther_score" in looks


@pytest.mark.parametrize("how", ["down", "hung"])
def test_rows_of_a_failed_replica_are_answered_by_another(fakes: type[Fake], how: str) -> None:
    getattr(fakes, how).add("b:1")
    request = windows(64)

    async def calls(scorer: ReplicaScorer) -> None:
        for _ in range(5):
            answer = await scorer.ask(request, 1)
            np.testing.assert_array_equal(answer.expected[:, 0], request.user)
        for _ in range(5):
            await scorer.ask(made_up_score(3), 1)

    run_faked(calls)
    # one failed call for each step, and none after it
    assert len([url for url, n in fakes.seen if url == "b:1" and n > 1]) <= 2


def test_nobody_left_is_unavailable_within_the_deadline(fakes: type[Fake]) -> None:
    fakes.down, fakes.hung = {"a:1"}, {"b:1"}

    async def calls(scorer: ReplicaScorer) -> None:
        for _ in range(3):
            started = time.perf_counter()
            with pytest.raises(ScorerUnavailable, match="version 7"):
                await scorer.ask(windows(9), 7)
            with pytest.raises(ScorerUnavailable, match="version 7"):
                await scorer.ask(made_up_score(), 7)
            assert time.perf_counter() - started < 5

    run_faked(calls, "a:1,b:1")


def test_a_call_to_a_server_that_hangs_ends_when_that_is_noticed(fakes: type[Fake]) -> None:
    async def go(scorer: ReplicaScorer) -> float:
        await scorer.ask(windows(2), 1)
        Fake.hung = {"a:1"}
        started = time.monotonic()
        with pytest.raises(ScorerUnavailable, match="found down"):
            await scorer.ask(windows(2), 1)
        with pytest.raises(ScorerUnavailable, match="in health"):
            await scorer.ask(windows(2), 1)
        return time.monotonic() - started

    assert run_faked(go, "a:1", encode_deadline_s=30) < 2


def test_a_replica_that_returns_gets_its_users_back(fakes: type[Fake]) -> None:
    async def calls(scorer: ReplicaScorer) -> None:
        fakes.down = {"b:1"}
        await scorer.ask(windows(64), 1)
        fakes.down = set()
        await asyncio.sleep(1.2)
        fakes.seen.clear()
        await scorer.ask(windows(64), 1)
        assert {url for url, _ in fakes.seen} == {"a:1", "b:1", "c:1"}

    run_faked(calls)


def test_a_version_that_nobody_serves_stops_no_other(fakes: type[Fake]) -> None:
    async def calls(scorer: ReplicaScorer) -> None:
        fakes.down = {"a:1"}
        with pytest.raises(ScorerUnavailable):
            await scorer.ask(windows(1), 99)
        fakes.down = set()
        await scorer.ask(windows(1), 1)

    run_faked(calls, "a:1")


# ---- real servers ----


_KEY = triton_headers("k" * 16)


class Pair:
    """Two Triton servers over one model repository, and the model that they serve."""

    def __init__(self, servers: list[TritonServer], model: PantherModel) -> None:
        self.servers, self.model = servers, model

    def run(self, call: Callable[[ReplicaScorer], Coroutine[Any, Any, Any]], which: slice = slice(None)) -> Any:
        async def go() -> Any:
            urls = ",".join(s.grpc_url for s in self.servers[which])
            scorer = ReplicaScorer(urls, 1.0, 5.0, control=partial(TritonControl, headers=_KEY))
            try:
                return await call(scorer)
            finally:
                await scorer.close()

        return asyncio.run(go())


@pytest.fixture(scope="module")
def pair(artifact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("replicas")
    export(artifact_folder, folder / "models")
    servers = [TritonServer(folder / "models", folder / str(i), TritonPorts.free(), key="k" * 16) for i in range(2)]
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            server.wait_ready()
        yield Pair(servers, PantherModel.load(artifact_folder))
    finally:
        for server in servers:
            server.stop()


def test_commands_reach_every_server_and_name_the_one_that_fails(pair: Pair, artifact_folder: Path) -> None:
    both = ", ".join(server.grpc_url for server in pair.servers)
    manifest = load_manifest(artifact_folder)
    load(both, manifest, _KEY)  # the version is loaded already and must not be reloaded
    check_loaded(both, pair.servers[0].model_repository, manifest)
    trial = msgspec.structs.replace(manifest, threshold=manifest.threshold / 2)  # of another training, same number
    check_serves(both, trial)
    with pytest.raises(ArtifactError, match=r"version 1 as it is loaded from .*/panther_encode/1/artifact, got other"):
        check_loaded(both, pair.servers[0].model_repository, trial)
    assert set(map(tuple, served(both, _KEY).values())) == {(1,)}
    with pytest.raises(DeployError, match=r"127\.0\.0\.1:1,.*server's log"):
        served(f"{both},127.0.0.1:1", _KEY)
    with pytest.raises(DeployError, match="PANTHER_TRITON_KEY"):
        served(both)


def kill_stub(server: TritonServer, model: str) -> None:
    assert server.process is not None
    for pid in group_members(server.process.ref.pid):
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if argv[0].endswith("triton_python_backend_stub") and f"/{model}/" in argv[1]:
            return os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"no process of {model}")


def test_two_servers_answer_as_the_model_does(pair: Pair) -> None:
    encode, score = encode_request(pair.model, 64), score_request(pair.model, 64)
    assert_same(pair.run(lambda s: s.ask(encode, 1)), pair.model.encode(encode.codes, encode.length, encode.profile))
    assert_same(pair.run(lambda s: s.ask(encode, 1)), pair.run(lambda s: s.ask(encode, 1), slice(1)))
    assert_same(pair.run(lambda s: s.ask(score, 1)), pair.run(lambda s: s.ask(score, 1), slice(1)))


@pytest.mark.parametrize("step", ["score", "encode"])
def test_a_dead_model_process_is_noticed_and_loaded_again(pair: Pair, step: str) -> None:
    request = (score_request if step == "score" else encode_request)(pair.model, 8)

    async def calls(scorer: ReplicaScorer) -> tuple[float, float]:
        before = await scorer.ask(request, 1)
        await asyncio.sleep(0.6)  # no call is under way, so the probe must detect the failure
        kill_stub(pair.servers[0], request.model)
        killed = time.perf_counter()
        lane = scorer._replicas[0].lanes[request.model, 1]
        async with asyncio.timeout(30):
            while lane.ok:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        detected = time.perf_counter() - killed
        with pytest.raises(ScorerUnavailable):
            await scorer.ask(request, 1)
        deadline_s = 0.5 if step == "score" else 5.0
        assert time.perf_counter() - killed - detected < deadline_s  # the call fails at detection
        async with asyncio.timeout(90):  # a process of torch starts, on a machine that may run other tests
            while not scorer._replicas[0].takes(lane):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert_same(await scorer.ask(request, 1), before)
        return detected, time.perf_counter() - killed

    detected, healed = pair.run(calls, slice(1))
    print(f"panther_{step}: dead process detected after {detected:.2f} s, answers again after {healed:.2f} s")
    assert pair.servers[0].process is not None
    assert pair.servers[0].process.alive()


def test_a_reload_that_fails_is_tried_again(pair: Pair) -> None:
    """As when the memory that killed the process is still short at the load."""
    request, home = score_request(pair.model, 8), pair.servers[0].model_repository / "panther_score" / "1"

    async def calls(scorer: ReplicaScorer) -> None:
        before = await scorer.ask(request, 1)
        replica = scorer._replicas[0]
        lane = replica.lanes[request.model, 1]
        (home / "artifact").rename(home / "elsewhere")
        kill_stub(pair.servers[0], request.model)
        async with asyncio.timeout(120):
            while await replica.control.states(request.model) != {"1": "UNAVAILABLE"}:
                lane.used_s = time.monotonic()
                await asyncio.sleep(0.1)
            (home / "elsewhere").rename(home / "artifact")
            while not replica.takes(lane):
                lane.used_s = time.monotonic()  # as its users' events keep asking
                await asyncio.sleep(0.05)
        assert_same(await scorer.ask(request, 1), before)

    pair.run(calls, slice(1))


def test_a_model_that_a_worker_left_unloaded_is_loaded_by_another(pair: Pair) -> None:
    """As after a kill -9 of the worker between unload and load. The other worker begins afterwards."""
    request = encode_request(pair.model, 8)

    async def calls(scorer: ReplicaScorer) -> None:
        control = scorer._replicas[0].control
        await control._client.unload_model(request.model, headers=_KEY)
        async with asyncio.timeout(120):
            while "READY" in (await control.states(request.model)).values():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while True:
                try:
                    answer = await scorer.ask(request, 1)
                    break
                except ScorerUnavailable:
                    await asyncio.sleep(0.1)
        assert_same(answer, pair.model.encode(request.codes, request.length, request.profile))
        assert (await control.states(request.model))["1"] == "READY"

    pair.run(calls, slice(1))


def test_a_version_that_the_repository_lacks_is_not_loaded_for_ever(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def calls(scorer: ReplicaScorer) -> None:
        for _ in range(8):
            with pytest.raises(ScorerUnavailable):
                await scorer.ask(score_request(pair.model, 1), 99)
            await asyncio.sleep(0.2)

    pair.run(calls, slice(1))
    assert not [record for record in caplog.records if "loading it" in record.message]


def test_no_call_fails_when_a_server_is_killed(pair: Pair) -> None:
    encode, score = encode_request(pair.model, 32), score_request(pair.model, 8)

    async def calls(scorer: ReplicaScorer) -> None:
        want = await scorer.ask(encode, 1), await scorer.ask(score, 1)

        async def loop() -> int:
            count, end = 0, time.perf_counter() + 2.5
            while time.perf_counter() < end:
                assert_same(await scorer.ask(encode, 1), want[0])
                assert_same(await scorer.ask(score, 1), want[1])
                count += 1
            return count

        loops = [asyncio.create_task(loop()) for _ in range(4)]
        await asyncio.sleep(0.7)
        process = pair.servers[1].process
        assert process is not None
        os.kill(process.ref.pid, signal.SIGKILL)
        assert min(await asyncio.gather(*loops)) > 10
        assert [r.up for r in scorer._replicas] == [True, False]

    pair.run(calls)
