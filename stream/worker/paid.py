"""What is kept of each payment until its label comes: the merchant, and how unusual the payment was for its payer.

A label names its transaction and its user, and may come weeks later. Of an id that a user has used for two payments
nobody knows which one is meant: such a payment is kept without a merchant. One small value a payment lies beside the
users' states, in the store and on the changelog, under a key that no user id can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panther_core.data.events import Label
from panther_core.data.schema import hash64

PREFIX = b"\0paid"
#: fixed part of a value, before the merchant's id; `n` stands where a state counts its events, so that a restore keeps
#: the value that knows the newest label
PAID = np.dtype(
    [
        ("label_ms", "<i8"),
        ("label", "i1"),  # -1: none is known
        ("standing", "i1"),  # of its source (panther_core.data.events.standing)
        ("spare", "V4"),
        ("n", "<i8"),  # labels that changed it
        ("label_at", "<i8"),  # offset of the newest of them
        ("paid_ms", "<i8"),
        ("received_ms", "<i8"),
        ("ratio", "<f4"),
    ]
)


class Paid(NamedTuple):
    """One payment as it is kept."""

    row: NDArray[np.void]  # PAID [1]
    merchant_id: str

    @property
    def value(self) -> bytes:
        """The stored bytes."""
        return self.row.tobytes() + self.merchant_id.encode()


def paid_pairs(
    keys: Sequence[bytes],
    merchants: Sequence[str],
    paid_ms: NDArray[np.int64],
    received_ms: NDArray[np.int64],
    ratio: NDArray[np.float32],
    before: Sequence[bytes | None] = (),
) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of payments [N] without a label; `keys`: hashes of user and transaction, 16 bytes.

    `before` [N]: what is kept under these keys. It stays as it is where it is of this very payment, which a crash hands
    out again. Of an id that was used before for another payment nobody knows which one a label means; what was told of
    the first one stays told.
    """
    rows = np.zeros(len(keys), PAID)
    rows["label"], rows["label_at"] = -1, -1
    again = {i: read_paid(value) for i, value in enumerate(before) if value is not None}
    for i, paid in again.items():
        for name in ("label", "label_ms", "label_at", "standing"):
            rows[name][i] = paid.row[name][0]
        rows["n"][i] = paid.row["n"][0] + 1
    rows["paid_ms"], rows["received_ms"], rows["ratio"] = paid_ms, received_ms, ratio
    whole, size = rows.tobytes(), PAID.itemsize
    for i, (key, merchant) in enumerate(zip(keys, merchants, strict=True)):
        if i in again and (again[i].merchant_id, int(again[i].row["paid_ms"][0])) == (merchant, int(paid_ms[i])):
            yield PREFIX + key, again[i].value
        else:
            yield PREFIX + key, whole[i * size : (i + 1) * size] + (b"" if i in again else merchant.encode())


def key_of(label: Label) -> bytes:
    """The key of the payment that a label is about."""
    pair = hash64(label.user_id), hash64(label.transaction_id)
    return PREFIX + b"".join(part.to_bytes(8, "little") for part in pair)


def read_paid(value: bytes) -> Paid:
    """A stored value."""
    return Paid(np.frombuffer(value, PAID, 1).copy(), value[PAID.itemsize :].decode())
