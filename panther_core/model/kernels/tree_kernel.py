"""CPU kernel of gradient boosting: the sum of many regression trees over a micro-batch.

A split asks whether a column is at most a threshold. PANTHER's columns come from sums whose order differs between the
stream and a replay, and so differ in the last digits: at a hard threshold such a digit would move a score by a whole
leaf. Columns with a `soft` width turn over gradually within that distance of a threshold: both sides count there, with
shares that move linearly from one to the other. Columns of width 0 split as LightGBM splits them.

Shapes: R rows, F columns, T trees, N inner nodes of all trees, E leaves of all trees.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panther_core.model.kernels.arithmetic import F32, I64, jit

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

#: entries of the stack of open branches; a tree has at most so many levels
DEEPEST = 64


class Trees(NamedTuple):
    """Flat arrays of T trees. A child of 0 or more is a node of the same tree, a negative one is leaf ~child."""

    column_N: I32
    threshold_N: F64
    left_N: I32
    right_N: I32
    value_E: F64
    first_node_T: I64
    first_leaf_T: I64
    nodes_T: I64
    """Inner nodes of each tree; a tree of 0 is one leaf."""


@jit
def tree_logits(x_RF: F32, soft_F: F64, trees: Trees, out_R: F64) -> None:
    """Add the sum of all trees to `out`. Tree by tree, so that a tree's nodes stay in the cache for all rows."""
    open_node, open_share = np.empty(DEEPEST, np.int64), np.empty(DEEPEST, np.float64)
    for tree in range(len(trees.nodes_T)):
        node0, leaf0 = trees.first_node_T[tree], trees.first_leaf_T[tree]
        if trees.nodes_T[tree] == 0:
            out_R += trees.value_E[leaf0]
            continue
        for r in range(len(x_RF)):
            total = 0.0
            open_node[0], open_share[0], depth = 0, 1.0, 1
            while depth:
                depth -= 1
                node, share = open_node[depth], open_share[depth]
                while node >= 0:
                    at = node0 + node
                    column = trees.column_N[at]
                    beyond, width = np.float64(x_RF[r, column]) - trees.threshold_N[at], soft_F[column]
                    if beyond <= -width:
                        node = np.int64(trees.left_N[at])
                    elif beyond >= width and beyond > 0:
                        node = np.int64(trees.right_N[at])
                    else:
                        right = 0.5 + 0.5 * beyond / width
                        if depth < DEEPEST:
                            open_node[depth], open_share[depth] = np.int64(trees.right_N[at]), share * right
                            depth += 1
                        node, share = np.int64(trees.left_N[at]), share * (1.0 - right)
                total += share * trees.value_E[leaf0 + ~node]
            out_R[r] += total


def sum_of(trees: Trees, x_RF: F32, soft_F: F64) -> Any:
    """The sum of all trees [R]."""
    out = np.zeros(len(x_RF))
    tree_logits(np.ascontiguousarray(x_RF, np.float32), soft_F, trees, out)
    return out
