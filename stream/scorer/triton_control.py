"""Calls to one Triton server that check and reload its models; stream.scorer.replica makes them."""

from __future__ import annotations

import secrets

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stream.scorer.triton_scorer import CHANNEL

_INDEX_S = 1.3
_LOAD_S = 120.0


class TritonControl:
    """The canary inference and the model repository commands of one Triton server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: InferenceServerClient | None = None

    @property
    def _client(self) -> InferenceServerClient:
        if self._made is None:
            self._made = InferenceServerClient(self._url, channel_args=CHANNEL)
        return self._made

    async def canary(self, within_s: float) -> str | None:
        """None when the canary model echoed, else what is wrong."""
        # several values, because a broken numpy in the server repeats the first value
        sent = np.array([secrets.randbits(62) for _ in range(4)], np.int64)
        ping = InferInput("PING", [4], "INT64")
        ping.set_data_from_numpy(sent)
        try:
            answer = await self._client.infer("canary", [ping], client_timeout=within_s)
        except (InferenceServerException, grpc.RpcError, OSError) as error:
            # a server without the canary model has answered, so it is alive; its lanes are probed nevertheless
            return None if "unknown model" in str(error) else str(error)
        same = b"".join(answer.get_response().raw_output_contents) == sent.tobytes()
        return None if same else "the canary answered other bytes than it was sent"

    async def loading(self, model: str) -> bool:
        """Whether the model is being loaded at this moment, by this worker or another."""
        index = await self._client.get_model_repository_index(client_timeout=_INDEX_S)
        return any(entry.name == model and entry.state == "LOADING" for entry in index.models)

    async def reload(self, model: str) -> None:
        """Unload the model, then load it: while its folder is unchanged, loading alone has no effect."""
        await self._client.unload_model(model, client_timeout=_LOAD_S)
        await self._client.load_model(model, client_timeout=_LOAD_S)

    async def close(self) -> None:
        """Close the connection."""
        if self._made is not None:
            await self._made.close()
            self._made = None
