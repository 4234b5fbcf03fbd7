import pytest
import torch
from every_method import CROP, SMALL_CROP, WEAK, losses_of
from torch.nn import functional as F

from sslpipe.engine.method import Progress
from sslpipe.io.errors import UserError
from sslpipe.methods.semisup.suave import Method, Settings
from sslpipe.objectives.swav import sinkhorn


def build(problem, **settings):
    given = {"views": WEAK, "hidden": 32, "outputs": 16, "global_views": CROP, "local_views": SMALL_CROP}
    return Method(Settings(**given | {"local_crops": 2, "queue": 0} | settings), problem)


def embeddings(count, seed):
    return F.normalize(torch.randn(2, count, 16, generator=torch.Generator().manual_seed(seed)), dim=2)


def test_the_queue_is_used_once_it_is_full(problem):
    method = build(problem, queue=10, epsilon=0.1, iterations=4)
    scores = method.network.head.scores
    earlier = torch.empty(2, 0, 16)
    for seed in range(5):
        method.progress = Progress(seed, 5, 5)
        batch = embeddings(4, seed)
        targets = method.assign(torch.empty(0), batch)
        for crop in range(2):
            context = earlier[crop, -10:] if earlier.shape[1] >= 10 else earlier[crop, :0]
            whole = sinkhorn(scores(torch.cat([context, batch[crop]])), epsilon=0.1, iterations=4)
            torch.testing.assert_close(targets[crop], whole[-4:])
        alone = sinkhorn(scores(batch[0]), epsilon=0.1, iterations=4)
        assert torch.allclose(targets[0], alone, atol=1e-5) is (seed < 3)
        earlier = torch.cat([earlier, batch], dim=1)


def test_every_class_gets_its_share_of_a_batch(problem):
    method = build(problem, epsilon=0.1, iterations=200)
    batch = embeddings(40, 0) + 0.3 * torch.ones(16)  # one prototype is nearest to most
    targets = method.assign(torch.empty(0), F.normalize(batch, dim=2))
    torch.testing.assert_close(targets.sum(dim=2), torch.ones(2, 40))
    torch.testing.assert_close(targets.sum(dim=1), torch.full((2, 10), 4.0), rtol=1e-3, atol=1e-3)


def test_each_crop_has_a_queue_of_its_own(problem):
    method = build(problem, queue=8)
    batch = embeddings(4, 0)
    method.assign(torch.empty(0), batch)
    assert torch.equal(method.assignment.queue.rows[:4], batch.transpose(0, 1))
    assert not torch.equal(method.assignment.queue.rows[:4, 0], method.assignment.queue.rows[:4, 1])


@pytest.mark.parametrize("momentum", [False, True])
def test_a_momentum_encoder_assigns_in_the_networks_place(problem, momentum):
    method = build(problem, momentum_encoder=momentum, ema_decay=0.9, queue=30, teacher_statistics="averaged")
    crops, batch = torch.rand(2, 30, 1, 8, 8), embeddings(30, 0)
    network = method.averaged.module if momentum else method.network
    with torch.no_grad():
        network.head.prototypes.weight.add_(torch.randn(10, 16, generator=torch.Generator().manual_seed(1)))
        seen = torch.stack([network.head.embed(network.features(crop)) for crop in crops]) if momentum else batch
    targets = method.assign(crops, batch)
    for crop in range(2):
        expected = sinkhorn(network.head.scores(seen[crop]), epsilon=0.05, iterations=3)
        torch.testing.assert_close(targets[crop], expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(method.assignment.queue.rows[:, crop], seen[crop], rtol=1e-3, atol=1e-4)
    assert method.selected() is method.averaged.module


def test_a_momentum_encoder_has_no_warm_up_and_a_plain_average_has(problem):
    for momentum, decay in ((True, 0.99), (False, 2 / 11)):
        method = build(problem, momentum_encoder=momentum, ema_decay=0.99)
        method.progress = Progress(1, 100, 10)
        assert method.current_ema_decay() == pytest.approx(decay)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.99), (50, 0.995), (100, 1.0)])
def test_a_momentum_encoders_decay_rises_on_half_a_cosine(problem, step, decay):
    method = build(problem, momentum_encoder=True, ema_decay=0.99, final_ema_decay=1.0)
    method.progress = Progress(step, 100, 10)
    assert method.current_ema_decay() == pytest.approx(decay)


def test_a_rise_without_a_momentum_encoder_is_a_users_mistake():
    with pytest.raises(UserError, match=r"^final_ema_decay: 1 found, expected null without momentum_encoder$"):
        Settings(ema_decay=0.99, final_ema_decay=1.0)


def test_a_momentum_encoder_without_decay_is_a_users_mistake():
    with pytest.raises(UserError, match=r"^momentum_encoder: needs ema_decay, such as 0\.99$"):
        Settings(momentum_encoder=True)


def test_the_loss_is_equation_3_crop_by_crop(problem, pair, generator, monkeypatch):
    """Terms of images without mixing, from the network's logits and the assignments, by loops."""
    method = build(problem, mix_labelled=False, mix_unlabelled="none", monitors=False, label_smoothing=0.2)
    given = {}
    features, assign = method.network.features_of, method.assign
    monkeypatch.setattr(method.network, "features_of", lambda views: given.setdefault("features", features(views)))
    monkeypatch.setattr(method, "assign", lambda *a: given.setdefault("targets", assign(*a)))
    terms = losses_of(method, pair, generator)
    joint = method.network.head(torch.cat(given["features"])).log_softmax(dim=1).double().detach()
    labelled, *crops = torch.split(joint, [20, 30, 30, 30, 30])
    total = count = 0
    for logits, label in zip(labelled, pair.labelled.label, strict=True):
        total -= 0.8 * logits[label] + 0.2 * logits.mean()
        count += 1
    swapped, pairs = 0, 0
    for other, target in enumerate(given["targets"]):
        for view, logits in enumerate(crops):
            if view != other:
                swapped -= (target.double() * logits).sum() / 30
                pairs += 1
    assert terms["labelled"].item() == pytest.approx(float(total / count), rel=1e-4)
    assert terms["swapped"].item() == pytest.approx(float(swapped / pairs), rel=1e-4)
    assert terms["loss"].item() == pytest.approx(float(total / 20 * 20 / 140 + swapped / pairs * 120 / 140), rel=1e-4)
