from dataclasses import replace

import pytest
import torch
from every_method import CROP, PROJECTION, batch_of, losses_of, pretext_given

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain.byol import Method, Settings
from sslpipe.views.policies import ViewSettings


def build(digits, network, **settings):
    given = {"projection": PROJECTION, "prediction": PROJECTION, "views": CROP, "second_views": CROP}
    return Method(Settings(**given | settings), pretext_given(digits, network))


def unit(vector):
    return vector / vector.norm()


@pytest.mark.parametrize("statistics", [None, "separate", "joint"])
def test_the_loss_is_the_sum_over_both_views_each_of_which_has_a_pass(digits, network, statistics):
    """Algorithm 1 image by image, in training; by default each view is normalised by its own statistics."""
    plain, flipped = ViewSettings(policy="plain"), ViewSettings(policy="plain", flip=1.0)
    chosen = {"batch_statistics": statistics} if statistics else {}
    method = build(digits, network, views=plain, second_views=flipped, **chosen).train()
    batch = batch_of(digits, 20)
    first = batch.image.float() / 255
    views, target = (first, first.flip(3)), method.target.module
    with torch.no_grad():
        if statistics == "joint":
            predictions = method.predictor(network(torch.cat(views))).chunk(2)
            projections = target(torch.cat(views)).chunk(2)
        else:
            predictions = [method.predictor(network(view)) for view in views]
            projections = [target(view) for view in views]
    expected = 0.0
    for image in range(20):
        for view, other in ((0, 1), (1, 0)):
            distance = unit(predictions[view][image]) - unit(projections[other][image])
            expected += float(distance.square().sum()) / 20
    loss = losses_of(method, batch, torch.Generator().manual_seed(0))["loss"]
    assert loss.item() == pytest.approx(expected, rel=1e-4)


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
    losses_of(method.train(), batch, torch.Generator().manual_seed(0))["loss"].backward()
    assert all(weight.grad is not None for weight in method.predictor.parameters())
    assert all(weight.grad is None for weight in method.target.parameters())
    assert not any("predictor" in name for name in method.selected().state_dict())


def test_the_predictor_is_a_network_from_projections_to_projections(digits, network):
    method = build(digits, network, prediction=replace(PROJECTION, outputs=99))
    given = torch.randn(20, 16)
    prediction = method.predictor(given)
    assert prediction.shape == (20, 16)
    assert not torch.allclose(prediction, given, atol=0.1)
