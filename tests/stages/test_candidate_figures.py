"""The spaces and the figures of candidates, and the figure that ranks them."""

import numpy as np
import pytest
import torch

from sslpipe.data.images import Images
from sslpipe.data.samples import sampled
from sslpipe.data.store import StoreInfo
from sslpipe.metrics.modularity import neighbor_modularity
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.network import BackboneSettings, build_network, pixel_network
from sslpipe.running.candidates import Judges, candidates_of, ranking_of, spaces_of

INFO = StoreInfo(size=8, channels=1, mean=(0.3,), std=(0.4,), train=120, held_out=1, test=0, protocol="split",
                 fingerprint="0" * 64)  # fmt: skip


@pytest.mark.parametrize(
    ("published", "judges", "expected"),
    [
        ((), (), 0.35),  # the mean of pixels and features
        ((), ("c",), 0.2),  # the mean of pixels and judges: the network's own graph does not count
        ((), ("c", "d"), 0.8 / 3),
        (("features",), (), 0.35),  # nothing else judges
        (("features",), ("c",), 0.3),
        (("features",), ("d",), 0.4),
        (("a", "b"), (), 0.45),
        (("a", "b"), ("c",), 0.3),
        (("a", "b"), ("e",), 0.45),
    ],
)
def test_the_rank_follows_from_what_judges(published, judges, expected):
    figures = {"pixels": 0.1, "features": 0.6, "a": 0.5, "b": 0.45, "c": 0.3, "d": 0.4, "e": 0.9}
    assert ranking_of(published, judges)(figures) == pytest.approx(expected)


@pytest.mark.parametrize(("count", "most"), [(10, 20), (20, 20), (100, 20)])
def test_a_sample_has_each_image_once_and_follows_the_seed(count, most):
    found = sampled(count, most, 0)
    assert len(found) == min(count, most)
    assert (np.diff(found) > 0).all()
    assert np.array_equal(found, sampled(count, most, 0))
    if count > most:
        assert not np.array_equal(found, sampled(count, most, 1))


@pytest.fixture
def kinds():
    """Images of three kinds that differ by their brightest rows, and the kind of each."""
    random = np.random.default_rng(0)
    kind = np.arange(120) % 3
    array = random.integers(0, 90, (120, 1, 8, 8)).astype(np.uint8)
    for each in range(3):
        array[kind == each, :, 2 * each : 2 * each + 2] += 120
    return Images(array, torch.device("cpu")), kind


class Joined(torch.nn.Module):
    """A backbone of two networks, as joined ones announce themselves."""

    parts = (5, 3)


class Timm(torch.nn.Module):
    """A network with features of two published ones, without its forward."""

    def __init__(self, architecture, backbone):
        super().__init__()
        self.settings = BackboneSettings(name="timm", architecture=architecture, unit_features=True)
        self.backbone = backbone


def spaces(images, network, features, published=(), judges=None):
    pixels = pixel_network(INFO)
    return spaces_of(network, features, pixels, images, published=published, judges=judges, neighbors=6)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_joined_networks_are_judged_in_each_ones_space(kinds):
    images, _ = kinds
    features = normal(120, 8).half()
    found = spaces(images, Timm("one+two", Joined()), features, published=("one", "two"))
    assert [each.name for each in found.baselines] == ["pixels", "features"]
    pixels, joined, one, two = found.graphs
    assert [one.name, two.name] == ["one", "two"]
    assert torch.equal(two.rows, features.float()[:, 5:])
    for each, rows in [(joined, features), (one, features[:, :5])]:
        assert np.array_equal(each.neighbors, nearest_neighbors(rows.float(), k=6)[0])
    flat = torch.from_numpy(images.array).flatten(1).float() / 255
    torch.testing.assert_close(pixels.rows, flat)
    assert found.ranking.graphs == ("one", "two")


def test_judges_have_a_graph_each_and_baselines_of_both_for_a_trained_network(kinds):
    images, _ = kinds
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO)
    judges = Judges(Timm("three+four", Joined()), normal(120, 8, seed=1))
    found = spaces(images, network, normal(120, 64), judges=judges)
    assert [each.name for each in found.baselines] == ["pixels", "features", "three+four"]
    assert [each.name for each in found.graphs] == ["pixels", "features", "three", "four"]
    assert found.ranking.graphs == ("pixels", "three", "four")
    both = found.baselines[2]
    assert both.network is judges.network
    assert np.array_equal(both.neighbors, nearest_neighbors(judges.rows, k=6)[0])
    assert np.array_equal(found.graphs[3].neighbors, nearest_neighbors(judges.rows[:, 5:], k=6)[0])
    # Groups of a published network are not set beside those of its judges, whose graphs count as its own does.
    found = spaces(images, network, normal(120, 64), published=("one",), judges=judges)
    assert [each.name for each in found.baselines] == ["pixels", "features"]
    assert found.ranking.graphs == ("features", "three", "four")


def test_a_joined_network_that_was_trained_does_not_judge_itself(kinds):
    images, _ = kinds
    found = spaces(images, Timm("one+two", Joined()), normal(120, 8))
    assert [each.name for each in found.graphs] == ["pixels", "features"]
    assert found.ranking.graphs == ("pixels", "features")


def test_groups_of_a_useless_training_are_behind_those_of_the_judges(kinds):
    """The groups of a trained network are k-means of its features, which are noise and flatter them."""
    images, kind = kinds
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO)
    noise = normal(120, 3)
    right = torch.nn.functional.one_hot(torch.from_numpy(kind), 8).float() + 0.1 * normal(120, 8, seed=1)
    groups = noise.argmax(dim=1).numpy()
    # The parts of the judges are 5 and 3 dimensions long: the second has nothing but noise.
    found = spaces(images, network, noise, judges=Judges(Timm("three+four", Joined()), right))
    graphs = {each.name: neighbor_modularity(groups, each.neighbors) for each in found.graphs}
    assert graphs["features"] > 0.4
    assert found.ranking(graphs) < 0.1 < found.ranking({**graphs, "pixels": 0.3, "three": 0.3})


def test_figures_are_modularities_and_the_right_groups_are_first(kinds):
    images, _ = kinds
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO)
    noise = torch.randn(120, 64, generator=torch.Generator().manual_seed(0))
    given = spaces(images, network, noise)
    found = candidates_of(np.arange(120) // 40, "scan", given, images, clusters=3, seed=0)
    assert len(found) == 5
    for each in found:
        for space in given.graphs:
            assert each.figures[space.name] == pytest.approx(neighbor_modularity(each.groups, space.neighbors))
    assert found[0].name.endswith("pixels")
    assert found[0].figures["pixels"] > 0.5
    again = candidates_of(np.arange(120) // 40, "scan", given, images, clusters=3, seed=0)
    for one, other in zip(found, again, strict=True):
        assert np.array_equal(one.groups, other.groups)


def test_a_chosen_baseline_predicts_its_groups_from_images(kinds):
    images, kind = kinds
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO)
    given = spaces(images, network, normal(120, 64))
    found = candidates_of(kind, "scan", given, images, clusters=3, seed=0)
    for each in found:
        if each.name.endswith("pixels"):
            model = each.method.selected().eval()
            predicted = model(torch.from_numpy(images.array).float() / 255).argmax(dim=1).numpy()
            assert (predicted == each.groups).mean() > 0.98
