"""What only a scorer over the network can do: fail to answer, and find its server again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import numpy as np
import pytest

from infra.local.ports import pick_free
from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.scoring import ExplainRequest, ScoreRequest
from panther_core.state.features import WIDTH
from stream.scorer.triton_scorer import TritonScorer


def request(rows: int = 1) -> ScoreRequest:
    return ScoreRequest(
        features=np.zeros((rows, WIDTH), np.float32),
        code=np.ones(rows, np.uint64),
        recent=np.zeros((rows, 3), np.uint64),
        profile=np.zeros((rows, 8), np.uint8),
        cached=np.zeros((rows, 8), np.float32),
        history_len=np.zeros(rows, np.int32),
    )


def test_nobody_listening_is_unavailable_and_says_where() -> None:
    url = f"127.0.0.1:{pick_free(1)[0]}"

    async def go() -> None:
        scorer = TritonScorer(url, 0.5)
        started = time.perf_counter()
        for _ in range(3):
            with pytest.raises(ScorerUnavailable, match=url):
                await scorer.ask(request(), 1)
        await scorer.close()
        assert time.perf_counter() - started < 10

    asyncio.run(go())


def test_a_server_that_never_answers_is_left_at_the_deadline() -> None:
    async def go() -> None:
        server = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        scorer = TritonScorer(f"127.0.0.1:{port}", 0.3)
        started = time.perf_counter()
        with pytest.raises(ScorerUnavailable, match=r"0\.3 s"):
            await scorer.ask(request(), 1)
        with pytest.raises(ScorerUnavailable, match=r"panther_explain.*0\.3 s"):
            await scorer.ask(ExplainRequest.of(request()), 1)
        assert time.perf_counter() - started < 10
        await scorer.close()
        server.close()

    asyncio.run(go())


def test_the_stream_side_imports_no_torch() -> None:
    code = "import sys, stream.scorer.triton_scorer, panther_core.artifact; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
