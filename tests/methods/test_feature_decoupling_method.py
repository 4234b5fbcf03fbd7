from math import log

import pytest
import torch
from every_method import pretext_given
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain import feature_decoupling as module
from sslpipe.methods.pretrain.feature_decoupling import Method, Settings
from sslpipe.views.policies import ViewSettings

PLAIN = ViewSettings(policy="plain")


def build(digits, network, **settings):
    return Method(
        Settings(**{"outputs": 16, "views": PLAIN, "negatives": 0} | settings), pretext_given(digits, network)
    )


def batch_of(digits, index):
    return Batch(image=digits[0][index], index=index)


def test_each_half_of_the_features_has_its_task(digits, network):
    method = build(digits, network).train()
    network.head.rotation.requires_grad_(True)
    half = network.backbone.dimension // 2
    features = torch.randn(6, network.backbone.dimension, requires_grad=True)
    network.head(features).sum().backward()
    assert features.grad[:, :half].abs().sum() == 0
    assert features.grad[:, half:].abs().sum() > 0
    covariant, invariant = network.head.halves(features)
    assert torch.equal(torch.cat([covariant, invariant], dim=1), features)
    assert torch.equal(network.head.embed(invariant), network.head(features))
    assert method.selected() is network


def test_the_loss_is_the_weighted_sum_of_its_terms(digits, network):
    method = build(digits, network, rotation_weight=2.0, agreement_weight=3.0, instance_weight=0.5)
    terms = method.losses(batch_of(digits, torch.arange(20)), torch.Generator().manual_seed(0))
    expected = 2 * terms["rotation"] + 3 * terms["agreement"] + 0.5 * terms["instances"]
    torch.testing.assert_close(terms["loss"], expected)


def test_visited_rows_of_both_memories_move(digits, network):
    method = build(digits, network, momentum=0.5).eval()
    memory, index = method.memory.rows.clone(), torch.tensor([3, 7, 290])
    method.losses(batch_of(digits, index), torch.Generator().manual_seed(0))
    image = digits[0][index].float() / 255
    rotated = [network.features(image.rot90(turns, (2, 3))) for turns in range(4)]
    halves = [network.head.halves(features) for features in rotated]
    embedding = network.head.embed(torch.stack([invariant for _, invariant in halves]).mean(dim=0))
    method.after_step()
    expected = F.normalize(0.5 * memory[index] + 0.5 * embedding, dim=1)
    torch.testing.assert_close(method.memory.rows[index], expected, rtol=1e-4, atol=1e-5)
    for turns in (1, 2, 3):
        upright = network.head.rotation(halves[turns][0]).softmax(dim=1)[:, 0]
        torch.testing.assert_close(method.upright[turns - 1, index], 0.5 * upright, rtol=1e-4, atol=1e-5)
    others = torch.ones(300, dtype=torch.bool)
    others[index] = False
    assert torch.equal(method.memory.rows[others], memory[others])
    assert method.upright[:, others].abs().sum() == 0


def test_ambiguous_rotations_count_less_from_their_share_of_the_run_on(digits, network, monkeypatch):
    method, index = build(digits, network, ambiguity_from=0.5, gamma=2.0), torch.arange(4)
    method.upright[1, 2] = 0.8  # image 2 looks nearly the same upside down
    weights = []
    rotation = module.rotation
    monkeypatch.setattr(module, "rotation", lambda logits, weight: weights.append(weight) or rotation(logits, weight))
    for step in (4, 5):
        method.progress = Progress(step, 10, 10)
        method.losses(batch_of(digits, index), torch.Generator().manual_seed(0))
    assert (weights[0] == 1).all()
    expected = torch.ones(4, 4)
    expected[2, 2] = 1 - 0.8**2
    torch.testing.assert_close(weights[1], expected)


def test_sampled_rows_represent_all_others(digits, network, monkeypatch):
    method = build(digits, network, negatives=32)
    noises = []
    instance_softmax = module.instance_softmax
    monkeypatch.setattr(
        module, "instance_softmax", lambda *given, **named: noises.append(given[3]) or instance_softmax(*given, **named)
    )
    for seed in (0, 1):
        method.losses(batch_of(digits, torch.arange(5)), torch.Generator().manual_seed(seed))
    assert noises[0].shape == (32,)
    assert not torch.equal(*noises)
    assert method.loss_at_chance() == {"instances": torch.tensor(33.0, dtype=torch.float64).log().item()}


@pytest.mark.parametrize(("negatives", "rows"), [(0, 300), (1, 2), (299, 300), (300, 300), (4096, 300)])
def test_as_many_sampled_rows_as_images_are_all_rows(digits, network, monkeypatch, negatives, rows):
    method = build(digits, network, negatives=negatives)
    noises = []
    monkeypatch.setattr(module, "instance_softmax", lambda *given, **_: noises.append(given[3]) or given[0].sum())
    method.losses(batch_of(digits, torch.arange(5)), torch.Generator().manual_seed(0))
    sampled = 0 < negatives < 300
    assert (noises[0] is not None) == sampled
    if sampled:
        assert len(noises[0]) == negatives
    assert method.loss_at_chance() == {"instances": pytest.approx(log(rows))}
