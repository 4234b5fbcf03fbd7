from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch
from every_method import CROP, PROPOS, batch_of, losses_of, pretext_given, train
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.engine.method import Progress
from sslpipe.io.errors import UserError
from sslpipe.methods.pretrain import propos
from sslpipe.methods.pretrain.propos import Method, Settings
from sslpipe.metrics.kmeans import KMeansSettings
from sslpipe.nets.inference import infer
from sslpipe.views.policies import ViewSettings

PLAIN, FLIPPED = ViewSettings(policy="plain"), ViewSettings(policy="plain", flip=1.0)
ACTIVE = Progress(30, 100, 10)


def build(digits, network, **settings):
    return Method(Settings(**PROPOS | settings), pretext_given(digits, network))


def unit(vector):
    return vector / vector.norm()


def scattered(rows, targets, cluster, temperature):
    """The scattering of one order of the views, by loops."""
    present = sorted({*cluster.tolist()})
    prototype, other = (
        {own: unit(sum(unit(row) for row, name in zip(each, cluster, strict=True) if name == own)) for own in present}
        for each in (rows, targets)
    )
    total = 0.0
    for own in present:
        positive = exp(prototype[own] @ other[own] / temperature)
        total -= log(
            positive
            / (positive + sum(exp(prototype[own] @ prototype[each] / temperature) for each in present if each != own))
        )
    return total / len(present)


@pytest.mark.parametrize("statistics", ["separate", "joint"])
@pytest.mark.parametrize("progress", [Progress(2, 100, 10), ACTIVE])
def test_a_step_is_that_of_loops(digits, network, statistics, progress):
    """Image by image, in training: the noise before the predictor, and prototypes without it."""
    given = {"scattering_weight": 0.3, "temperature": 0.4, "noise": 0.2, "batch_statistics": statistics}
    method = build(digits, network, views=PLAIN, second_views=FLIPPED, **given).train()
    method.progress = progress
    method.assigned.copy_(torch.arange(300) % 7)
    batch = batch_of(digits, 20)
    image = batch.image.float() / 255
    views, noise = (image, image.flip(3)), 0.2 * (progress is ACTIVE)
    generator = torch.Generator().manual_seed(5)
    method.draw_views(batch, generator)  # the noise comes after the draws of the views
    drawn = [noise * torch.randn(20, 16, generator=generator) for _ in views]
    with torch.no_grad():
        if statistics == "joint":
            rows, targets = (net(torch.cat(views)).chunk(2) for net in (network, method.target))
            predictions = method.predictor(torch.cat(rows) + torch.cat(drawn)).chunk(2)
        else:
            rows, targets = ([net(view) for view in views] for net in (network, method.target))
            predictions = [method.predictor(row + near) for row, near in zip(rows, drawn, strict=True)]
    rows, targets, predictions = ([each.double() for each in found] for found in (rows, targets, predictions))
    alignment = sum(
        float((unit(predictions[view][image]) - unit(targets[1 - view][image])).square().sum()) / 40
        for image in range(20)
        for view in range(2)
    )
    scattering = sum(
        scattered(rows[view], targets[1 - view], method.assigned[batch.index], 0.4) / 2 for view in range(2)
    )
    terms = losses_of(method, batch, torch.Generator().manual_seed(5))
    assert terms["alignment"].item() == pytest.approx(alignment, rel=1e-6)
    assert terms["scattering"].item() == pytest.approx(scattering, rel=1e-6)
    weight = 0.3 * (progress is ACTIVE)
    assert terms["loss"].item() == pytest.approx(alignment + weight * scattering, rel=1e-6)


def test_clusters_are_those_of_the_targets_unit_projections(digits, network):
    """Each image is nearest to the mean of its own cluster; the network that learns has no part in it."""
    method = build(digits, network, kmeans=KMeansSettings(restarts=1))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(-2.0)
    method.train()
    row = method.after_epoch({"alignment": 1.0})
    rows = F.normalize(infer(method.target.eval(), digits[0]), dim=1)
    means = torch.stack([rows[method.assigned == each].mean(dim=0) for each in range(10)])
    nearest = torch.cdist(rows, means).argmin(dim=1)
    assert (nearest == method.assigned).float().mean() > 0.97
    assert row["largest_cluster"] == method.assigned.bincount().max() / 300
    assert {"held_out/feature_std", "held_out/view_retrieval@1"} < row.keys()


