"""Packed codes of events (schema.CODE) as tensors: their attributes, and their token ids."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panther_core.data.schema import CODE, AttributeSchema
from panther_core.data.vocabulary import Vocabulary

#: the attributes that make up a token; ATTRIBUTES adds those that do not; both in the order of CODE
TOKEN_ATTRIBUTES = ("amount", "channel", "category", "risk")
ATTRIBUTES = (*TOKEN_ATTRIBUTES, "gap", "hour", "flags")


def as_tensor(codes: NDArray[np.uint64], device: torch.device) -> Tensor:
    """uint64 codes as int64 bits: torch has few uint64 operations."""
    return torch.from_numpy(np.ascontiguousarray(codes).view(np.int64)).to(device)


def attributes(codes: Tensor) -> Tensor:
    """Attribute codes [..., 7] (ATTRIBUTES order) of packed codes [...]."""
    shifts, masks = as_words()
    parts = [(codes >> shift) & mask for shift, mask in zip(shifts.tolist(), masks.tolist(), strict=True)]
    return torch.stack(parts, dim=-1)


def as_words() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """For each attribute: how far to shift a packed code to the right, and the mask to apply after the shift."""
    fields = [CODE.fields[name] for name in ATTRIBUTES]  # type: ignore[index]
    shifts = np.array([8 * field[1] for field in fields], np.uint64)
    return shifts, np.array([(1 << (8 * field[0].itemsize)) - 1 for field in fields], np.uint64)


def sizes(schema: AttributeSchema) -> list[int]:
    """Number of codes of each attribute, in the order of ATTRIBUTES."""
    return [schema.sizes[name] for name in ATTRIBUTES]


class Tokeniser(nn.Module):
    """`Vocabulary.tokens` in torch, on the model's device. Tests compare the two."""

    keys: Tensor
    codes: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.radix = vocabulary.radix
        self.size = vocabulary.size
        # the sentinel keeps the index of the look-up in range when the vocabulary is empty or the number is above all
        # keys
        keys = torch.tensor([*vocabulary.keys, torch.iinfo(torch.int64).max], dtype=torch.int64)
        self.register_buffer("keys", keys, persistent=False)
        codes = as_tensor(vocabulary.codes().view(np.uint64), torch.device("cpu"))
        self.register_buffer("codes", codes, persistent=False)

    def forward(self, attributes_: Tensor) -> Tensor:
        """Token ids [...] of attribute codes [..., 7]."""
        number = attributes_[..., 0]
        for i, size in enumerate(self.radix[1:], 1):
            number = number * size + attributes_[..., i]
        at = torch.searchsorted(self.keys, number.contiguous())
        return torch.where(self.keys[at] == number, at + 1, 0)
