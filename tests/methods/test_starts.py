import copy
import math
import re
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.io.errors import UserError
from sslpipe.nets.heads import (
    LinearHead,
    LinearSettings,
    ProjectionHead,
    ProjectionSettings,
    PrototypeHead,
    PrototypeSettings,
)
from sslpipe.nets.inference import infer
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.running.naming import LEAST_PROBABILITY, name_clusters, permanent_shares
from sslpipe.running.starts import start_monitors, start_network

TINY = BackboneSettings(name="tiny_resnet")


def likelihoods(probability, label, classes):
    """Logarithm of the labels' likelihood under every mapping of clusters to classes."""
    result = {}
    for mapping in permutations(range(classes)):
        total = 0.0
        for row, c in zip(probability, label, strict=True):
            total += np.log(max(row[mapping.index(c)], LEAST_PROBABILITY))
        result[mapping] = total
    return result


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 4), each=st.integers(1, 3), spread=st.floats(0.1, 3.0))
def test_the_naming_is_the_likeliest_of_all_mappings(seed, classes, each, spread):
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), each)
    probability = random.dirichlet(np.full(classes, spread), len(label)).astype(np.float32)
    naming = name_clusters(probability, label, classes)
    scores = likelihoods(probability, label, classes)
    weight = {mapping: np.exp(total - max(scores.values())) for mapping, total in scores.items()}
    taken = tuple(naming.classes.tolist())
    assert scores[taken] == pytest.approx(max(scores.values()), abs=1e-4)
    # At most 24 mappings: the sums run over all of them.
    everything = sum(weight.values())
    assert naming.probability == pytest.approx(weight[taken] / everything, rel=1e-3)
    assert 0 < naming.probability <= 1 + 1e-9
    for cluster in range(classes):
        same = sum(w for mapping, w in weight.items() if mapping[cluster] == taken[cluster])
        assert naming.cluster_probability[cluster] == pytest.approx(same / everything, rel=1e-3)
    agreement = np.mean([taken[row.argmax()] == c for row, c in zip(probability, label, strict=True)])
    assert naming.agreement == pytest.approx(agreement)


@pytest.mark.parametrize(("classes", "mappings"), [(2, 2), (3, 6), (4, 24)])
def test_labels_that_say_nothing_leave_all_mappings_alike(classes, mappings):
    probability = np.full((classes, classes), 1 / classes, np.float32)
    naming = name_clusters(probability, np.arange(classes), classes)
    assert naming.probability == pytest.approx(1 / mappings)
    np.testing.assert_allclose(naming.cluster_probability, 1 / classes)


def test_two_clusters_that_cannot_be_told_apart_share_the_doubt():
    probability = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]] * 2, np.float32)
    naming = name_clusters(probability, np.array([0, 1, 2] * 2), 3)
    assert naming.probability == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(naming.cluster_probability, [0.5, 0.5, 1.0], atol=0.01)
    assert naming.classes[2] == 2


def test_clear_clusters_are_named_and_surely():
    mapping = np.array([2, 0, 3, 1])
    label = np.array([0, 1, 2, 3] * 2)
    probability = (0.97 * np.eye(4)[np.argsort(mapping)[label]] + 0.0075).astype(np.float32)
    naming = name_clusters(probability, label, 4)
    assert np.array_equal(naming.classes, mapping)
    assert naming.agreement == 1.0
    assert naming.probability > 0.99


def saved(folder, network, info, stage):
    folder.mkdir(exist_ok=True)
    classes = tuple("0123456789") if stage == "semisup" else ()
    save_model(folder, network, card_for(stage, info, {}, parent=None, classes=classes))
    return folder


@pytest.fixture
def clusters(network, labelled, info):
    """A network whose clusters are the classes, more or less, in an order of their own."""
    head = LinearHead(network.backbone.dimension, LinearSettings(outputs=10))
    features = infer(network.eval().features, labelled.images)
    centers = torch.stack([features[labelled.index[labelled.label == c]].mean(dim=0) for c in range(10)])
    centers = centers[torch.tensor([3, 0, 9, 1, 7, 2, 8, 4, 6, 5])]
    with torch.no_grad():
        head.weight.copy_(20 * centers)
        head.bias.copy_(-10 * centers.square().sum(dim=1))
    network.head = head
    return network


@pytest.mark.parametrize("stage", ["cluster", "self-label"])
def test_a_named_clusters_prediction_is_its_class(clusters, labelled, info, tmp_path, capsys, stage):
    folder = saved(tmp_path / stage, clusters, info, stage)
    with torch.no_grad():
        logits = infer(clusters.eval(), labelled.images)
    naming = name_clusters(logits[labelled.index].softmax(dim=1).numpy(), labelled.label.numpy(), 10)
    assert sorted(naming.classes) == list(range(10))
    assert not np.array_equal(naming.classes, np.arange(10))
    network = start_network(folder, TINY, info, labelled)
    assert network.training
    named = infer(copy.deepcopy(network).eval(), labelled.images)
    classes = torch.from_numpy(naming.classes)
    assert torch.equal(named.argmax(dim=1), classes[logits.argmax(dim=1)])
    torch.testing.assert_close(named[:, classes], logits)
    said = capsys.readouterr().out
    assert f"clusters matched to classes by 40 labels, {naming.agreement:.0%} of them agree" in said
    assert f"probability of this mapping {naming.probability:.0%}" in said


