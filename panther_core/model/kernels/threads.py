"""How many threads compute: those of the kernels' products, and those that work side by side, each alone.

`side_by_side` is for work that falls into independent parts, as a replay's users do. Two threads inside one operator
wait for each other at the end of every operator; where a part is some hundred small operators long, that wait, and what
is done by one thread in between, costs more than the second core brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba
import scipy.linalg.cython_blas  # noqa: F401  loads the library whose threads are set: numba would at its first product
import torch
from threadpoolctl import threadpool_limits

Part = TypeVar("Part")


def one_product_thread() -> None:
    """Let a product inside a fused kernel compute on the thread that runs the kernel, in all of this process.

    numba hands `np.dot` to SciPy's OpenBLAS, whose own threads divide even the products of 64 rows, and spin while they
    wait: a second core lost, to the other model on it for one. Kernels divide their rows themselves.
    """
    threadpool_limits(limits=1, user_api="blas")


def side_by_side(work: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """Call `work` once for each part, on as many threads as torch has; raises what the first failing part raised.

    What a part computes does not depend on the number of threads, since an operator never has more than one.
    """
    count = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=_alone) as pool:
            for done in [pool.submit(work, part) for part in parts]:
                done.result()
    finally:
        torch.set_num_threads(count)  # the matrix library has one setting for all threads


def _alone() -> None:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
