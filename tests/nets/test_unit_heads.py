"""Consensus and centroid heads against loops; saved and loaded."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch.nn import functional as F

from sslpipe.data.store import StoreInfo
from sslpipe.metrics.consensus import align_heads
from sslpipe.metrics.whitened_kmeans import WhitenedKMeansSettings, fit_whitened_kmeans
from sslpipe.nets.heads import ClusterSettings, build_head, outputs
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.unit_heads import CentroidHead, CentroidSettings, ConsensusHead, ConsensusSettings


@settings(max_examples=25, deadline=None)
@given(heads=st.integers(1, 5), clusters=st.integers(1, 6), unit=st.booleans(), seed=st.integers(0, 99))
def test_consensus_is_the_mean_of_the_aligned_heads_probabilities(heads, clusters, unit, seed):
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(heads, clusters, 7, generator=generator), torch.randn(heads, clusters)
    order = np.stack([torch.randperm(clusters, generator=generator).numpy() for _ in range(heads)])
    head = ConsensusHead.of(weight, bias, order=order, unit_features=unit)
    features = 4 * torch.randn(5, 7, generator=generator)
    logits = head(features)
    assert logits.shape == (5, clusters)
    for i, x in enumerate(features):
        x = x / x.norm() if unit else x
        mean = sum(((weight[h] @ x + bias[h]).softmax(0)[order[h].tolist()] for h in range(heads)), torch.zeros(()))
        torch.testing.assert_close(logits[i].exp(), mean / heads, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits.softmax(dim=1), logits.exp(), rtol=1e-4, atol=1e-6)
    turned = list(reversed(range(clusters)))
    torch.testing.assert_close(head.ordered(turned)(features), logits[:, turned])
    assert outputs(head) == clusters


def test_consensus_of_cluster_heads_that_are_copies_is_the_head():
    heads = build_head(ClusterSettings(clusters=4, heads=3), 8)
    renamed = [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]]
    with torch.no_grad():
        heads.linear.weight.mul_(10)
        rows = torch.cat([4 * 0 + torch.tensor(order) for order in renamed])
        heads.linear.weight.copy_(heads.linear.weight[rows])
        heads.linear.bias.copy_(heads.linear.bias[rows])
    features = torch.randn(60, 8)
    order = align_heads([heads(features)], 1)
    consensus = heads.consensus(order)
    torch.testing.assert_close(consensus(features).softmax(1), heads(features)[1].softmax(1))


def test_a_probability_that_underflows_leaves_logits_and_gradients_finite():
    head = ConsensusHead.of(torch.tensor([[[1e4], [-1e4]]] * 2), torch.zeros(2, 2), unit_features=True)
    logits = head(torch.tensor([[3.0]]))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def fitted(temperature=0.05):
    random = np.random.default_rng(0)
    rows = (random.standard_normal((4, 12))[np.arange(200) % 4] + 0.5 * random.standard_normal((200, 12))).astype("f4")
    model = fit_whitened_kmeans(rows, clusters=4, settings=WhitenedKMeansSettings(components=6, restarts=2), seed=0)
    parts = (torch.from_numpy(each) for each in (model.pca.mean, model.pca.whitening, model.centers))
    return rows, model, CentroidHead.of(*parts, temperature=temperature)


def test_centroids_answer_as_k_means_with_the_probabilities_of_a_mixture():
    rows, model, head = fitted()
    embedding = model.embed(rows)
    logits = head(torch.from_numpy(rows))
    assert np.array_equal(logits.argmax(dim=1).numpy(), model.predict(embedding))
    reference = KMeans(4, init=model.centers, n_init=1, max_iter=1).fit(embedding)
    assert np.array_equal(model.predict(embedding), reference.predict(embedding))
    distances = np.square(embedding[:, None] - model.centers[None]).sum(axis=2)
    expected = torch.from_numpy(-distances / (2 * 0.05)).softmax(dim=1)
    torch.testing.assert_close(logits.softmax(dim=1), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head.ordered([2, 0, 3, 1])(torch.from_numpy(rows)), logits[:, [2, 0, 3, 1]])
    torch.testing.assert_close(head(7 * torch.from_numpy(rows)), logits, rtol=1e-3, atol=1e-3)
    assert outputs(head) == 4


def test_heads_stay_in_float32_under_autocast():
    rows, _, head = fitted()
    features = torch.from_numpy(rows)
    consensus = ConsensusHead.of(torch.randn(2, 3, 12), torch.zeros(2, 3), unit_features=True)
    for each in (head, consensus):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(each(features), each(features.float()))
            found = each(features)
        assert found.dtype == torch.float32
        assert torch.equal(found, each(features))


@pytest.mark.parametrize(
    "head", [ConsensusSettings(outputs=3, heads=2, unit_features=True), CentroidSettings(outputs=3, components=5)]
)
def test_comes_back_from_its_file(tmp_path, head):
    info = StoreInfo(size=8, channels=1, mean=(0.3,), std=(0.4,), train=9, held_out=1, test=0, protocol="split",
                     fingerprint="0" * 64)  # fmt: skip
    network = Network(BackboneSettings(name="tiny_resnet"), head, mean=(0.3,), std=(0.4,)).eval()
    save_model(tmp_path, network, card_for("cluster", info, {}, parent=None))
    loaded = load_model(tmp_path)[0].eval()
    images = torch.rand(3, 1, 8, 8)
    assert loaded.head.settings == head
    torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)


def test_features_of_zero_have_an_answer():
    _, _, head = fitted()
    consensus = ConsensusHead.of(torch.randn(2, 3, 12), torch.zeros(2, 3), unit_features=True)
    for each in (head, consensus):
        assert each(torch.zeros(1, 12)).isfinite().all()
    assert F.normalize(torch.zeros(1, 12)).isfinite().all()
