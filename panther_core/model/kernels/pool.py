"""The model server's memory of users: a slab for each user within a byte budget; the least recently used are evicted.

A slab saves work and is never needed: a request carries all events. The events and the profile that a slab was made
from are kept with it, so that a slab of other events is recognised and computed anew. They are compared themselves, not
by the hash in the request: whoever may ask for an encoding could send the hash of another user's window with events of
their choice, and that user's next request would continue from them.

Shapes: U slots, N layers, H heads, T slab positions, K head width, D width, R ring positions, P pooled features.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.data.schema import PROFILE_FIELDS
from panther_core.model.kernels.precision import DTYPES, Precision
from panther_core.model_config import ModelConfig

#: places in the ring of convolution inputs: 5 (the newest input and 4 before it), rounded up to a power of two
RING = 8


@dataclass
class PoolStats:
    """Counters since the start of the server; `bytes` is the memory of all slabs."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    evictions: int = 0
    suffix: int = 0
    bytes: int = 0


class SlabPool:
    """Arrays with a slot for as many users as the budget allows. A user keeps the slot until another one needs it."""

    def __init__(
        self,
        config: ModelConfig,
        outputs: int,
        budget_bytes: int,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
    ) -> None:
        """`outputs`: K, floats cached for a user; kept on the CPU to answer a repeated request. `device`: of the slabs.

        Raises BadInput when not one slab fits into the budget.
        """
        positions = config.length + (config.profile == "first")
        width = config.d // config.heads
        self.precision, self.dtype = precision, DTYPES[precision]
        slab = 2 * config.layers * positions * config.d * self.dtype.itemsize
        rest = 4 * (config.layers * RING * config.d + config.length * config.pooled + outputs) + 8 + 24
        rest += 8 * config.length + PROFILE_FIELDS
        self.slot_bytes = slab + rest
        self.capacity = budget_bytes // self.slot_bytes
        if not self.capacity:
            raise BadInput(
                f"expected a cache budget of at least {self.slot_bytes} bytes (one user of this model), "
                f"got {budget_bytes}: raise PANTHER_CACHE_BYTES"
            )
        shape = (self.capacity, config.heads, positions, width)
        self.keys = [torch.empty(shape, dtype=self.dtype, device=device) for _ in range(config.layers)]
        self.values = [torch.empty(shape, dtype=self.dtype, device=device) for _ in range(config.layers)]
        self.ring_NURD = torch.zeros(config.layers, self.capacity, RING, config.d, device=device)
        self.active_UTP = torch.empty(self.capacity, config.length, config.pooled, device=device)
        self.cached = np.empty((self.capacity, outputs), np.float32)
        self.expected = np.empty((self.capacity, 3), np.uint64)
        self.codes_UL = np.zeros((self.capacity, config.length), np.uint64)
        self.profile_U8 = np.zeros((self.capacity, PROFILE_FIELDS), np.uint8)
        self.length = np.zeros(self.capacity, np.int64)  # events in the slab; 0: the slab holds nothing
        self.stats = PoolStats(bytes=self.capacity * self.slot_bytes)
        self._slot: OrderedDict[int, int] = OrderedDict()  # user -> slot, least recently used first
        self._free = list(range(self.capacity - 1, -1, -1))

    def slots(self, users: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Slot of each user, at most `capacity` different ones; new users take the slots of the least recently used."""
        out = np.empty(len(users), np.int64)
        missing = []
        for i, user in enumerate(users.tolist()):
            slot = self._slot.get(user)
            if slot is None:
                missing.append(i)
                continue
            self._slot.move_to_end(user)
            out[i] = slot
        for i in missing:
            if self._free:
                slot = self._free.pop()
            else:
                _, slot = self._slot.popitem(last=False)
                self.stats.evictions += 1
            self._slot[int(users[i])] = slot
            self.length[slot] = 0
            out[i] = slot
        return out

    def forget(self) -> None:
        """Empty the pool and its counters; the arrays stay allocated."""
        self._slot.clear()
        self._free = list(range(self.capacity - 1, -1, -1))
        self.length[:] = 0
        self.stats = PoolStats(bytes=self.stats.bytes)

    def arrays(self) -> list[tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.float32]]]:
        """Keys, values and ring of each layer as numpy arrays for the CPU kernels; 16-bit types as their bits."""
        bits = self.dtype if self.dtype == torch.float32 else torch.uint16
        return [
            (keys.view(bits).numpy(), values.view(bits).numpy(), ring.numpy())
            for keys, values, ring in zip(self.keys, self.values, self.ring_NURD, strict=True)
        ]
