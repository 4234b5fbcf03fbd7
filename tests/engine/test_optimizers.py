import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from sslpipe.engine.optimizers import LARS, OptimizerSettings, build_optimizer, clip_gradients, skip_update
from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse


@dataclass(frozen=True)
class Fit:
    optimizer: OptimizerSettings = OptimizerSettings(name="sgd", lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.01)


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def train(net, optimizer, steps=4):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 4, generator=generator)).square().sum().backward()
        optimizer.step()


def test_rates_of_weights_stand_in_their_groups():
    net = small_net()
    settings = OptimizerSettings(name="sgd", lr=0.5, momentum=0.0, weight_decay=0.1)
    optimizer = build_optimizer(settings, net, lambda name: 0.1 if name.startswith("0.") else 1.0)
    before = copy.deepcopy(net.state_dict())
    for weight in net.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    for name, weight in net.named_parameters():
        factor = 0.1 if name.startswith("0.") else 1.0
        gradient = 1 + (0.1 * before[name] if weight.ndim > 1 else 0)
        torch.testing.assert_close(weight, before[name] - 0.5 * factor * gradient)
    assert sorted({group["rate"] for group in optimizer.param_groups}) == [0.1, 1.0]


@pytest.mark.parametrize("scale_all", [False, True])
def test_lars_equals_its_algorithm_by_loops(scale_all):
    lr, momentum, decay, trust = 0.3, 0.9, 0.01, 0.02
    net, reference = small_net(), small_net()
    settings = OptimizerSettings(
        name="lars", lr=lr, momentum=momentum, weight_decay=decay, trust=trust, scale_all=scale_all
    )
    train(net, build_optimizer(settings, net))
    generator = torch.Generator().manual_seed(1)
    velocity = [torch.zeros_like(w) for w in reference.parameters()]
    for _ in range(4):
        reference.zero_grad()
        reference(torch.randn(8, 4, generator=generator)).square().sum().backward()
        for i, weight in enumerate(reference.parameters()):
            is_matrix = weight.ndim > 1
            with torch.no_grad():
                gradient = weight.grad + (decay * weight if is_matrix else 0)
                ratio = 1.0
                if (is_matrix or scale_all) and weight.norm() > 0 and gradient.norm() > 0:
                    ratio = trust * weight.norm() / gradient.norm()
                velocity[i] = momentum * velocity[i] + lr * ratio * gradient
                weight -= velocity[i]
    for mine, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_lars_is_swavs_run_if_it_scales_and_decays_all_weights():
    # LARC without clipping around SGD: g ← η |w| / (|g| + β |w|) · (g + β w) for every weight whose norms are not 0,
    # then v ← μ v + g, w ← w - lr · v.
    lr, momentum, decay, trust = 0.6, 0.9, 1e-6, 0.001
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 2))
    reference = copy.deepcopy(net)
    settings = OptimizerSettings(
        name="lars", lr=lr, momentum=momentum, weight_decay=decay, trust=trust, scale_all=True, decay_all=True
    )
    optimizer = build_optimizer(settings, net)
    velocity = [torch.zeros_like(w) for w in reference.parameters()]
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        images = torch.randn(8, 4, generator=generator)
        for each in (net, reference):
            each.zero_grad()
            each(images).square().sum().backward()
        optimizer.step()
        for i, weight in enumerate(reference.parameters()):
            with torch.no_grad():
                gradient, size = weight.grad.clone(), weight.grad.norm()
                if weight.norm() > 0 and size > 0:
                    rate = trust * weight.norm() / (size + decay * weight.norm())
                    gradient = rate * (gradient + decay * weight)
                velocity[i] = momentum * velocity[i] + gradient
                weight -= lr * velocity[i]
    for mine, theirs in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_weight_of_zeros_has_the_ratio_1():
    weight = nn.Parameter(torch.zeros(3))
    weight.grad = torch.tensor([1.0, 2.0, -2.0])
    LARS([weight], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.001, scale_all=True).step()
    assert weight.tolist() == [-0.5, -1.0, 1.0]


