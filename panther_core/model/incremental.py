"""Encoding with a memory of each user (a slab of the pool): a new event costs one position of transformer work.

For each user of a request one of three things is done. The slab holds exactly the window asked for: answer from it. The
slab holds the beginning of the window: append the newer events. Anything else: compute the whole window and fill the
slab. All three give what `PantherModel.encode` gives, to 1e-5 in float32.

Shapes as in panther_core.model.kernels.pool; B rows, T window positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panther_core.base.errors import BadInput
from panther_core.data.schema import PROFILE_FIELDS
from panther_core.decide.scoring import EncodeRequest, EncodeResponse
from panther_core.model.bulk import chunks
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.kernels.encode_kernel import EncodeKernel
from panther_core.model.kernels.pool import RING, SlabPool
from panther_core.model.kernels.precision import Precision
from panther_core.model.kernels.step import step_for
from panther_core.model.kernels.step_interface import Step
from panther_core.model.layers import Layer
from panther_core.model.outputs import cached_width
from panther_core.model.serving import POSITIONS, PantherModel
from panther_core.state.transition import hash_codes
from panther_core.state.waves import waves
from panther_core.state.window import RECENT

#: a slab that lacks more events than this is computed anew: one full forward is cheaper than as many single steps
MAX_SUFFIX = 16
SERVED = ("panther", "transformer")  # encoders made of panther_core.model.layers


class IncrementalEncoder:
    """`PantherModel.encode` with a memory, on the model's device. Not safe for concurrent calls."""

    def __init__(
        self,
        model: PantherModel,
        budget_bytes: int,
        precision: Precision = "float32",
        make_step: Callable[[PantherModel, SlabPool], Step] = step_for,
    ) -> None:
        """`precision`: of the slabs, and on a GPU of the matrix products too. Raises BadInput when the budget is too
        small for one user, or the model's encoder is a baseline that has no incremental step."""
        if model.config.encoder not in SERVED:
            raise BadInput(
                f"expected an encoder out of {', '.join(SERVED)} to encode incrementally, "
                f"got {model.config.encoder!r}: it is a baseline for comparison; train one of those to serve it"
            )
        self.model, self.config, self.device = model, model.config, model.device
        self.pool = SlabPool(model.config, cached_width(model.config), budget_bytes, precision, self.device)
        self.step = make_step(model, self.pool)
        self._table_DV = model.panther.token_table().detach()
        self._kernel = EncodeKernel(model.panther, model.head) if self.device.type == "cpu" else None
        self._first = int(model.config.profile == "first")

    @torch.inference_mode()
    def encode(self, request: EncodeRequest) -> EncodeResponse:
        """Outputs after the newest event of each window. Rows of one user are answered one after the other, in
        order.

        Raises BadInput for windows of another length than the model's, and for lengths beyond them.
        """
        wanted, size = (len(request.user), self.config.length), request.length
        if request.codes.shape != wanted or ((size < 1) | (size > self.config.length)).any():
            raise BadInput(
                f"expected windows {wanted} of 1 to {self.config.length} events, got {request.codes.shape} and lengths "
                f"of {size.min(initial=0)} to {size.max(initial=0)}: encode with the model that made them"
            )
        cached = np.empty((len(request.user), cached_width(self.config)), np.float32)
        expected = np.empty((len(request.user), 3), np.uint64)
        _, rows = np.unique(request.user, return_inverse=True)
        for wave in waves(rows):
            for start in range(0, len(wave), self.pool.capacity):
                part = wave[start : start + self.pool.capacity]
                slots = self._bring_up(request, part)
                cached[part], expected[part] = self.pool.cached[slots], self.pool.expected[slots]
        return EncodeResponse(cached, expected)

    def warm_up(self) -> None:
        """Encode a made-up user in full and then by one event, which compiles the kernels; empty the pool
        afterwards."""
        codes = np.zeros((1, self.config.length), np.uint64)
        codes[0, :2] = 1
        user, profile = np.ones(1, np.uint64), np.zeros((1, PROFILE_FIELDS), np.uint8)
        for length in (np.ones(1, np.int32), np.full(1, 2, np.int32)):
            self.encode(EncodeRequest(user, codes, length, hash_codes(codes, length, profile), profile))
        self.pool.forget()

    def _bring_up(self, request: EncodeRequest, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Make the slab of each row's user hold the row's window; returns the slots."""
        pool, stats = self.pool, self.pool.stats
        slots = pool.slots(request.user[rows])
        known, wanted = pool.length[slots], request.length[rows].astype(np.int64)
        new = wanted - known
        usable = (known > 0) & (new >= 0) & (new <= MAX_SUFFIX)
        codes, profile = request.codes[rows], request.profile[rows]
        beyond = np.arange(self.config.length) >= known[:, None]
        usable &= ((pool.codes_UL[slots] == codes) | beyond).all(axis=1)
        usable &= (pool.profile_U8[slots] == profile).all(axis=1)
        stats.hits += int(usable.sum())
        stats.misses += int((known == 0).sum())
        stats.stale += int((~usable & (known > 0)).sum())
        stats.suffix += int(new[usable].sum())
        fresh = np.flatnonzero(~usable)
        pool.length[slots[fresh]] = 0  # after an error below, a half-written slab counts as empty
        pool.codes_UL[slots], pool.profile_U8[slots] = codes, profile
        for part in chunks(wanted[fresh], POSITIONS):
            self._recompute(request, rows[fresh[part]], slots[fresh[part]])
        self._advance(request, rows[usable], slots[usable])
        return slots

    def _recompute(self, request: EncodeRequest, rows: NDArray[np.intp], slots: NDArray[np.int64]) -> None:
        """One full forward over the windows; keys, values, convolution inputs and activations go into the slabs."""
        model, text = self.model.panther, self.model.head.text
        slot_B, last_B = self._tensor(slots), self._tensor(request.length[rows].astype(np.int64) - 1)
        longest = int(request.length[rows].max())
        codes_BT = as_tensor(request.codes[rows][:, :longest], self.device)
        x_BTD = model.inputs(codes_BT, self._tensor(request.profile[rows]))
        x_BD = self._fill(x_BTD, slot_B, last_B + self._first)
        a_BTP = text.every(codes_BT)
        self.pool.active_UTP[slot_B, :longest] = a_BTP
        pooled_BTP = text.pooled(a_BTP)
        self._finish(request, rows, slots, x_BD, pooled_BTP[torch.arange(len(rows), device=last_B.device), last_B])

    def _fill(self, x_BTD: Tensor, slot_B: Tensor, last_B: Tensor) -> Tensor:
        """Run all layers over whole windows and fill the slabs; returns the last layer's output [B, D] at position
        `last`."""
        pool, positions = self.pool, x_BTD.shape[1]
        *early, final = (cast(Layer, layer) for layer in self.model.panther.layers)
        back_R = torch.arange(RING, device=last_B.device)
        # newest position that each place of the ring holds
        ring_BR = last_B[:, None] - (last_B[:, None] - back_R) % RING
        with self.step.computing():
            for n, layer in enumerate((*early, final)):
                u_BTD = layer.norm(x_BTD)
                if layer is not final:
                    attended, k_BHTK, v_BHTK = layer.attend(u_BTD)
                    x_BTD = layer.combine(x_BTD, attended, layer.pattern(u_BTD))
                else:
                    x_BD, k_BHTK, v_BHTK = layer.newest(x_BTD, u_BTD, last_B)
                pool.keys[n][slot_B, :, :positions] = k_BHTK.to(pool.dtype)
                pool.values[n][slot_B, :, :positions] = v_BHTK.to(pool.dtype)
                kept = u_BTD.gather(1, ring_BR.clamp(min=0)[..., None].expand(-1, -1, u_BTD.shape[2]))
                pool.ring_NURD[n][slot_B] = kept * (ring_BR >= 0)[..., None]
        return x_BD

    def _advance(self, request: EncodeRequest, rows: NDArray[np.intp], slots: NDArray[np.int64]) -> None:
        """Append the events that the slabs lack, one position at a time for all rows."""
        behind = self.pool.length[slots] < request.length[rows]
        rows, slots = rows[behind], slots[behind]
        while len(rows):
            at = self.pool.length[slots].copy()
            x_BD, pooled_BP = self._step(request, rows, slots, at)
            self.pool.length[slots] = at + 1
            done = at + 1 == request.length[rows]
            if done.any():
                keep = self._tensor(np.flatnonzero(done))
                self._finish(request, rows[done], slots[done], x_BD[keep], pooled_BP[keep])
            rows, slots = rows[~done], slots[~done]

    def _step(
        self, request: EncodeRequest, rows: NDArray[np.intp], slots: NDArray[np.int64], at: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Append one event to each row's slab, at window position `at`. Returns the last layer's output [B, D] and the
        pooled text features [B, P] after that event."""
        model, text = self.model.panther, self.model.head.text
        back = at[:, None] + np.arange(-RECENT, 1)
        codes = np.where(back >= 0, request.codes[rows[:, None], np.maximum(back, 0)], np.uint64(0))
        slot_B, at_B = self._tensor(slots), self._tensor(at)
        if self._kernel is not None:
            x_BD, new_BP = map(torch.from_numpy, self._kernel.inputs(codes, at, request.profile[rows]))
        else:
            parts_B47 = attributes(as_tensor(codes, self.device))
            x_BD = model.embed_parts(parts_B47[:, -1:], at_B[:, None])[:, 0]
            if not self._first:
                x_BD = x_BD + model.profile_vector(self._tensor(request.profile[rows]))
            new_BP = text.activations_of(parts_B47)[:, 0]
        x_BD = self.step.advance(x_BD, slot_B, at_B + self._first)
        return x_BD, self.step.pooled(new_BP, slot_B, at_B)

    def _finish(
        self, request: EncodeRequest, rows: NDArray[np.intp], slots: NDArray[np.int64], x_BD: Tensor, pooled_BP: Tensor
    ) -> None:
        """Compute and keep the outputs of rows whose slabs now hold their whole windows."""
        if self._kernel is not None:
            self.pool.cached[slots], self.pool.expected[slots] = self._kernel.outputs(x_BD.numpy(), pooled_BP.numpy())
        else:
            outputs, likely = self.model.outputs(self.model.panther.norm(x_BD), pooled_BP, self._table_DV)
            self.pool.cached[slots] = outputs.cpu().numpy()
            self.pool.expected[slots] = likely.cpu().numpy().view(np.uint64)
        self.pool.length[slots] = request.length[rows]

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)
