"""The step by reliable neighbours, on blobs whose groups are noisy, against plain loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from sslpipe.io.errors import UserError
from sslpipe.methods._distil import DistilSettings
from sslpipe.methods.self_label._problem import Problem
from sslpipe.methods.self_label.neighbors import Method, Settings
from sslpipe.metrics.agreement import agreeing
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.heads import LinearHead, LinearSettings
from sslpipe.nets.inference import head_logits
from sslpipe.nets.merged import MergedHead
from sslpipe.nets.unit_heads import ConsensusHead

BLOBS, EACH = 6, 50
SIGNAL = 32
"""Dimensions that differ between blobs; the rest of the 64 is noise, which the head takes for signal."""


def noisy_head(centres, noise, *, seed):
    """A head of the blobs' centres that also reads the dimensions without signal."""
    head = LinearHead(64, LinearSettings(outputs=BLOBS))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight[:, :SIGNAL] = centres
        head.weight[:, SIGNAL:] = noise * torch.randn(BLOBS, 64 - SIGNAL, generator=draw)
        head.bias.zero_()
    return head


@pytest.fixture
def blobs():
    """Centres [K, SIGNAL], features [N, 64] in float16 and the blob [N] of each image."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(BLOBS, SIGNAL, generator=draw), dim=1)
    blob = torch.arange(BLOBS).repeat_interleave(EACH)
    signal = centres[blob] + 0.15 * torch.randn(len(blob), SIGNAL, generator=draw)
    noise = 0.1 * torch.randn(len(blob), 64 - SIGNAL, generator=draw)
    return centres, torch.cat([signal, noise], dim=1).half().numpy(), blob.numpy()


@pytest.fixture
def problem(blobs, digits, network):
    """The blobs with groups that are wrong for some images of each."""
    centres, features, _ = blobs
    network.head = noisy_head(centres, 1.0, seed=1)
    indices, _ = nearest_neighbors(torch.from_numpy(features).float(), k=20)
    return Problem(network, digits[0], features, indices)


def run(problem, **settings):
    """The method after its only epoch, its groups, and the row of its history."""
    torch.manual_seed(0)
    method = Method(Settings(**settings), problem)
    row = method.after_epoch({})
    return method, method.training_logits().argmax(dim=1).numpy(), row


def start_of(problem):
    return head_logits(problem.network, problem.features).argmax(dim=1).numpy()


def test_accuracy_rises(problem, blobs, capsys):
    blob, before = blobs[2], start_of(problem)
    _, after, row = run(problem)
    assert 0.6 < (before == blob).mean() < 0.9
    assert (after == blob).mean() > (before == blob).mean() + 0.1
    assert row["modularity"] > row["start_modularity"]
    assert row["changed"] == pytest.approx((after != before).mean())
    said = " ".join(capsys.readouterr().out.split())
    assert f"{(after != before).sum()} of 300 images change their group; neighbour modularity is" in said
    assert "stay as they are" not in said


@pytest.mark.parametrize(("after", "stay"), [(0.2, True), (0.279, True), (0.281, False), (0.4, False)])
def test_groups_stay_if_the_modularity_falls_by_more_than_noise(problem, capsys, monkeypatch, after, stay):
    before = start_of(problem)
    values = iter([after, 0.3])
    monkeypatch.setattr("sslpipe.methods.self_label.neighbors.neighbor_modularity", lambda *_: next(values))
    method, found, _ = run(problem)
    said = " ".join(capsys.readouterr().out.split())
    assert f"modularity is {after:.3f}, before 0.300" in said
    assert ("so the groups stay as they are" in said) == stay
    assert np.array_equal(found, before) == stay
    kept = head_logits(method.selected(), problem.features).argmax(dim=1).numpy()
    assert np.array_equal(kept, found)


@pytest.mark.parametrize("settings", [{}, {"share": 0.5, "neighbors": 10}, {"share": 0.0}])
def test_the_head_is_the_balanced_regression_of_scikit_learn_on_the_kept_images(problem, settings, capsys):
    groups, k, share = start_of(problem), settings.get("neighbors", 20), settings.get("share", 0.7)
    kept = (groups[problem.neighbors[:, :k]] == groups[:, None]).mean(axis=1) >= share - 1e-9
    assert set(groups[kept]) == set(range(BLOBS))
    method, _, row = run(problem, **settings)
    unit = problem.features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    components = PCA().fit_transform(unit)
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000).fit(components[kept], groups[kept])
    expected = model.predict_proba(components)
    assert np.abs(method.training_logits().softmax(dim=1).numpy() - expected).max() < 0.01
    assert row["kept"] == kept.mean()
    assert f"from {kept.sum()} of {len(groups)} images" in " ".join(capsys.readouterr().out.split())


def test_the_model_has_the_head_and_its_backbone_as_it_was(problem):
    before = {name: value.clone() for name, value in problem.network.backbone.state_dict().items()}
    method, found, _ = run(problem)
    network = method.selected()
    assert isinstance(network.head, ConsensusHead)
    assert np.array_equal(head_logits(network, problem.features).argmax(dim=1).numpy(), found)
    assert all(value.equal(before[name]) for name, value in network.backbone.state_dict().items())


def test_a_group_without_reliable_images_is_learned_from_all_of_its_images(problem, blobs, capsys):
    problem.network.head = noisy_head(blobs[0], 0.3, seed=1)
    groups = start_of(problem)
    assert not (groups == BLOBS).any()
    lonely = np.arange(0, len(groups), 23)  # scattered over the blobs, so that their neighbours are in other groups

    class Marked(torch.nn.Module):
        """The noisy head with one more group, of the images that `lonely` lists."""

        def __init__(self, head):
            super().__init__()
            self.head, self.rows = head, torch.from_numpy(problem.features[lonely]).float()

        def forward(self, features):
            marked = (features[:, None] == self.rows[None]).all(dim=2).any(dim=1)
            return torch.cat([self.head(features), torch.where(marked, 1e3, -1e3)[:, None]], dim=1)

    problem.network.head = Marked(problem.network.head)
    _, found, row = run(problem)
    said = " ".join(capsys.readouterr().out.split())
    assert f"no image in 1 of {BLOBS + 1} groups has enough neighbours in its group" in said
    assert f"learned from all of their {len(lonely)} images" in said
    groups[lonely] = BLOBS
    kept = agreeing(groups, problem.neighbors, 0.7)
    assert f"from {kept.sum()} of {len(groups)} images" in said
    assert row["kept"] == (kept.sum() + len(lonely)) / len(groups)
    assert (found == BLOBS).any()


def test_groups_of_a_merged_head_are_refined(problem):
    linear = torch.nn.Linear(64, 2 * BLOBS)
    head = problem.network.head
    with torch.no_grad():
        linear.weight.copy_(head.weight.repeat(2, 1))
        linear.bias.copy_(torch.cat([head.bias, head.bias - 0.1]))
    problem.network.head = MergedHead.of(linear, [*range(BLOBS)] * 2)
    method, _, _ = run(problem)
    assert method.training_logits().shape[1] == BLOBS


def test_fewer_mined_neighbours_than_asked_for_are_one_line(problem):
    with pytest.raises(UserError, match=r"^self_label\.neighbors\.neighbors: 21 asked, 20 mined; lower it or raise m"):
        Method(Settings(neighbors=21), problem)


def test_a_memory_map_is_enough(problem, tmp_path):
    np.save(tmp_path / "features.npy", problem.features)
    mapped = Problem(
        problem.network, problem.images, np.load(tmp_path / "features.npy", mmap_mode="r"), problem.neighbors
    )
    head = problem.network.head
    first = run(problem)[0].training_logits()
    problem.network.head = head
    assert torch.equal(run(mapped)[0].training_logits(), first)


def test_a_sample_of_very_many_images_is_one_line(problem, capsys):
    _, _, row = run(problem, share=0.0, distil=DistilSettings(images=200))
    assert "of these 300 images 200 are drawn at random; raise" in " ".join(capsys.readouterr().out.split())
    assert row["kept"] == 1