def test_lars_makes_its_velocities_once(monkeypatch):
    net, made = small_net(), []
    optimizer = build_optimizer(OptimizerSettings(name="lars", lr=0.1), net)
    zeros_like = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda weight: made.append(weight.shape) or zeros_like(weight))
    train(net, optimizer, steps=3)
    assert sorted(made) == sorted(weight.shape for weight in net.parameters())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_biases_and_norms_do_not_decay_unless_asked(name):
    for decay_all in (False, True):
        net = small_net()
        before = copy.deepcopy(net.state_dict())
        optimizer = build_optimizer(OptimizerSettings(name=name, lr=0.1, weight_decay=0.1, decay_all=decay_all), net)
        for weight in net.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        moved = {key: not torch.equal(value, before[key]) for key, value in net.named_parameters()}
        assert moved["0.weight"]
        assert moved["1.weight"] == decay_all


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_every_optimiser_lowers_the_loss(name):
    net = small_net()
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(2))
    before = net(inputs).square().sum().item()
    own = {"trust": 0.5} if name == "lars" else {}
    train(net, build_optimizer(OptimizerSettings(name=name, lr=0.01, **own), net), steps=30)
    assert net(inputs).square().sum().item() < 0.7 * before


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_a_weight_may_begin_to_learn_later_than_others(name):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    optimizer = build_optimizer(OptimizerSettings(name=name, lr=0.1, momentum=0.9, weight_decay=0.1), model)
    late, drawn = model[1], model[1].weight.clone()
    for step in range(4):
        late.requires_grad_(step >= 2)
        optimizer.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        assert torch.equal(late.weight, drawn) is (step < 2)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_a_skipped_update_changes_nothing(name):
    # Three steps of which the second is skipped end as the two others alone do, weight decay and momentum included.
    def trained(gradients, skipped):
        module = nn.Linear(3, 2)
        with torch.no_grad():
            for weight in module.parameters():
                weight.copy_(torch.arange(weight.numel()).view_as(weight) / 5)
        optimizer = build_optimizer(OptimizerSettings(name=name, lr=0.1, weight_decay=0.1), module)
        for scale, skip in zip(gradients, skipped, strict=True):
            for weight in module.parameters():
                weight.grad = torch.full_like(weight, scale)
            skip_update(optimizer, torch.tensor(skip))
            optimizer.step()
        return list(module.parameters())

    for given, expected in zip(trained([1, 50, 2], [0.0, 1.0, 0.0]), trained([1, 2], [0.0, 0.0]), strict=True):
        torch.testing.assert_close(given, expected)


def test_saying_that_nothing_is_skipped_changes_nothing():
    def trained(said):
        weight = nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3))
        optimizer = LARS([weight], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
        for scale in (1.0, 3.0):
            weight.grad = scale * weight.detach().square()
            if said:
                skip_update(optimizer, torch.tensor(0.0))
            optimizer.step()
        return weight

    torch.testing.assert_close(trained(True), trained(False))


@pytest.mark.parametrize("largest", [0.1, 1e6])
def test_gradients_are_shortened_as_torch_does(largest):
    def clipped(clip):
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4)), nn.Parameter(torch.zeros(2))]
        for weight in weights[:2]:
            weight.grad = torch.randn_like(weight)
        clip(weights)
        return [weight.grad for weight in weights[:2]]

    def each(weights):
        for weight in weights:
            torch.nn.utils.clip_grad_norm_([weight], largest)

    for by, theirs in (("all", lambda weights: torch.nn.utils.clip_grad_norm_(weights, largest)), ("tensor", each)):
        mine = clipped(lambda weights, by=by: clip_gradients(weights, largest, by=by))
        for given, expected in zip(mine, clipped(theirs), strict=True):
            torch.testing.assert_close(given, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "adam", "nesterov": True}, "x.optimizer: nesterov is a setting of sgd, not of adam"),
        ({"name": "adamw", "momentum": 0.5}, "x.optimizer: momentum is a setting of sgd and lars, not of adamw"),
        ({"name": "lars", "betas": [0.9, 0.99]}, "x.optimizer: betas is a setting of adam and adamw, not of lars"),
        ({"trust": 0.01}, "x.optimizer: trust is a setting of lars, not of sgd"),
        ({"scale_all": True}, "x.optimizer: scale_all is a setting of lars, not of sgd"),
        ({"name": "sdg"}, "x.optimizer.name: unknown value 'sdg'; did you mean 'sgd'?"),
    ],
)
def test_a_setting_of_another_optimiser_is_refused(given, message):
    with pytest.raises(UserError) as error:
        parse(Fit, {"optimizer": given}, where="x")
    assert message in str(error.value)


def test_another_optimiser_keeps_of_a_default_what_it_takes():
    kept = parse(Fit, {"optimizer": {"name": "adam"}}, where="x").optimizer
    assert kept == OptimizerSettings(name="adam", lr=0.1, weight_decay=0.01)
    assert parse(Fit, {"optimizer": {"name": "lars"}}, where="x").optimizer.momentum == 0.5
    assert parse(Fit, {"optimizer": {"lr": 1}}, where="x").optimizer.nesterov