def test_k_means_compares_unit_projections(digits, network, monkeypatch):
    method, seen = build(digits, network), []
    original = propos.kmeans
    monkeypatch.setattr(
        propos,
        "kmeans",
        lambda vectors, *rows, **given: seen.append(vectors(rows[0])) or original(vectors, *rows, **given),
    )
    method._assign()
    assert np.linalg.norm(seen[0], axis=1) == pytest.approx(1, abs=1e-5)


def test_clusters_depend_on_the_seed_and_on_the_step(digits, network):
    method, found = build(digits, network, kmeans=KMeansSettings(restarts=1)), {}
    start = int(method.seed)
    for seed, step in ((start, 4), (start, 8), (start + 1, 4), (start, 4)):
        method.seed.fill_(seed)
        method.progress = Progress(step, 100, 4)
        method._assign()
        before = found.setdefault((seed, step), method.assigned.clone())
        assert torch.equal(before, method.assigned)
    one, *others = found.values()
    assert not any(torch.equal(one, other) for other in others)


def test_the_first_clusters_are_used_after_the_first_interval(digits, network):
    settings, method = Settings(**PROPOS), build(digits, network)
    history = train("propos", digits, settings, method, batch=75, epochs=2)
    assert history[0]["scattering"] == 0.0
    assert all(row["scattering"] > 0.3 for row in history[1:])
    assert history[0]["loss"] == history[0]["alignment"]
    assert method.assigned.bincount().count_nonzero() == 10


def test_features_that_are_not_finite_leave_the_clusters_as_they_are(digits, network):
    method = build(digits, network)
    method.assigned.copy_(torch.arange(300) % 3)
    with torch.no_grad():
        method.target.module.head[-1].bias.fill_(torch.nan)
    method._assign()
    assert torch.equal(method.assigned, torch.arange(300) % 3)


def test_equal_features_are_one_cluster_and_no_warning(digits, network):
    method = build(digits, network)
    with torch.no_grad():
        method.target.module.head[-1].weight.zero_()
    method._assign()
    assert method.assigned.bincount().count_nonzero() == 1


def test_k_means_that_is_not_exact_says_so_once(digits, network, capsys):
    method = build(digits, network, kmeans=KMeansSettings(restarts=2, exact_up_to=10))
    method._assign()
    assert "pretrain.propos.kmeans: k-means of 300 images in 10 clusters compares" in capsys.readouterr().out
    method._assign()
    assert capsys.readouterr().out == ""


def test_more_clusters_than_images_are_refused(digits, network):
    few = (Images(np.ascontiguousarray(digits[0].array[:8]), digits[0].device), *digits[1:])
    with pytest.raises(UserError, match=r"pretrain\.propos\.clusters: 10 found, expected at most the 8 images"):
        build(few, network)


def test_the_predictor_has_a_rate_of_its_own_and_the_target_none(digits, network):
    method = build(digits, network, predictor_rate=3.0)
    assert {method.rate(name) for name, _ in method.predictor.named_parameters(prefix="predictor")} == {3.0}
    assert {method.rate(name) for name, _ in method.network.named_parameters(prefix="network")} == {1.0}
    losses_of(method.train(), batch_of(digits, 20), torch.Generator().manual_seed(0))["loss"].backward()
    assert all(weight.grad is not None for weight in method.predictor.parameters())
    assert all(weight.grad is None for weight in method.target.parameters())
    assert not any("predictor" in name for name in method.selected().state_dict())


@pytest.mark.parametrize(
    ("warmup", "step", "expected"), [(2.0, 20, 2.0), (2.0, 21, 2 + 0.1 * log(10)), (0.0, 1, 2.2303)]
)
def test_the_loss_of_a_network_that_knows_nothing_rises_after_the_warm_up(digits, network, warmup, step, expected):
    method = build(digits, network, warmup_epochs=warmup)
    method.progress = Progress(step, 100, 10)
    assert method.chance_loss() == pytest.approx(expected, abs=1e-4)
    assert method.loss_at_chance() == {"alignment": 2.0}


def test_equal_outputs_after_the_warm_up_lose_what_chance_says(digits, network):
    method = build(digits, network, views=CROP)
    method.assigned.copy_(torch.arange(300) % 10)
    for weight in method.parameters():
        weight.detach().zero_()
    method.progress = ACTIVE
    loss = losses_of(method.train(), batch_of(digits), torch.Generator().manual_seed(0))["loss"].item()
    method.progress = replace(ACTIVE, step=ACTIVE.step + 1)
    assert loss == pytest.approx(method.chance_loss(), rel=1e-5)
