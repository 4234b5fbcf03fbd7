import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cut_tree, linkage

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.cosine_heads import CosineSettings
from sslpipe.nets.heads import InstanceSettings, LinearSettings, PrototypeSettings
from sslpipe.nets.levels import TREE, groups_at, merge_to_level, save_tree, summed
from sslpipe.nets.merged import MergedHead, MergedSettings
from sslpipe.nets.model_card import card_for
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.propagation_head import PropagationSettings
from sslpipe.nets.unit_heads import CentroidSettings, ConsensusSettings

INFO = StoreInfo(size=8, channels=1, mean=(0.3,), std=(0.4,), train=9, held_out=1, test=0, protocol="split",
                 fingerprint="0" * 64)  # fmt: skip
CLUSTERS = 7
HEADS = [
    LinearSettings(outputs=CLUSTERS),
    MergedSettings(groups=(2, 0, 1, 2, 6, 3, 4, 5, 6)),
    ConsensusSettings(outputs=CLUSTERS, heads=3, unit_features=True),
    CentroidSettings(outputs=CLUSTERS, components=4),
    CosineSettings(outputs=CLUSTERS, hidden=8, embedding=4),
    PrototypeSettings(prototypes=CLUSTERS, hidden=8, outputs=4),
    InstanceSettings(classes=CLUSTERS),
    PropagationSettings(answer="probe", classes=CLUSTERS, images=None, components=None),
]


def draw_tree(seed, leaves):
    return linkage(np.random.default_rng(seed).normal(size=(leaves, 3)), "average")


def model(head, *, stage="cluster", classes=()):
    network = Network(BackboneSettings(name="tiny_resnet"), head, mean=(0.3,), std=(0.4,)).eval()
    return network, card_for(stage, INFO, {}, parent=None, classes=classes)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 30))
def test_every_level_has_its_number_of_groups_and_lies_within_the_next_one(seed, leaves):
    tree, finer = draw_tree(seed, leaves), None
    cuts = cut_tree(tree)
    for groups in range(leaves, 0, -1):
        found = groups_at(tree, groups)
        assert list(dict.fromkeys(found)) == list(range(groups))  # numbered by their first leaf
        theirs = cuts[:, leaves - groups]
        assert len(set(zip(found, theirs.tolist(), strict=True))) == groups
        if finer is not None:
            assert len(set(zip(finer, found, strict=True))) == groups + 1
        finer = found


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_a_group_s_probability_is_the_sum_of_its_parts_for_every_head(tmp_path, head):
    tree, images = draw_tree(0, CLUSTERS), torch.rand(5, 1, 8, 8)
    save_tree(tmp_path, tree)
    network, card = model(head)
    with torch.no_grad():
        own = network(images).softmax(dim=1)
        merged = merge_to_level(network, card, tmp_path, 3, "--groups")
        found = network(images).softmax(dim=1)
    assert merged == groups_at(tree, 3)
    expected = torch.stack([own[:, [i for i, to in enumerate(merged) if to == g]].sum(dim=1) for g in range(3)], dim=1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5))
    np.testing.assert_allclose(summed(own.numpy(), merged), expected.numpy(), rtol=1e-5)
    assert isinstance(network.head, MergedHead)
    assert not isinstance(network.head.linear, MergedHead)


@pytest.mark.parametrize("groups", [None, CLUSTERS])
def test_all_groups_are_the_model_s_own(tmp_path, groups):
    save_tree(tmp_path, draw_tree(0, CLUSTERS))
    network, card = model(HEADS[0])
    head = network.head
    assert merge_to_level(network, card, tmp_path, groups, "--groups") is None
    assert network.head is head
    array = np.eye(2, dtype=np.float32)
    assert summed(array, None) is array


@pytest.mark.parametrize(
    ("groups", "options", "found"),
    [
        (1, {}, r"^--groups: 1 found, expected 2 to 7, the number of clusters of .*model$"),
        (8, {}, r"^--groups: 8 found, expected 2 to 7, the number of clusters of .*model$"),
        (3, {"stage": "semisup", "classes": ("a",) * 7}, r"^--groups: .*model predicts classes, expected clusters"),
        (3, {"stage": "pretrain"}, r"^--groups: .*model predicts neither clusters nor classes, expected clusters"),
        (3, {}, r"^--groups: .*model/merges.npy does not exist, .*; run the stage 'cluster' again$"),
    ],
)
def test_what_cannot_be_merged_is_refused(tmp_path, groups, options, found):
    network, card = model(HEADS[0], **options)
    with pytest.raises(UserError, match=found):
        merge_to_level(network, card, tmp_path / "model", groups, "--groups")


@pytest.mark.parametrize("what", ["rows", "type", "twice", "ahead", "nan", "text"])
def test_a_file_with_another_tree_is_refused(tmp_path, what):
    tree = draw_tree(0, CLUSTERS)
    if what == "rows":
        tree = tree[1:]
    elif what == "type":
        tree = tree.astype(np.float32)
    elif what == "text":
        tree = np.array(["merges"])
    elif what == "ahead":  # the first row merges the node that the second one makes
        tree[tree == CLUSTERS + 1], tree[0, 0] = tree[0, 0], CLUSTERS + 1
    else:
        tree[0, 0] = {"twice": tree[1, 0], "nan": np.nan}[what]
    save_tree(tmp_path, tree)
    network, card = model(HEADS[0])
    with pytest.raises(UserError, match=rf"{TREE}: not a merge tree of 7 clusters; run the stage 'cluster' again"):
        merge_to_level(network, card, tmp_path, 3, "--groups")
