"""Levels of a model's groups: its merge tree, in a file beside it, and the model with fewer groups.

The tree is a linkage matrix as scipy has it, float64 [K - 1, 4]: row i merges the nodes in its first two columns into
node K + i, and nodes 0 to K - 1 are the model's own groups. A level of G groups is what the first K - G rows make.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array, write_array
from sslpipe.nets.heads import InstanceHead
from sslpipe.nets.merged import MergedHead, MergedSettings
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.model_file import outputs_of
from sslpipe.nets.network import Network

TREE = "merges.npy"


def save_tree(folder: Path, tree: NDArray[np.float64]) -> None:
    """Write the merge tree of the model in a folder; raises UserError if the file cannot be written."""
    write_array(folder / TREE, tree)


def clusters_of(network: Network) -> int:
    """Return the number of outputs of a network that predicts clusters."""
    outputs = outputs_of(getattr(network.head, "settings", None))
    assert outputs is not None
    return outputs


def groups_at(tree: NDArray[np.float64], groups: int) -> list[int]:
    """Return the group of each leaf at the level of so many groups, 1 to K; groups are numbered by their first leaf."""
    leaves = len(tree) + 1
    top = list(range(2 * leaves - 1))
    for made in reversed(range(leaves - groups)):  # from the last merge down, so that each node's top is known
        for part in tree[made, :2].astype(int):
            top[part] = top[leaves + made]
    number = {node: i for i, node in enumerate(dict.fromkeys(top[:leaves]))}
    return [number[node] for node in top[:leaves]]


def merge_to_level(
    network: Network, card: ModelCard, folder: Path, groups: int | None, where: str
) -> Sequence[int] | None:
    """Merge the outputs of a network to so many groups; return the group of each of its own, None if nothing changes.

    The probability of a group is the sum of its parts' probabilities. network: that of `folder`, with this card; its
    head is replaced. groups: None: all of its own. where: the setting or option that names the number. Raises UserError
    for a model that predicts no clusters or has no merge tree, and for a number outside 2 to the model's own.
    """
    if groups is None:
        return None
    if not card.predicts_clusters:
        found = "classes" if card.classes else "neither clusters nor classes"
        raise UserError(f"{where}: {folder} predicts {found}, expected clusters, which alone are merged; leave it out")
    own = clusters_of(network)
    if not 2 <= groups <= own:
        raise UserError(f"{where}: {groups} found, expected 2 to {own}, the number of clusters of {folder}")
    tree = _read_tree(folder, own, card.stage, where)
    if groups == own:
        return None
    merged, head = groups_at(tree, groups), network.head
    inner: nn.Module = head.classifier if isinstance(head, InstanceHead) else head
    of_outputs = merged
    if isinstance(head, MergedHead):
        inner, of_outputs = head.linear, [merged[group] for group in head.settings.groups]
    network.head = MergedHead(inner, MergedSettings(groups=tuple(of_outputs))).to(network.mean.device)
    return merged


def summed(probability: NDArray[np.float32], merged: Sequence[int] | None) -> NDArray[np.float32]:
    """Return the probabilities [N, G] of merged groups, the sums of their parts' [N, K]; None: the same array.

    merged: [K], as `merge_to_level` returns it.
    """
    return probability if merged is None else probability @ np.eye(max(merged) + 1, dtype=np.float32)[list(merged)]


def _read_tree(folder: Path, leaves: int, stage: str, where: str) -> NDArray[np.float64]:
    """Return the tree of the model in a folder; raises UserError, which names the stage to run, for another one."""
    path = folder / TREE
    if not path.exists():
        raise UserError(f"{where}: {path} does not exist, which says how clusters merge; run the stage '{stage}' again")
    tree = read_array(path)
    if tree.shape != (leaves - 1, 4) or tree.dtype != np.float64 or not _is_tree(tree):
        raise UserError(f"{path}: not a merge tree of {leaves} clusters; run the stage '{stage}' again")
    return tree


def _is_tree(tree: NDArray[np.float64]) -> bool:
    """Return whether each row merges two nodes that exist, and each node but the last is merged once."""
    nodes = tree[:, :2]
    first_made = len(tree) + 1 + np.arange(len(tree))
    return bool((np.sort(nodes, axis=None) == np.arange(2 * len(tree))).all() and (nodes < first_made[:, None]).all())
