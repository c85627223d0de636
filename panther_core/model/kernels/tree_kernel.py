"""CPU kernel of gradient boosting: the sum of many regression trees over a micro-batch.

A split asks whether a column is at most a threshold. PANTHER's columns come from sums whose order differs between the
stream and a replay, and so differ in the last digits: at a hard threshold such a digit would move a score by a whole
leaf. Columns with a `soft` width turn over gradually within that distance of a threshold: both sides count there, with
shares that move linearly from one to the other. Columns of width 0 split as LightGBM splits them.

A tree is not walked down, since a processor cannot guess the turns: every node of a tree is asked of all rows at once,
and takes away the leaves that a row cannot reach any more; the first that is left is the row's (QuickScorer, Lucchese
et al., SIGIR 2015). Rows near a soft threshold on their way, which are few, walk.

Shapes: R rows, F columns, T trees, N inner nodes of all trees, E leaves of all trees.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panther_core.model.kernels.arithmetic import F32, I64, U64, jit

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

#: leaves of a tree at most: one bit each
MOST_LEAVES = 64
_ALL, _NONE, _ONE, _SHIFT = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0), np.uint64(1), np.uint64(58)
#: number of the only bit that is set in a word: its product's topmost six bits are different for each (de Bruijn)
_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_NUMBER_64 = np.zeros(64, np.int64)
_NUMBER_64[(_BRUIJN << np.arange(64, dtype=np.uint64)) >> _SHIFT] = np.arange(64)


class Trees(NamedTuple):
    """Flat arrays of T trees. A child of 0 or more is a node of the same tree, a negative one is leaf ~child. Leaves
    are numbered from the left."""

    column_N: I32
    threshold_N: F64
    left_N: I32
    right_N: I32
    beyond_N: U64
    """Bits of the leaves that can still be reached where the column is beyond the threshold."""
    value_E: F64
    above_E: U64
    """Bits of the nodes on the way to each leaf."""
    first_node_T: I64
    first_leaf_T: I64
    nodes_T: I64
    """Inner nodes of each tree; a tree of 0 is one leaf."""


@jit
def tree_logits(x_FR: F32, soft_F: F64, trees: Trees, out_R: F64) -> None:
    """Add the sum of all trees to `out`, tree by tree."""
    rows = x_FR.shape[1]
    reached_R, near_R = np.empty(rows, np.uint64), np.empty(rows, np.uint64)  # bits of leaves, of nodes
    for tree in range(len(trees.nodes_T)):
        node0, leaf0 = trees.first_node_T[tree], trees.first_leaf_T[tree]
        reached_R[:], near_R[:] = _ALL, _NONE
        for at in range(node0, node0 + trees.nodes_T[tree]):
            x_R, threshold, beyond = x_FR[trees.column_N[at]], trees.threshold_N[at], trees.beyond_N[at]
            for r in range(rows):
                reached_R[r] &= beyond if x_R[r] > threshold else _ALL
            width = soft_F[trees.column_N[at]]
            if width > 0:
                this = _ONE << np.uint64(at - node0)
                for r in range(rows):
                    near_R[r] |= this if abs(x_R[r] - threshold) < width else _NONE
        for r in range(rows):
            lowest = reached_R[r] & (~reached_R[r] + _ONE)
            leaf = leaf0 + _NUMBER_64[(lowest * _BRUIJN) >> _SHIFT]
            if near_R[r] & trees.above_E[leaf]:
                out_R[r] += _walked(x_FR[:, r], soft_F, trees, tree)
            else:
                out_R[r] += trees.value_E[leaf]


@jit
def _walked(x_F: F32, soft_F: F64, trees: Trees, tree: int) -> float:
    """What a tree gives for one row, both sides of a soft threshold with their shares."""
    node0, leaf0 = trees.first_node_T[tree], trees.first_leaf_T[tree]
    open_node, open_share = np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.float64)
    open_node[0], open_share[0], depth, total = 0, 1.0, 1, 0.0
    while depth:
        depth -= 1
        node, share = open_node[depth], open_share[depth]
        while node >= 0:
            at = node0 + node
            column = trees.column_N[at]
            beyond, width = np.float64(x_F[column]) - trees.threshold_N[at], soft_F[column]
            if beyond <= -width:
                node = np.int64(trees.left_N[at])
            elif beyond >= width and beyond > 0:
                node = np.int64(trees.right_N[at])
            else:
                right = 0.5 + 0.5 * beyond / width
                open_node[depth], open_share[depth] = np.int64(trees.right_N[at]), share * right
                depth += 1
                node, share = np.int64(trees.left_N[at]), share * (1.0 - right)
        total += share * trees.value_E[leaf0 + ~node]
    return total


def sum_of(trees: Trees, x_RF: F32, soft_F: F64) -> Any:
    """The sum of all trees [R]."""
    out = np.zeros(len(x_RF))
    tree_logits(np.ascontiguousarray(x_RF.T, np.float32), soft_F, trees, out)
    return out
