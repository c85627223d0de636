"""A loaded model version: numpy in, numpy out. Called by the models on Triton, by replay and by the trainer.

Shapes as in panther_core.decide.scoring; N rows of any number: work is cut into chunks, so memory stays bounded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from panther_core import artifact
from panther_core.artifact import Manifest
from panther_core.base.errors import ArtifactError, BadInput
from panther_core.data.decision import EXPECTED
from panther_core.data.schema import PROFILE_FIELDS, AttributeSchema
from panther_core.data.vocabulary import Vocabulary
from panther_core.decide.scoring import (
    SURPRISE,
    EncodeRequest,
    EncodeResponse,
    ExplainRequest,
    ExplainResponse,
    NewEvents,
    R,
    Request,
    ScoreRequest,
    ScoreResponse,
)
from panther_core.entities.arrays import Ints
from panther_core.model.blend import BOOSTING, BOOSTING_PANTHER, DCN_CONTEXT, Blend, BlendConfig
from panther_core.model.bulk import EncodedHistory, chunks, padded, plan
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.explain import explain, nearest_prototypes
from panther_core.model.head import ContextHead, Deviation, FraudHead
from panther_core.model.kernels import token_kernel
from panther_core.model.kernels.dcn_kernel import dcn_weights
from panther_core.model.kernels.score_kernel import ScoreKernel
from panther_core.model.outputs import Outputs, cached_width, unpack
from panther_core.model.panther import Panther
from panther_core.model.trees import read_trees
from panther_core.model_config import ModelConfig
from panther_core.state.features import WIDTH
from panther_core.state.history import History
from panther_core.state.window import RECENT

POSITIONS = 8192  # padded window positions a forward: activations stay in cache
#: the same for whole histories on a CPU: activations fit into memory that the process holds already, since allocating
#: new memory pages is slow
_POSITIONS_CPU = 2048
_LOGITS = 8 << 20  # next-token logits held in memory at a time


class PantherModel(torch.nn.Module):
    """Encoder and fraud head of one version."""

    def __init__(self, config: ModelConfig, schema: AttributeSchema, vocabulary: Vocabulary) -> None:
        """A model with random weights; `load` gives a trained version."""
        super().__init__()
        self.config = config
        self.panther = Panther(config, schema, vocabulary)
        self.head = FraudHead(config, schema, WIDTH)
        self.context: ContextHead | None = None
        self._kernel: ScoreKernel | None = None
        self.blend: Blend | None = None

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> PantherModel:
        """The version in `folder`, ready to serve. Raises ArtifactError, FingerprintMismatch."""
        manifest = artifact.load_manifest(folder)
        model = cls(manifest.config, artifact.load_schema(folder), artifact.load_vocabulary(folder))
        try:
            weights = load_file(folder / artifact.WEIGHTS)
            if any(name.startswith("context.") for name in weights):  # versions of before it have none
                model.context = ContextHead(manifest.config, WIDTH)
            model.load_state_dict(weights)
        except (RuntimeError, SafetensorError) as error:
            raise ArtifactError(
                f"expected weights of code version {manifest.code_version} in {folder / artifact.WEIGHTS}, "
                f"got others: {error}; train anew with this code"
            ) from None
        model.blend = load_blend(folder, manifest, model.context)
        model.to(device).eval()
        if model.device.type == "cpu":
            model._kernel = ScoreKernel(model.panther, model.head)
        return model

    def train(self, mode: bool = True) -> PantherModel:
        """As nn.Module.train. The score kernel holds copies of the weights, and the blend was fitted to them: both are
        dropped before the weights may change."""
        self._kernel = None
        if mode:
            self.blend = None
        return super().train(mode)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.panther.start_D.device

    @torch.inference_mode()
    def encode(
        self, codes: NDArray[np.uint64], length: NDArray[np.int32], profile: NDArray[np.uint8]
    ) -> EncodeResponse:
        """Outputs after the newest event of each window, computed in full: codes [N, <= L], length [N] >= 1."""
        cached = np.empty((len(codes), cached_width(self.config)), np.float32)
        expected = np.empty((len(codes), EXPECTED), np.uint64)
        table = self.panther.token_table()
        for at in chunks(length.astype(np.int64), POSITIONS):
            part = as_tensor(codes[at][:, : int(length[at].max())], self.device)
            last_B = self._tensor(length[at]).long() - 1
            h_BD = self.panther.newest(part, self._tensor(profile[at]), last_B)
            pooled_BTP = self.head.text.pooled(self.head.text.every(part))
            outputs, likely = self.outputs(h_BD, pooled_BTP[torch.arange(len(at), device=self.device), last_B], table)
            cached[at], expected[at] = outputs.cpu().numpy(), _unsigned(likely)
        return EncodeResponse(cached, expected)

    @torch.inference_mode()
    def encode_history(self, history: History, known: Ints | None = None, wanted: Ints | None = None) -> EncodedHistory:
        """What `encode` gives after every kept event of `history`, to 1e-5; one forward yields many events' outputs.

        `known`: see bulk.plan; outputs before the history are left undefined. `wanted`: places that count, all if None.
        """
        encoded = EncodedHistory.empty(history, cached_width(self.config), wanted)
        before, codes = encoded.wanted_before(), encoded.codes
        windows, table = plan(history, self.config.length, known), self.panther.token_table()
        windows = windows.take(np.flatnonzero(before[windows.first] < before[windows.end]))
        positions = _POSITIONS_CPU if self.device.type == "cpu" else POSITIONS
        for index in chunks(windows.end - windows.begin, positions, windows.first - windows.begin):
            w = windows.take(index)
            part = as_tensor(padded(codes, w.begin, w.end), self.device)
            start = int((w.first - w.begin).min())  # outputs before this position do not count in any window
            # bulk.plan cuts windows where the profile changes: the newest event's profile holds for all that count
            h_BSD = self.panther.since(part, self._tensor(history.profile[history.order[w.end - 1]]), start)
            low = max(0, start - self.head.text.span)  # earlier events are in no pooled text window
            pooled_BSP = self.head.text.pooled(self.head.text.every(part[:, low:]))[:, start - low :]
            place = w.begin[:, None] + np.arange(start, part.shape[1])
            counts = (place >= w.first[:, None]) & (place < w.end[:, None])
            mask = self._tensor(counts)
            outputs, likely = self.outputs(h_BSD[mask], pooled_BSP[mask], table)
            encoded.put(place[counts], outputs.cpu().numpy(), _unsigned(likely))
        return encoded

    @torch.inference_mode()
    def score(self, request: NewEvents) -> ScoreResponse:
        """Score new events against the cached outputs of their users."""
        if self._kernel is not None:
            cold = request.history_len == 0
            known = unpack(self._tensor(request.cached), self.config)
            if cold.any():
                known = self.with_cold(known, self._tensor(cold), self._tensor(request.profile))
            return self._kernel.score(request, known.pack().numpy(), self.blend)
        delta, dense, e, pooled, _ = self._head_inputs(request)
        parts = (torch.sigmoid(self.logit(dense, e, pooled)), delta.surprise_BA, delta.log_p_B, delta.z_B)
        return ScoreResponse(*(part.float().cpu().numpy() for part in parts))

    def warm_up(self, kind: type[ScoreRequest] | type[ExplainRequest]) -> None:
        """Answer two rows, one of a user without a history, so that compiling does not delay the first request."""
        features, cached = np.zeros((2, WIDTH), np.float32), np.zeros((2, cached_width(self.config)), np.float32)
        codes, profile = np.ones((2, RECENT), np.uint64), np.zeros((2, PROFILE_FIELDS), np.uint8)
        events: Request[Any] = kind(features, codes[:, 0], codes, profile, cached, np.arange(2, dtype=np.int32))
        self.answer(events)

    def answer(self, request: Request[R]) -> R:
        """The answer to a request of any class, by the method of its step."""
        answer: Any
        if isinstance(request, EncodeRequest):
            answer = self.encode(request.codes, request.length, request.profile)
        elif isinstance(request, ScoreRequest):
            answer = self.score(request)
        else:
            assert isinstance(request, ExplainRequest)
            answer = self.explain(request)
        return cast(R, answer)

    @torch.inference_mode()
    def explain(self, request: NewEvents) -> ExplainResponse:
        """Terms of the logit that `score` computes for each row (panther_core.model.explain)."""
        _, dense, e, pooled, h = self._head_inputs(request)
        unknown = self.panther.start(torch.zeros(1, PROFILE_FIELDS, dtype=torch.uint8, device=self.device))
        parts = explain(self.logit, self.head.mean, dense, e, pooled, self.panther.user_embedding(unknown)[0])
        number, cosine = nearest_prototypes(self.panther, h)
        terms = (part.float().cpu().numpy() for part in (*parts, cosine))
        contribution, base, logit, similarity = terms
        return ExplainResponse(contribution, base, logit, number.cpu().numpy().astype(np.uint16), similarity)

    def logit(self, dense_BX: Tensor, e_BU: Tensor, pooled_BP: Tensor) -> Tensor:
        """Calibrated fraud logits [B] of the served head; inputs as FraudHead.logit takes them."""
        if self.blend is None:
            return self.head.calibrated(dense_BX, e_BU, pooled_BP)
        logit = self.head.logit(dense_BX, e_BU, pooled_BP)
        dcn_B, dense, e = (part.detach().cpu().numpy() for part in (logit.double(), dense_BX, e_BU))
        return torch.from_numpy(self.blend.logit(dcn_B, dense, e)).to(logit.device)

    def _head_inputs(self, request: NewEvents) -> tuple[Deviation, Tensor, Tensor, Tensor, Tensor]:
        """Delta, the three inputs of FraudHead.logit, and h before the event, of each row."""
        known = unpack(self._tensor(request.cached), self.config)
        cold = self._tensor(request.history_len == 0)
        code = as_tensor(request.code, self.device)
        known = self.with_cold(known, cold, self._tensor(request.profile))
        delta = self.deviation(known, code)
        newest = self.head.text.newest(as_tensor(request.recent, self.device), code)
        dense = self.head.dense(self._tensor(request.features), delta, cold)
        return delta, dense, known.e_BU, torch.maximum(known.pooled_BP, newest), known.h_BD

    def deviation(self, known: Outputs, code_B: Tensor) -> Deviation:
        """Delta of new events `code_B`: how they relate to the prediction in `known`, the outputs after the event
        before."""
        parts = attributes(code_B)
        token = self.panther.tokeniser(parts)
        logit = (self.panther.query(known.h_BD) * self.panther.token_rows(token)).sum(dim=1)
        surprise = self.panther.surprise(known.h_BD, parts)
        return Deviation(logit - known.log_z_B, known.mu_B, known.sigma_B, surprise)

    def with_cold(self, known: Outputs, cold_B: Tensor, profile_B8: Tensor) -> Outputs:
        """`known` with the rows of users without a history (`cold`) replaced by the outputs that follow from the
        profile."""
        rows = cold_B.nonzero()[:, 0]
        if not len(rows):
            return known
        h = self.panther.start(profile_B8[rows])
        pooled = known.pooled_BP.new_zeros(len(rows), self.config.pooled)
        outputs, _ = self.outputs(h, pooled, self.panther.token_table())
        return unpack(known.pack().index_copy(0, rows, outputs), self.config)

    def outputs(self, h_ND: Tensor, pooled_NP: Tensor, table_DV: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks to cache [N, K] (panther_core.model.outputs), and codes [N, 3] of the likeliest next tokens but
        [UNK]."""
        size = table_DV.shape[1]
        log_z, square, likely = [], [], []
        for part in torch.split(self.panther.query(h_ND), max(1, _LOGITS // size)):
            statistics = token_statistics(part @ table_DV, min(EXPECTED, size - 1))
            log_z.append(statistics[0])
            square.append(statistics[1])
            top = statistics[2]
            likely.append(torch.nn.functional.pad(self.panther.tokeniser.codes[top], (0, EXPECTED - top.shape[1])))
        z = torch.cat(log_z)
        mu = torch.full_like(z, 1 / size)
        variance = torch.cat(square) / size - mu**2
        sigma = variance.clamp(min=0).sqrt()
        outputs = Outputs(h_ND, self.panther.user_embedding(h_ND), pooled_NP, z, mu, sigma)
        return outputs.pack(), torch.cat(likely)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def load_blend(folder: Path, manifest: Manifest, context: ContextHead | None) -> Blend | None:
    """The heads beside the fraud head in an artifact, None where it has none. Raises ArtifactError."""
    if artifact.BLEND not in manifest.files:
        return None
    config = artifact.read_json(folder, artifact.BLEND, BlendConfig)
    wide = WIDTH + len(SURPRISE) + 4
    columns = {BOOSTING: WIDTH, BOOSTING_PANTHER: wide + manifest.config.user_dim}
    names = [member.name for member in config.members if member.name in columns]
    try:
        if missing := [name for name in names if artifact.BOOSTED[name] not in manifest.files]:
            raise BadInput(f"expected the file {artifact.BOOSTED[missing[0]]} of the blend, got none in the manifest")
        if context is None and any(member.name == DCN_CONTEXT for member in config.members):
            raise BadInput("expected weights of the dcn-context that the blend names, got none")
        if BOOSTING_PANTHER in names and len(config.soft) != columns[BOOSTING_PANTHER]:
            raise BadInput(f"expected {columns[BOOSTING_PANTHER]} soft widths in the blend, got {len(config.soft)}")
        trees = {name: read_trees(artifact.read_text(folder, artifact.BOOSTED[name]), columns[name]) for name in names}
    except BadInput as error:
        raise ArtifactError(f"{error}, in {folder}: copy the artifact again or train anew") from None
    rules = artifact.load_rules(folder)
    return Blend(config, rules, trees, None if context is None else dcn_weights(context))


def token_statistics(logits_NV: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log of the softmax denominator [N], sum of squared probabilities [N], the `wanted` likeliest tokens [N, wanted].

    Token 0, [UNK], is never among the likeliest: it stands for many behaviours. On a CPU a kernel computes this, which
    tests compare with `plain_token_statistics`.
    """
    if logits_NV.is_cpu:
        rows = len(logits_NV)
        out = torch.empty(rows), torch.empty(rows), torch.zeros(rows, wanted, dtype=torch.int64)
        token_kernel.token_statistics(logits_NV.numpy(), *(part.numpy() for part in out))
        return out
    return plain_token_statistics(logits_NV, wanted)


def plain_token_statistics(logits_NV: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """`token_statistics` in torch operators, for any device; the reference of the kernel."""
    log_z_N = logits_NV.logsumexp(dim=1)
    square_N = (logits_NV - log_z_N[:, None]).exp_().square_().sum(dim=1)
    return log_z_N, square_N, logits_NV[:, 1:].topk(wanted, dim=1).indices + 1


def _unsigned(codes: Tensor) -> NDArray[np.uint64]:
    packed: NDArray[np.uint64] = codes.cpu().numpy().view(np.uint64)
    return packed
