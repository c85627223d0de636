"""LightGBM's text format, read as foreign: flat arrays of trees for panther_core.model.kernels.tree_kernel.

Read without LightGBM, whose own reader trusts its input, and which a server then does not need. Of the format this
reads binary logistic objectives over numbers, without categorical splits, linear leaves or missing values: what
trainer.heads.boosting writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.model.kernels.tree_kernel import MOST_LEAVES, Trees

_LARGEST = 20_000  # trees
_ALL_BITS = (1 << MOST_LEAVES) - 1
_PLAIN = {0, 2}  # decision_type: a number at most the threshold, no missing values; 2: whose default is left


def read_trees(text: str, columns: int) -> Trees:
    """The trees of a model over `columns` columns. Raises BadInput for text that is no such model."""
    head, *parts = text.split("\nTree=")
    stated = _fields(head)
    if not head.startswith("tree\n") or not stated.get("objective", "").startswith("binary sigmoid:1"):
        raise BadInput("expected a LightGBM model of objective `binary sigmoid:1`, got other text")
    if stated.get("max_feature_idx") != str(columns - 1) or not 1 <= len(parts) <= _LARGEST:
        raise BadInput(
            f"expected 1 to {_LARGEST} trees over {columns} columns, got {len(parts)} over columns up to number "
            f"{stated.get('max_feature_idx', 'none')[:9]}"
        )
    return _joined([_tree(part.split("\n\n", 1)[0], number, columns) for number, part in enumerate(parts)])


def _tree(text: str, number: int, columns: int) -> dict[str, NDArray[Any]]:
    found = _fields(text.partition("\n")[2])
    try:
        leaves = int(found["num_leaves"])
        inner = leaves - 1
        if not (1 <= leaves <= MOST_LEAVES and found["num_cat"] == "0" and found.get("is_linear", "0") == "0"):
            raise ValueError("leaves that are too many, or linear, or of categories")
        tree: dict[str, NDArray[Any]] = {
            "value": _numbers(found["leaf_value"], np.float64, leaves),
            "column": _numbers(found.get("split_feature", "") if inner else "", np.int32, inner),
            "threshold": _numbers(found.get("threshold", "") if inner else "", np.float64, inner),
            "left": _numbers(found.get("left_child", "") if inner else "", np.int32, inner),
            "right": _numbers(found.get("right_child", "") if inner else "", np.int32, inner),
        }
        kinds = _numbers(found.get("decision_type", "") if inner else "", np.int32, inner)
    except (KeyError, ValueError, OverflowError) as error:
        raise BadInput(f"expected tree {number} in LightGBM's text format, got another: {error!r:.80}") from None
    at, children = np.arange(inner), np.concatenate([tree["left"], tree["right"]])
    # a child comes after its parent and has no other, so every way ends at a leaf, and every leaf has one way
    if not ((children < 0) | (children > np.tile(at, 2))).all() or {*children.tolist()} != {*range(-leaves, inner)} - (
        {0} if inner else {-1, 0}
    ):
        raise BadInput(f"expected each node and leaf of tree {number} under one node before it, got others")
    if not (set(kinds.tolist()) <= _PLAIN and ((tree["column"] >= 0) & (tree["column"] < columns)).all()):
        raise BadInput(f"expected splits of {columns} columns of numbers in tree {number}, got others")
    if not (np.isfinite(tree["value"]).all() and np.isfinite(tree["threshold"]).all()):
        raise BadInput(f"expected finite numbers in tree {number}, got others")
    return _from_the_left(tree)


def _from_the_left(tree: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tree with leaves numbered from the left, `beyond` and `above`."""
    inner = len(tree["column"])
    left, right = tree["left"].tolist(), tree["right"].tolist()
    size = [1] * inner + [1] * len(tree["value"])  # leaves under each node; a leaf's, at its negative number, is 1
    for node in reversed(range(inner)):
        size[node] = size[left[node]] + size[right[node]]
    first, beyond = [0] * len(size), np.zeros(inner, np.uint64)  # number of the first leaf under each
    above = [0] * len(size)  # bits of the nodes on the way to each
    for node in range(inner):
        first[left[node]], first[right[node]] = first[node], first[node] + size[left[node]]
        above[left[node]] = above[right[node]] = above[node] | 1 << node
        beyond[node] = ~(((1 << size[left[node]]) - 1) << first[node]) & _ALL_BITS
    number = np.array(first[inner:][::-1])  # of each leaf
    value, way = np.empty_like(tree["value"]), np.zeros(len(number), np.uint64)
    value[number], way[number] = tree["value"], np.array(above[inner:][::-1], np.uint64)
    for side in ("left", "right"):
        tree[side] = np.where(tree[side] < 0, ~number[~tree[side]], tree[side]).astype(np.int32)
    return tree | {"value": value, "beyond": beyond, "above": way}


def _joined(trees: list[dict[str, NDArray[Any]]]) -> Trees:
    nodes, leaves = (np.array([len(tree[name]) for tree in trees], np.int64) for name in ("column", "value"))
    column, threshold, left, right, beyond, value, above = (
        np.concatenate([tree[name] for tree in trees])
        for name in ("column", "threshold", "left", "right", "beyond", "value", "above")
    )
    node0, leaf0 = (np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64) for counts in (nodes, leaves))
    return Trees(column, threshold, left, right, beyond, value, above, node0, leaf0, nodes)


def _fields(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


def _numbers(text: str, kind: type[Any], count: int) -> NDArray[Any]:
    words = text.split()
    if len(words) != count:
        raise ValueError(f"{len(words)} numbers in place of {count}")
    return np.array([float(word) if kind is np.float64 else int(word) for word in words], kind)
