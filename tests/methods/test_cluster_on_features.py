"""kmeans, spectral, scan_heads, temi and turtle: their models against the groups that they were made of."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from sslpipe.io.errors import UserError
from sslpipe.methods.cluster import kmeans, scan_heads, spectral, temi, turtle
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.metrics.modularity import neighbor_modularity
from sslpipe.metrics.spectral import spectral_groups
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.inference import infer
from sslpipe.nets.unit_heads import CentroidHead, ConsensusHead

METHODS = {"kmeans": kmeans, "spectral": spectral, "scan_heads": scan_heads, "temi": temi, "turtle": turtle}
BRIEF = {
    "scan_heads": {"steps": 100},
    "temi": {"heads": 4, "hidden": 32, "embedding": 16, "epochs": 30, "warmup_epochs": 2.0, "batch": 100, "lr": 3e-3},
    "turtle": {"steps": 100, "lr": 0.01},
}
"""Settings of methods with which they take less time."""


def neighborhood(images, network, k):
    """A split as the stages give it: features in float16, neighbours by cosine."""
    features = infer(network.eval().features, images)
    indices, _ = nearest_neighbors(features, k=k)
    return Neighborhood(images, torch.from_numpy(indices), features.half().numpy())


@pytest.fixture
def problem(digits, network):
    return Problem(network, neighborhood(digits[0], network, 10), neighborhood(digits[1], network, 3))


def run(module, problem, seed=0, **settings):
    """The method after its only epoch, and the row of its history."""
    torch.manual_seed(seed)
    method = module.Method(module.Settings(**{"clusters": 10} | settings), problem)
    return method, method.after_epoch({})


@pytest.mark.parametrize("name", METHODS)
def test_the_model_predicts_from_images_what_it_found_on_features(name, problem, digits):
    method, row = run(METHODS[name], problem, **BRIEF.get(name, {}))
    network = method.selected().eval()
    predicted = infer(network, digits[0]).argmax(dim=1)
    found = method.training_logits().argmax(dim=1)
    assert (predicted == found).float().mean() > 0.99  # float16 moves images that are between two groups
    modularity = neighbor_modularity(found.numpy(), problem.train.neighbors.numpy())
    assert row["modularity"] == pytest.approx(modularity)
    assert -1 < row["held_out/modularity"] < 1
    assert adjusted_rand_score(digits[2], found.numpy()) > 0.1  # even a random network tells digits apart
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides(name, problem):
    first, again = (run(METHODS[name], problem, **BRIEF.get(name, {}))[0].training_logits() for _ in range(2))
    assert torch.equal(first, again)


def test_the_confidence_of_k_means_is_the_agreement_of_neighbours(problem):
    method, row = run(kmeans, problem)
    groups = method.training_logits().argmax(dim=1)
    agreement = (groups[problem.train.neighbors] == groups[:, None]).float().mean()
    assert row["agreement"] == pytest.approx(float(agreement), abs=0.01)
    confidence = method.training_logits().softmax(dim=1).amax(dim=1).mean()
    assert float(confidence) == pytest.approx(row["agreement"], abs=0.01)
    assert isinstance(method.selected().head, CentroidHead)


def test_the_spectral_model_keeps_the_groups(problem):
    method, row = run(spectral, problem)
    torch.manual_seed(0)
    seed = int(torch.randint(2**31 - 1, ()))
    groups = spectral_groups(problem.train.neighbors.numpy(), clusters=10, seed=seed).groups
    kept = (method.training_logits().argmax(dim=1).numpy() == groups).mean()
    assert row["kept"] == pytest.approx(kept)
    assert kept > 0.9
    assert isinstance(method.selected().head, ConsensusHead)


def test_a_graph_that_falls_apart_is_one_line(problem, capsys):
    apart = torch.tensor([[i - i % 6 + j for j in range(6) if j != i % 6] for i in range(300)])
    train = Neighborhood(problem.train.images, apart, problem.train.features)
    run(spectral, Problem(problem.network, train, problem.held_out))
    lines = capsys.readouterr().out.splitlines()
    assert any("falls into 50 parts" in line and "raise mine_neighbors.k" in line for line in lines)


def test_a_few_images_apart_get_the_group_of_similar_features(problem, capsys):
    neighbors = problem.train.neighbors.clone()
    neighbors[neighbors < 3] = 3  # nobody knows the first three images but they themselves
    neighbors[:3] = torch.tensor([[1, 2], [0, 2], [0, 1]]).repeat(1, 5)
    train = Neighborhood(problem.train.images, neighbors, problem.train.features)
    method, row = run(spectral, Problem(problem.network, train, problem.held_out), smallest_part=0.2)
    assert row["left_out"] == 3
    assert "3 images in small ones are left out" in " ".join(capsys.readouterr().out.split())
    assert method.training_logits()[:3].isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_more_clusters_than_images_are_refused(name, problem):
    with pytest.raises(UserError, match=r"cluster\.clusters: 301 is more than 300 training images"):
        run(METHODS[name], problem, clusters=301)


@pytest.mark.parametrize("name", METHODS)
def test_a_memory_map_is_enough(name, problem, tmp_path):
    np.save(tmp_path / "features.npy", problem.train.features)
    mapped = Neighborhood(
        problem.train.images, problem.train.neighbors, np.load(tmp_path / "features.npy", mmap_mode="r")
    )
    other = Problem(problem.network, mapped, problem.held_out)
    first, second = (run(METHODS[name], each, **BRIEF.get(name, {}))[0].training_logits() for each in (problem, other))
    assert torch.equal(first, second)


def test_the_consensus_is_the_mean_of_aligned_heads_and_the_best_one_has_the_lowest_loss(problem):
    """Against a loop over the heads of the same run, on the components that they were trained on."""
    heads = 4
    consensus, row = run(scan_heads, problem, heads=heads, steps=60, neighbors=5)
    best, again = run(scan_heads, problem, heads=heads, steps=60, neighbors=5, answer="best")
    assert row["loss/best"] == again["loss/best"] <= row["loss/mean"] <= row["loss/worst"]
    own = consensus.selected().head
    unit = torch.nn.functional.normalize(torch.from_numpy(np.array(problem.train.features)).float(), dim=1)
    each = own.linear(unit).view(len(unit), heads, 10).softmax(dim=2)
    single = best.training_logits().softmax(dim=1)
    assert torch.allclose(consensus.training_logits().exp(), each.mean(dim=1), atol=1e-5)
    same = [h for h in range(heads) if torch.allclose(each[:, h], single, atol=1e-4)]
    assert same, "the best head is one of those whose mean the consensus is"
    for h in range(heads):  # no exchange of two outputs of a head brings it nearer to the best one
        together = each[:, h].T @ single
        for a in range(10):
            for b in range(a):
                assert together[a, a] + together[b, b] >= together[a, b] + together[b, a] - 1e-3


def test_heads_learn_what_k_means_on_the_same_features_does_not(digits, network):
    """Neighbours of the same class in all but few cases: SCAN's heads find the classes."""
    label = digits[2]
    rng = np.random.default_rng(0)
    neighbors = np.stack([rng.choice(np.flatnonzero(label == each), 10) for each in label])
    features = infer(network.eval().features, digits[0]).half().numpy()
    train = Neighborhood(digits[0], torch.from_numpy(neighbors), features)
    problem = Problem(network, train, Neighborhood(digits[1], torch.zeros(len(digits[1]), 1, dtype=torch.int64)))
    found = {
        name: adjusted_rand_score(label, run(METHODS[name], problem)[0].training_logits().argmax(dim=1).numpy())
        for name in ("kmeans", "scan_heads")
    }
    assert found["scan_heads"] > found["kmeans"] + 0.2