def test_doubtful_names_are_told(clusters, labelled, info, tmp_path, capsys):
    with torch.no_grad():  # clusters 2 and 5 can no longer be told apart
        clusters.head.weight[2] = clusters.head.weight[5]
        clusters.head.bias[2] = clusters.head.bias[5]
    start_network(saved(tmp_path / "c", clusters, info, "cluster"), TINY, info, labelled)
    doubtful = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  cluster ")]
    for cluster in (2, 5):
        line_of_it = rf"  cluster {cluster} is '\d': probability (?:\d|[1-4]\d|50)%"
        assert any(re.fullmatch(line_of_it, line) for line in doubtful)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (LinearHead(64, LinearSettings(outputs=12)), "12 clusters found"),
        (ProjectionHead(64, ProjectionSettings(hidden=8, outputs=10)), "no clusters found"),
    ],
    ids=["twelve", "projection"],
)
def test_as_many_clusters_as_classes_are_needed(network, labelled, info, tmp_path, head, found):
    network.head = head
    folder = saved(tmp_path / "c", network, info, "cluster")
    with pytest.raises(UserError, match=rf"^[^\n]*{found}, expected 10, one per class; set cluster\.clusters[^\n]*$"):
        start_network(folder, TINY, info, labelled)


def test_another_backbone_is_a_users_mistake(network, labelled, info, tmp_path):
    folder = saved(tmp_path / "p", network, info, "pretrain")
    other = replace(TINY, batch_norm_momentum=0.01)
    with pytest.raises(
        UserError,
        match=r"^[^\n]*model\.json: network\.batch_norm_momentum: 0\.1 found, expected 0\.01[^\n]*run the stage",
    ):
        start_network(folder, other, info, labelled)


def test_another_data_sets_model_is_a_users_mistake(network, labelled, info, tmp_path):
    folder = saved(tmp_path / "p", network, info, "pretrain")
    with pytest.raises(UserError, match=r"^[^\n]*data: 000000000000 found[^\n]*$"):
        start_network(folder, TINY, replace(info, fingerprint="1" * 64), labelled)


@pytest.mark.parametrize("stage", ["pretrain", "semisup"])
def test_other_starts_are_taken_as_they_are(clusters, labelled, info, tmp_path, capsys, stage):
    network = start_network(saved(tmp_path / "s", clusters, info, stage), TINY, info, labelled)
    for name, value in clusters.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert capsys.readouterr().out == ""


def test_from_scratch_is_a_new_network(labelled, info):
    torch.manual_seed(4)
    network = start_network(None, TINY, info, labelled)
    torch.manual_seed(4)
    expected = build_network(TINY, info)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in network.state_dict().items())
    assert isinstance(network.head, torch.nn.Identity)


@given(seed=st.integers(0, 1000), clusters=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_shares_of_all_mappings_are_those_of_enumeration(seed, clusters):
    score = np.random.default_rng(seed).normal(size=(clusters, clusters))
    total, shares = 0.0, np.zeros((clusters, clusters))
    for mapping in permutations(range(clusters)):
        weight = math.exp(sum(score[cluster, each] for cluster, each in enumerate(mapping)))
        total += weight
        for cluster, each in enumerate(mapping):
            shares[cluster, each] += weight
    evidence, found = permanent_shares(score)
    assert evidence == pytest.approx(total)
    assert found == pytest.approx(shares / total)


def test_clusters_that_nothing_is_known_of_are_not_sure():
    naming = name_clusters(np.full((10, 10), 0.1, dtype=np.float32), np.arange(10), 10)
    assert naming.probability == pytest.approx(1 / math.factorial(10))
    assert naming.cluster_probability == pytest.approx(np.full(10, 0.1))


def test_many_clusters_are_weighed_against_the_best_mappings():
    sure = np.full((20, 20), 0.001, dtype=np.float32)
    np.fill_diagonal(sure, 0.981)
    naming = name_clusters(sure, np.arange(20), 20)
    assert naming.classes.tolist() == list(range(20))
    assert naming.probability > 0.95


def test_the_starts_classifiers_come_along_for_the_same_classes_only(network, labelled, info, tmp_path):
    network.head = PrototypeHead(network.backbone.dimension, PrototypeSettings(prototypes=10, hidden=8, outputs=4))
    monitors = LinearMonitors(network)
    card = card_for("semisup", info, {}, parent=None, classes=labelled.names)
    save_model(tmp_path / "with", network, card, monitors)
    save_model(tmp_path / "without", network, card)
    found = start_monitors(tmp_path / "with", labelled)
    assert torch.equal(found.layers["projection_1"].weight, monitors.layers["projection_1"].weight)
    assert start_monitors(tmp_path / "without", labelled) is None
    assert start_monitors(None, labelled) is None
    assert start_monitors(tmp_path / "with", replace(labelled, names=tuple("abcdefghij"))) is None
    assert not hasattr(start_network(tmp_path / "with", TINY, info, labelled), "monitors")
