"""Calls to one Triton server that check and reload its models; stream.scorer.replica makes them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

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

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: what the server asks of whoever loads models (PantherSettings.triton_headers)."""
        self._url, self._headers = url, headers
        self._made: InferenceServerClient | None = None

    @property
    def _client(self) -> InferenceServerClient:
        if self._made is None:
            self._made = InferenceServerClient(self._url, channel_args=CHANNEL)
        return self._made

    async def canary(self, within_s: float) -> str | None:
        """None when the canary model echoed, else what is wrong; "unknown model" where the server has not loaded it."""
        # several values, because a broken numpy in the server repeats the first value
        sent = np.array([secrets.randbits(62) for _ in range(4)], np.int64)
        ping = InferInput("PING", [4], "INT64")
        ping.set_data_from_numpy(sent)
        try:
            answer = await self._client.infer("canary", [ping], client_timeout=within_s)
        except (InferenceServerException, grpc.RpcError, OSError) as error:
            return str(error)
        reply = answer.get_response()  # None for bytes that are no message of the protocol
        same = reply is not None and b"".join(reply.raw_output_contents) == sent.tobytes()
        return None if same else "the canary answered other bytes than it was sent"

    async def states(self, model: str) -> dict[str, str]:
        """LOADING, READY, UNLOADING or UNAVAILABLE, by version of the model; {"": ""} while none was loaded yet, and
        empty where the server's repository has no such model."""
        index = await self._client.get_model_repository_index(headers=self._headers, client_timeout=_INDEX_S)
        models = () if index is None else index.models  # None for bytes that are no message of the protocol
        return {entry.version: entry.state for entry in models if entry.name == model}

    async def load(self, model: str) -> None:
        """Load every version of the model that is in the repository and not loaded."""
        await self._client.load_model(model, headers=self._headers, client_timeout=_LOAD_S)

    async def reload(self, model: str) -> None:
        """Unload the model, then load it: while its folder is unchanged, loading alone has no effect."""
        await self._client.unload_model(model, headers=self._headers, client_timeout=_LOAD_S)
        await self.load(model)

    async def close(self) -> None:
        """Close the connection."""
        if self._made is not None:
            await self._made.close()
            self._made = None
