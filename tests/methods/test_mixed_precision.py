"""Mixed precision loses no gradient.

Within one autocast block torch keeps the cast weights. Before version 2.11, weights that were cast without gradients,
for a method's targets, were kept without them, and the forward of the student had no gradient.
"""

import copy
from dataclasses import replace

import pytest
import torch
from every_method import METHODS, stream_of
from torch import nn

from sslpipe.engine import trainer


def bfloat16(device):
    return torch.autocast(device.type, dtype=torch.bfloat16)


def test_weights_that_were_cast_without_gradients_get_them_later():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    images = torch.rand(2, 1, 4, 4)
    with bfloat16(images.device):
        with torch.no_grad():
            network(images)
        loss = network(images).float().square().sum()
    assert loss.requires_grad
    loss.backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_step_has_the_gradients_of_a_step_in_float32(name, digits, network, monkeypatch):
    def with_gradient():
        settings, method = METHODS[name](digits, copy.deepcopy(network))
        batches = stream_of(digits, settings, method, 75)
        trainer.Trainer(method.train(), batches, replace(settings.fit, batch=75), seed=0).step(0)
        return {each for each, weight in method.named_parameters() if weight.grad is not None}

    expected = with_gradient()
    monkeypatch.setattr(trainer, "autocast", bfloat16)
    assert with_gradient() == expected
