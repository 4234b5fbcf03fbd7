"""The terms that need the whole batch gather the rows of all processes; here the other process has the same batch."""

import copy

import pytest
import torch
from every_method import CROP, METHODS, PROJECTION, batch_of, outputs_of, pretext_given, tiny_problem
from torch.nn import functional as F

from sslpipe.engine import world
from sslpipe.methods._sinkhorn import SinkhornAssignment
from sslpipe.methods.pretrain import moco, simclr
from sslpipe.methods.semisup import simmatch
from sslpipe.methods.semisup._alignment import DistributionAlignment
from sslpipe.nets.heads import PrototypeHead, PrototypeSettings
from sslpipe.objectives.simclr import nt_xent
from sslpipe.objectives.swav import sinkhorn


@pytest.fixture
def other(monkeypatch):
    """A list of the other process's tensors, to be gathered in turn; it begins empty: they are equal to one's own."""
    rows = []
    monkeypatch.setattr(world, "size", lambda: 2)
    monkeypatch.setattr(world, "rank", lambda: 1)
    monkeypatch.setattr(world, "gather", lambda x: torch.cat([rows.pop(0) if rows else x, x]))
    return rows


def test_assignments_are_balanced_over_all_processes_and_each_has_its_own(other):
    torch.manual_seed(0)
    head = PrototypeHead(6, PrototypeSettings(prototypes=4, hidden=8, outputs=5))
    theirs, own = F.normalize(torch.randn(2, 2, 3, 5), dim=3)
    other.append(theirs.transpose(0, 1))
    assignment = SinkhornAssignment(queue=0, outputs=5, epsilon=0.1, iterations=3)(head, own, step=0)
    expected = sinkhorn(head.scores(torch.cat([theirs, own], dim=1)), epsilon=0.1, iterations=3)[:, 3:]
    torch.testing.assert_close(assignment, expected)


def test_the_average_prediction_is_that_of_all_processes(other):
    theirs, own = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=2)
    other.append(theirs)
    expected = own / torch.cat([theirs, own]).mean(dim=0)
    found = DistributionAlignment(4, steps=3)(own)
    torch.testing.assert_close(found, expected / expected.sum(dim=1, keepdim=True))


def test_simclr_contrasts_with_the_images_of_all_processes(digits, network, generator, other):
    method = simclr.Method(simclr.Settings(views=CROP), pretext_given(digits, network)).train()
    seen = outputs_of(network)
    loss = method.losses(batch_of(digits, 20), generator)["loss"].detach()
    first, second = seen[0].chunk(2)
    expected = nt_xent(first.repeat(2, 1), second.repeat(2, 1), temperature=method.settings.temperature)
    torch.testing.assert_close(loss, expected)


def test_mocos_queue_takes_the_keys_of_all_processes(digits, network, generator, other):
    settings = moco.Settings(projection=PROJECTION, views=CROP, queue=45)
    method = moco.Method(settings, pretext_given(digits, network)).train()
    before, keys = method.queue.rows.clone(), outputs_of(method.averaged.module)
    method.losses(batch_of(digits, 20), generator)
    torch.testing.assert_close(method.queue.rows[:40], F.normalize(keys[0], dim=1).repeat(2, 1))
    assert torch.equal(method.queue.rows[40:], before[40:])


def test_scans_heads_are_scored_on_the_images_of_all_processes(digits, network, generator, other):
    _, method = METHODS["cluster/scan"](digits, network)
    anchors, neighbors = method._logits(batch_of(digits, 20), torch.arange(20, 40), generator)
    assert anchors.shape == neighbors.shape == (2, 40, 10)
    for logits in (anchors, neighbors):
        assert torch.equal(logits[:, :20], logits[:, 20:])


def test_simmatchs_memory_takes_the_embeddings_of_all_processes(digits, network, other):
    method = simmatch.Method(simmatch.Settings(outputs=8), tiny_problem(digits, network))
    alone = copy.deepcopy(method)
    theirs, own = F.normalize(torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)), dim=2)
    other += [torch.tensor([3, 7, 9]), theirs]
    method._remember(torch.tensor([3, 0, 1]), own)
    for image, mean in ((3, (theirs[0] + own[0]) / 2), (7, theirs[1]), (0, own[1])):
        moved = F.normalize(0.7 * alone.bank[image] + 0.3 * mean, dim=0)
        torch.testing.assert_close(method.bank[image], moved)


@pytest.mark.parametrize("name", ["pretrain/dino", "semisup/daino"])
def test_the_center_is_the_mean_of_all_processes(digits, network, pair, generator, other, name):
    _, method = METHODS[name](digits, network)
    network_of = method.teacher if name == "pretrain/dino" else method.averaged
    scores = []
    scores_of = network_of.module.head.scores
    network_of.module.head.scores = lambda embedding: scores.append(scores_of(embedding)) or scores[-1]
    count = 20 if name == "pretrain/dino" else 30
    other.append(torch.ones(2 * count, method.center.shape[0]))
    method.losses(batch_of(digits, 20) if name == "pretrain/dino" else pair, generator)
    torch.testing.assert_close(method.center, 0.1 * (1 + scores[0].detach().mean(dim=0)) / 2, rtol=1e-4, atol=1e-6)
