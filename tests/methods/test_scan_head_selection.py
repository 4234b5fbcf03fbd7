"""With select_head_by train SCAN keeps the head of the lowest training loss, averaged over the last hundreds of steps.

Heads learn on cached features here, so that a step is one product and their weights set their losses.
"""

import pytest
import torch
from every_method import losses_of

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.methods.cluster.scan import Method, Neighborhood, Problem, Settings
from sslpipe.objectives.scan import scan

GOOD, FAIR, BAD = 20.0, 1.5, 0.0
"""Logits of an image's own group; the losses are -2 ln 10 = -4.6, -2.8 and -ln 10 = -2.3."""


@pytest.fixture
def method(digits, network):
    """Two heads on features that say the group of each image; its only neighbour is of the same group."""
    hoods = []
    for images in digits[:2]:
        number = torch.arange(len(images))
        features = torch.eye(network.backbone.dimension)[number % 10]
        hoods.append(Neighborhood(images, ((number + 10) % len(images))[:, None], features))
    chosen = Settings(clusters=10, heads=2, neighbors=1, select_head_by="train", head_epochs=1)
    return Method(chosen, Problem(network, *hoods))


@torch.no_grad()
def train(method, *own_logits, steps=1, seed=0):
    """Some steps with fixed heads, whose losses are set by the logit of an image's own group: [heads] each."""
    linear, losses = method.network.head.linear, []
    linear.bias.zero_()
    linear.weight.zero_()
    linear.weight[:, :10] = torch.cat([logit * torch.eye(10) for logit in own_logits])
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randperm(300, generator=generator)[:50]
        losses_of(method, Batch(image=method.train_set.images[index], index=index), generator)
        logits = [method.network.head(method.train_set.features[i]) for i in (index, (index + 10) % 300)]
        losses.append(scan(*logits, entropy_weight=2.0)["loss"])
    return losses


def selected_head(method):
    method.progress = Progress(step=1)
    method.after_epoch({})
    return int(method.best_head)


def test_the_average_moves_by_a_hundredth_of_each_steps_loss(method):
    average = [0.0, 0.0]
    for step, own_logits in enumerate([(0, 3), (1, 2), (9, 0), (0.5, 0.5), (2, 1), (4, 5), (20, 0), (3, 3)]):
        for losses in train(method, *own_logits, steps=5, seed=step):
            average = [0.99 * average[head] + 0.01 * float(losses[head]) for head in range(2)]
        assert method.train_losses.tolist() == pytest.approx(average, rel=1e-4)
    assert selected_head(method) == average.index(min(average))


def test_a_head_that_was_good_and_is_bad_now_is_not_selected(method):
    train(method, GOOD, FAIR, steps=300)
    train(method, BAD, FAIR, steps=300)
    assert selected_head(method) == 1


def test_a_few_good_batches_do_not_select_a_head(method):
    train(method, BAD, FAIR, steps=300)
    train(method, GOOD, FAIR, steps=10)
    assert selected_head(method) == 1


def test_a_head_that_was_bad_and_is_good_now_is_selected(method):
    train(method, BAD, FAIR, steps=300)
    train(method, GOOD, FAIR, steps=100)
    assert selected_head(method) == 0
