from dataclasses import replace
from math import log

import pytest
import torch
from every_method import losses_of, pretext_given
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.io.errors import UserError
from sslpipe.methods.pretrain import _memory
from sslpipe.methods.pretrain import feature_decoupling as module
from sslpipe.methods.pretrain.feature_decoupling import Method, Settings
from sslpipe.nets.heads import LinearSettings, build_head
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.network import BackboneSettings, build_network
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
    terms = losses_of(method, batch_of(digits, torch.arange(20)), torch.Generator().manual_seed(0))
    expected = 2 * terms["rotation"] + 3 * terms["agreement"] + 0.5 * terms["instances"]
    torch.testing.assert_close(terms["loss"], expected)


def test_visited_rows_of_both_memories_move(digits, network):
    method = build(digits, network, momentum=0.5).eval()
    memory, index = method.memory.rows.clone(), torch.tensor([3, 7, 290])
    losses_of(method, batch_of(digits, index), torch.Generator().manual_seed(0))
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
        losses_of(method, batch_of(digits, index), torch.Generator().manual_seed(0))
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
        losses_of(method, batch_of(digits, torch.arange(5)), torch.Generator().manual_seed(seed))
    assert noises[0].shape == (32,)
    assert not torch.equal(*noises)
    assert method.loss_at_chance() == {"instances": torch.tensor(33.0, dtype=torch.float64).log().item()}


@pytest.mark.parametrize(("negatives", "rows"), [(0, 300), (1, 2), (299, 300), (300, 300), (4096, 300)])
def test_as_many_sampled_rows_as_images_are_all_rows(digits, network, monkeypatch, negatives, rows):
    method = build(digits, network, negatives=negatives)
    noises = []
    monkeypatch.setattr(module, "instance_softmax", lambda *given, **_: noises.append(given[3]) or given[0].sum())
    losses_of(method, batch_of(digits, torch.arange(5)), torch.Generator().manual_seed(0))
    sampled = 0 < negatives < 300
    assert (noises[0] is not None) == sampled
    if sampled:
        assert len(noises[0]) == negatives
    assert method.loss_at_chance() == {"instances": pytest.approx(log(rows))}


def test_noise_contrast_has_rows_of_its_own_for_each_image(digits, network, monkeypatch):
    """Public code: -log h of the own row, -log (1 - h) of each noise row, h = P / (P + M/N), P = exp(v·f / τ) / Z."""
    method = build(digits, network, instances="nce", negatives=8, normalizer="first_batch", temperature=0.5).eval()
    noises, nce = [], _memory.nce
    monkeypatch.setattr(_memory, "nce", lambda *given, **named: noises.append(given[2]) or nce(*given, **named))
    index, memory = torch.tensor([3, 7, 290]), method.memory.rows.clone()
    terms = losses_of(method, batch_of(digits, index), torch.Generator().manual_seed(0))
    embedding, noise = method._latest[1], noises[0]
    assert noise.shape == (3, 8)
    assert not torch.equal(noise[0], noise[1])
    scores = [[float((v @ memory[j] / 0.5).exp()) for j in row] for v, row in zip(embedding, noise, strict=True)]
    z = 300 * sum(map(sum, scores)) / 24
    loss = 0.0
    for b in range(3):
        own = float((embedding[b] @ memory[index[b]] / 0.5).exp()) / z
        loss -= log(own / (own + 8 / 300)) / 3
        loss -= sum(log(1 - score / z / (score / z + 8 / 300)) for score in scores[b]) / 3
    assert terms["instances"].item() == pytest.approx(loss, rel=1e-4)
    assert method.loss_at_chance() == {}
    with pytest.raises(UserError, match="negatives: 0 found, expected at least 1 with instances: nce"):
        Settings(instances="nce", negatives=0)


def rotnet_folder(digits, info, folder, outputs=4):
    """A model of RotNet with random weights, and its network."""
    trained = build_network(BackboneSettings(name="tiny_resnet"), info)
    trained.head = build_head(LinearSettings(outputs=outputs), trained.backbone.dimension)
    save_model(folder, trained, card_for("pretrain", info, {}, parent=None))
    return trained.eval()


def test_a_trained_rotnet_says_which_rotated_images_look_upright(digits, info, network, tmp_path):
    torch.manual_seed(1)
    trained = rotnet_folder(digits, info, tmp_path)
    given = replace(pretext_given(digits, network), info=info)
    method = Method(Settings(outputs=16, negatives=0, rotnet=str(tmp_path)), given)
    image = digits[0][torch.arange(300)].float() / 255
    with torch.no_grad():
        expected = torch.stack([trained(image.rot90(turns, (2, 3))).softmax(dim=1)[:, 0] for turns in (1, 2, 3)])
    torch.testing.assert_close(method.upright, expected)
    assert method.settings.files_read == (tmp_path / "model.safetensors",)
    losses_of(method, batch_of(digits, torch.arange(20)), torch.Generator().manual_seed(0))
    method.after_step()
    assert torch.equal(method.upright, expected.to(method.upright))


def test_another_model_than_rotnets_is_refused(digits, info, network, tmp_path):
    rotnet_folder(digits, info, tmp_path, outputs=10)
    given = replace(pretext_given(digits, network), info=info)
    with pytest.raises(UserError, match=r"feature_decoupling.rotnet: .* found, which predicts no rotations"):
        Method(Settings(rotnet=str(tmp_path)), given)


def test_views_by_default_are_those_of_the_public_code():
    views = Settings().views.resolved()
    assert (views.crop_scale, views.crop_ratio, views.flip) == ((0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    assert not any((views.shift, views.brightness, views.gray, views.blur, views.cutout, views.operations))
