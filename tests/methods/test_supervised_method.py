from dataclasses import replace

import pytest
import torch
from every_method import LABELLED_METHODS, losses_of

from sslpipe.data.held_out import HeldOut
from sslpipe.engine.method import Progress
from sslpipe.methods.semisup.supervised import Method, Settings
from sslpipe.nets.heads import LinearHead, LinearSettings
from sslpipe.nets.inference import infer


def training_accuracy(network, labelled):
    prediction = infer(network.eval(), labelled.images)[labelled.index].argmax(dim=1)
    return (prediction == labelled.label).float().mean().item()


def test_a_logistic_head_knows_the_labelled_images_before_the_first_step(problem, labelled):
    assert training_accuracy(Method(Settings(head_init="logistic"), problem).selected(), labelled) == 1.0


def test_a_random_head_does_not(problem, labelled):
    assert training_accuracy(Method(Settings(), problem).selected(), labelled) < 0.5


@pytest.mark.parametrize("head_init", ["random", "logistic"])
def test_a_start_that_knows_the_classes_keeps_its_head(problem, head_init):
    problem.network.head = known = LinearHead(problem.network.backbone.dimension, LinearSettings(outputs=10))
    before = known.weight.clone()
    method = Method(Settings(head_init=head_init), problem)
    assert method.network.head is known
    assert torch.equal(known.weight, before)


def test_a_head_of_other_width_is_replaced(problem):
    problem.network.head = LinearHead(problem.network.backbone.dimension, LinearSettings(outputs=12))
    assert Method(Settings(), problem).network.head.out_features == 10


def test_the_held_out_accuracy_is_that_of_eval_mode(problem, digits):
    known = replace(problem, held_out=HeldOut(digits[1], torch.as_tensor(digits[3])))
    method = Method(Settings(ema_decay=None), known).train()
    modes = []
    method.network.register_forward_hook(lambda module, *_: modes.append(module.training))
    method.after_epoch({})
    assert modes == [False]


def test_the_average_follows_with_a_warm_up(problem):
    method = Method(Settings(ema_decay=0.5), problem)
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


def test_without_an_average_the_weights_are_kept_as_they_are(problem):
    method = Method(Settings(ema_decay=None), problem)
    method.after_step()
    assert method.selected() is method.network


def test_unlabelled_images_do_not_count(problem, pair, digits):
    method = Method(Settings(), problem)
    others = replace(pair, unlabelled=replace(pair.unlabelled, image=pair.unlabelled.image.flip(0)))
    first, second = (losses_of(method, each, torch.Generator().manual_seed(0))["loss"] for each in (pair, others))
    assert torch.equal(first, second)


def test_reports_accuracy_on_held_out_images_with_a_known_label(problem, digits):
    label = torch.as_tensor(digits[3]).clone()
    label[:50] = -1
    method = Method(Settings(), replace(problem, held_out=HeldOut(digits[1], label)))
    row = method.after_epoch({})
    prediction = infer(method.selected(), digits[1]).argmax(dim=1)
    assert row == {"monitor/held_out_acc": pytest.approx((prediction == label)[50:].float().mean().item())}
    blind = Method(Settings(), replace(problem, held_out=HeldOut(digits[1], torch.full_like(label, -1))))
    assert blind.after_epoch({}) == {}


@pytest.mark.parametrize("name", LABELLED_METHODS)
def test_a_batch_need_not_have_all_classes(name, digits, network, pair, generator):
    _, method = LABELLED_METHODS[name](digits, network)
    method.progress = Progress(6, 20, 4)  # the alternation is in a semi-supervised epoch
    some = replace(pair, labelled=replace(pair.labelled, label=pair.labelled.label % 3))
    terms = losses_of(method.train(), some, generator)
    assert all(term.isfinite() for term in terms.values())
