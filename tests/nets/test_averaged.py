"""Averaged weights against plain loops over numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslpipe.nets.averaged import AveragedWeights, warm_decay


class Odd(nn.Module):
    """A parameter and buffers of every sort, one of them not in the state_dict."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten())
        self.register_buffer("center", torch.randn(4), persistent=False)
        self.register_buffer("seen", torch.tensor([False, True]))

    def forward(self, x):
        return self.layers(x)


def numbers(module):
    return {name: t.clone() for name, t in [*module.named_parameters(), *module.named_buffers()]}


def disturb(module):
    """As a training step would: weights move, batch norms count and follow, other buffers change."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
        module(torch.randn(5, 1, 4, 4))
        module.center.normal_()
        module.seen.logical_not_()


@settings(max_examples=20, deadline=None)
@given(decay=st.floats(0, 1), steps=st.integers(1, 4))
def test_average_is_the_plain_loop_over_parameters_and_buffers(decay, steps):
    torch.manual_seed(0)
    module = Odd()
    averaged = AveragedWeights(module)
    expected = numbers(module)
    for _ in range(steps):
        disturb(module)
        averaged.update(module, decay=decay)
        for name, value in numbers(module).items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value
    found = numbers(averaged.module)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)
    assert found["layers.1.num_batches_tracked"] == steps


def test_average_of_itself_stays_bit_for_bit():
    module = Odd()
    averaged = AveragedWeights(module)
    averaged.update(module, decay=0.9)
    before = numbers(module)
    assert all(torch.equal(value, before[name]) for name, value in numbers(averaged.module).items())


def test_the_source_is_left_alone_and_shares_nothing():
    module = Odd()
    averaged = AveragedWeights(module)
    start = numbers(averaged.module)
    disturb(module)
    assert all(torch.equal(value, start[name]) for name, value in numbers(averaged.module).items())
    before = numbers(module)
    averaged.update(module, decay=0.5)
    assert all(torch.equal(value, before[name]) for name, value in numbers(module).items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_stays_in_eval_mode_without_gradients():
    module = Odd().train()
    holder = nn.ModuleList([AveragedWeights(module)]).train()
    assert not any(part.training for part in holder[0].modules())
    assert module.training
    answer = holder[0](torch.randn(3, 1, 4, 4))
    assert not answer.requires_grad
    assert not any(parameter.requires_grad for parameter in holder.parameters())
    assert holder[0].module.layers[1].num_batches_tracked == 0


def test_state_dict_carries_the_average():
    module = Odd()
    averaged = AveragedWeights(module)
    disturb(module)
    averaged.update(module, decay=0.7)
    other = AveragedWeights(Odd())
    other.load_state_dict(averaged.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(averaged.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert {"module.layers.0.weight", "module.layers.1.running_var", "module.seen"} <= averaged.state_dict().keys()


def test_another_structure_is_refused():
    averaged = AveragedWeights(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="zip"):
        averaged.update(nn.Linear(2, 3, bias=False), decay=0.9)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (1, 2 / 11), (8, 0.5), (8989, 0.999), (10**6, 0.999)])
def test_warm_decay(step, expected):
    assert warm_decay(step, decay=0.999) == pytest.approx(expected, rel=1e-4)


def test_own_statistics_are_those_of_its_own_batches():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.9))
    average = AveragedWeights(module.train(), own_statistics=True)
    batch = 5 + torch.randn(50, 3)
    outputs = average(batch)
    torch.testing.assert_close(outputs.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-4)  # the batch's, and no dropout
    torch.testing.assert_close(average.module[1].running_mean, 0.1 * average.module[0](batch).mean(dim=0))
    assert module[1].running_mean.abs().sum() == 0
    before = average.module[1].running_mean.clone()
    with torch.no_grad():
        module[0].bias.add_(1.0)
    expected = average.module[0].bias + 0.5
    average.update(module, decay=0.5)
    torch.testing.assert_close(average.module[0].bias, expected)
    assert torch.equal(average.module[1].running_mean, before)
    average.eval()(batch)
    assert torch.equal(average.module[1].running_mean, before)
