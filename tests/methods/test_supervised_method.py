from dataclasses import replace

import pytest
import torch

from sslpipe.engine.method import Progress
from sslpipe.methods.semisup.supervised import Learner, Settings
from sslpipe.methods.watch import Watch
from sslpipe.nets.heads import LinearHead, LinearSettings
from sslpipe.nets.inference import infer


def training_accuracy(network, labelled):
    answer = infer(network.eval(), labelled.images)[labelled.index].argmax(dim=1)
    return (answer == labelled.label).float().mean().item()


def test_a_fitted_head_knows_the_labelled_images_before_the_first_step(task, labelled):
    assert training_accuracy(Learner(Settings(head="fitted"), task).selected(), labelled) == 1.0


def test_a_drawn_head_does_not(task, labelled):
    assert training_accuracy(Learner(Settings(), task).selected(), labelled) < 0.5


@pytest.mark.parametrize("head", ["drawn", "fitted"])
def test_a_start_that_knows_the_classes_keeps_its_head(task, head):
    task.network.head = known = LinearHead(task.network.backbone.dimension, LinearSettings(outputs=10))
    before = known.weight.clone()
    method = Learner(Settings(head=head), task)
    assert method.network.head is known
    assert torch.equal(known.weight, before)


def test_a_head_of_other_width_is_replaced(task):
    task.network.head = LinearHead(task.network.backbone.dimension, LinearSettings(outputs=12))
    assert Learner(Settings(), task).network.head.out_features == 10


def test_the_average_follows_with_a_warm_up(task):
    method = Learner(Settings(decay=0.5), task)
    weight = method.network.head.weight
    expected = weight.detach().clone()
    for step in range(1, 12):
        with torch.no_grad():
            weight += 1
        method.progress = Progress(step, 20, 4)
        method.after_step()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(method.averaged.module.head.weight, expected)
    assert method.selected() is method.averaged.module


def test_without_an_average_the_weights_are_kept_as_they_are(task):
    method = Learner(Settings(decay=None), task)
    method.after_step()
    assert method.selected() is method.network


def test_unlabelled_images_do_not_count(task, pair, digits):
    method = Learner(Settings(), task)
    others = replace(pair, unlabelled=replace(pair.unlabelled, image=pair.unlabelled.image.flip(0)))
    first, second = (method.losses(each, torch.Generator().manual_seed(0))["loss"] for each in (pair, others))
    assert torch.equal(first, second)


def test_watches_held_out_images_where_a_label_is_known(task, digits):
    label = torch.as_tensor(digits[3]).clone()
    label[:50] = -1
    method = Learner(Settings(), replace(task, watch=Watch(digits[1], label)))
    row = method.after_epoch({})
    answer = infer(method.selected(), digits[1]).argmax(dim=1)
    assert row == {"monitor/held_out_acc": pytest.approx((answer == label)[50:].float().mean().item())}
    blind = Learner(Settings(), replace(task, watch=Watch(digits[1], torch.full_like(label, -1))))
    assert blind.after_epoch({}) == {}
