"""How many threads compute: one for a matrix product inside a kernel, and one for each of several independent parts.

`side_by_side` is for work that falls into independent parts, as a replay's users do. Two threads inside one operator
wait for each other at the end of every operator. Where a part is some hundred small operators long, this wait, and the
work that one thread does alone between operators, costs more time than the second core saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba
import scipy.linalg.cython_blas  # noqa: F401  loads the OpenBLAS of numba's products, so that its threads can be set
import torch
from threadpoolctl import threadpool_limits

Part = TypeVar("Part")


def one_product_thread() -> None:
    """Let a product inside a kernel compute on the thread that runs the kernel, in all of this process.

    numba hands `np.dot` to SciPy's OpenBLAS, whose own threads divide even the products of 64 rows, and spin while they
    wait. They would take a second core from other processes, the other model for one. Kernels divide rows themselves.
    """
    threadpool_limits(limits=1, user_api="blas")


def side_by_side(work: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """Call `work` once for each part, on as many threads as torch has; raises the error of the first part that fails.

    The result of a part does not depend on the number of threads, because an operator has one thread only.
    """
    count = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=_alone) as pool:
            for done in [pool.submit(work, part) for part in parts]:
                done.result()
    finally:
        # the matrix library has one setting for the whole process, which _alone has changed
        torch.set_num_threads(count)


def _alone() -> None:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
