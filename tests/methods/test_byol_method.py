from dataclasses import replace

import pytest
import torch
from every_method import CROP, PROJECTION, pretext_given

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain.byol import Method, Settings
from sslpipe.objectives.byol import regression
from sslpipe.views.policies import ViewSettings


def build(digits, network, **settings):
    given = {"projection": PROJECTION, "prediction": PROJECTION, "views": CROP, "second_views": CROP}
    return Method(Settings(**given | settings), pretext_given(digits, network))


def test_each_view_predicts_the_targets_projection_of_the_other(digits, network):
    plain, noisy = ViewSettings(policy="plain"), ViewSettings(policy="plain", flip=1.0)
    method = build(digits, network, views=plain, second_views=noisy).eval()
    index = torch.arange(20)
    image = digits[0][index]
    loss = method.losses(Batch(image=image, index=index), torch.Generator().manual_seed(0))["loss"]
    first = image.float() / 255
    second = first.flip(3)
    target = method.target.module
    expected = regression(method.predictor(network(first)), target(second)) / 2
    expected += regression(method.predictor(network(second)), target(first)) / 2
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.9), (50, 0.95), (100, 1.0)])
def test_the_target_slows_down_to_a_stop(digits, network, step, decay):
    method = build(digits, network, ema_decay=0.9)
    method.progress = Progress(step, 100, 10)
    before = method.target.module.head[-1].bias.clone()
    with torch.no_grad():
        network.head[-1].bias.add_(1.0)
    method.after_step()
    torch.testing.assert_close(method.target.module.head[-1].bias, before + (1 - decay))


def test_the_predictor_learns_and_is_left_behind(digits, network):
    method = build(digits, network)
    index = torch.arange(20)
    batch = Batch(image=digits[0][index], index=index)
    method.train().losses(batch, torch.Generator().manual_seed(0))["loss"].backward()
    assert all(weight.grad is not None for weight in method.predictor.parameters())
    assert all(weight.grad is None for weight in method.target.parameters())
    assert not any("predictor" in name for name in method.selected().state_dict())


def test_the_predictor_is_a_network_from_projections_to_projections(digits, network):
    method = build(digits, network, prediction=replace(PROJECTION, outputs=99))
    given = torch.randn(20, 16)
    prediction = method.predictor(given)
    assert prediction.shape == (20, 16)
    assert not torch.allclose(prediction, given, atol=0.1)
