"""The spaces and the figures of candidates, and the figure that ranks them."""

import numpy as np
import pytest
import torch

from sslpipe.data.images import Images
from sslpipe.data.store import StoreInfo
from sslpipe.metrics.modularity import neighbor_modularity
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.network import BackboneSettings, build_network, pixel_network
from sslpipe.running.candidates import candidates_of, rank, sampled, spaces_of

INFO = StoreInfo(size=8, channels=1, mean=(0.3,), std=(0.4,), train=120, held_out=1, test=0, protocol="split",
                 fingerprint="0" * 64)  # fmt: skip


def test_several_networks_rank_by_the_smallest_figure_one_by_the_mean_with_pixels():
    assert rank({"pixels": 0.1, "features": 0.6, "a": 0.5, "b": 0.4}) == 0.4
    assert rank({"pixels": 0.1, "features": 0.6}) == pytest.approx(0.35)


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


def spaces(images, network, features):
    return spaces_of(network, features, pixel_network(INFO), images, neighbors=6)


def test_joined_networks_are_judged_in_each_ones_space(kinds):
    images, _ = kinds
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO)
    network.backbone = Joined()
    network.settings = BackboneSettings(name="timm", architecture="one+two", unit_features=True)
    features = torch.randn(120, 8, generator=torch.Generator().manual_seed(0)).half()
    (pixels, joined), judges = spaces(images, network, features)
    assert [each.name for each in judges] == ["one", "two"]
    assert torch.equal(judges[1].rows, features.float()[:, 5:])
    for each, rows in [(joined, features), (judges[0], features[:, :5])]:
        assert np.array_equal(each.neighbors, nearest_neighbors(rows.float(), k=6)[0])
    flat = torch.from_numpy(images.array).flatten(1).float() / 255
    torch.testing.assert_close(pixels.rows, flat)


def test_figures_are_modularities_and_the_right_groups_are_first(kinds):
    images, _ = kinds
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO)
    noise = torch.randn(120, 64, generator=torch.Generator().manual_seed(0))
    given, judges = spaces(images, network, noise)
    found = candidates_of(np.arange(120) // 40, "scan", given, judges, images, clusters=3, seed=0)
    assert len(found) == 5
    for each in found:
        for space in given:
            assert each.figures[space.name] == pytest.approx(neighbor_modularity(each.groups, space.neighbors))
    assert found[0].name.endswith("pixels")
    assert found[0].figures["pixels"] > 0.5
    again = candidates_of(np.arange(120) // 40, "scan", given, judges, images, clusters=3, seed=0)
    for one, other in zip(found, again, strict=True):
        assert np.array_equal(one.groups, other.groups)


def test_a_chosen_baseline_predicts_its_groups_from_images(kinds):
    images, kind = kinds
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO)
    given, judges = spaces(images, network, torch.randn(120, 64))
    found = candidates_of(kind, "scan", given, judges, images, clusters=3, seed=0)
    for each in found:
        if each.name.endswith("pixels"):
            model = each.method.selected().eval()
            predicted = model(torch.from_numpy(images.array).float() / 255).argmax(dim=1).numpy()
            assert (predicted == each.groups).mean() > 0.98
