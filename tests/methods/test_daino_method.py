import pytest
import torch
from every_method import CROPS, WEAK, losses_of

from sslpipe.engine.method import Progress
from sslpipe.methods.semisup.daino import Method, Settings


@pytest.fixture
def build(problem):
    def build_method(**settings):
        given = {"views": WEAK, "hidden": 32, "outputs": 16, **CROPS}
        return Method(Settings(**given | settings), problem)

    return build_method


def disturb(module, seed):
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))


def teacher_scores(method, monkeypatch):
    """A list that fills with the scores [G · B, C] that the teacher gives the global crops."""
    seen, head = [], method.averaged.module.head
    scores = head.scores
    monkeypatch.setattr(head, "scores", lambda embeddings: seen.append(scores(embeddings)) or seen[-1])
    return seen


def test_the_center_follows_equation_9(build, pair, monkeypatch):
    method = build(center_momentum=0.8)
    seen = teacher_scores(method, monkeypatch)
    expected = torch.zeros(10, dtype=torch.float64)
    for seed in range(3):
        losses_of(method, pair, torch.Generator().manual_seed(seed))
        rows = seen[seed].double()
        assert len(rows) == 2 * 30
        expected = torch.stack([0.8 * expected[k] + 0.2 * sum(row[k] for row in rows) / 60 for k in range(10)])
        torch.testing.assert_close(method.center.double(), expected, rtol=1e-4, atol=1e-6)
    assert len(seen) == 3
    assert torch.equal(method.state_dict()["center"], method.center)


def test_the_teacher_assigns_centred_and_sharpened_in_eval_mode(build):
    method = build(teacher_temperature=(0.05, 0.05), teacher_statistics="averaged")
    disturb(method.averaged.module, 0)
    center = torch.linspace(-0.3, 0.3, 10)
    method.center.copy_(center)
    crops = torch.rand(2, 7, 1, 8, 8)
    with torch.no_grad():
        targets = method.assign(crops, torch.empty(0))
    for crop in range(2):
        for image in range(7):
            teacher = method.averaged.module.eval()
            cosine = teacher.head.scores(teacher.head.embed(teacher.features(crops[crop, image : image + 1])))[0]
            expected = ((cosine - center) / 0.05).softmax(dim=0)
            torch.testing.assert_close(targets[crop, image], expected, rtol=1e-3, atol=1e-4)
    assert not targets.requires_grad


def test_every_crop_learns_the_other_global_crops(build, pair, monkeypatch):
    """Targets from the teacher's scores and predictions from the network's logits, by loops."""
    plain = {"mix_labelled": False, "mix_unlabelled": "none", "monitors": False, "local_crops": 2}
    method = build(teacher_temperature=(0.05, 0.05), temperature=0.2, **plain)
    center = torch.linspace(-0.3, 0.3, 10)
    method.center.copy_(center)
    seen, given = teacher_scores(method, monkeypatch), {}
    features = method.network.features_of
    monkeypatch.setattr(method.network, "features_of", lambda views: given.setdefault("features", features(views)))
    loss = losses_of(method, pair, torch.Generator().manual_seed(0))["swapped"]
    embeddings = method.network.head.embed(torch.cat(given["features"]))
    _, *predicted = (method.network.head.scores(embeddings).double().detach() / 0.2).split([20, 30, 30, 30, 30])
    scores = seen[0].double().view(2, 30, 10)
    terms = []
    for place in range(2):
        for view in range(4):
            for image in range(30):
                if view != place:
                    target = ((scores[place, image] - center) / 0.05).softmax(0)
                    terms.append(-(target * predicted[view][image].log_softmax(0)).sum())
    assert len(terms) == 6 * 30
    assert loss.item() == pytest.approx((sum(terms) / len(terms)).item(), rel=1e-4)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.04), (20, 0.055), (40, 0.07), (99, 0.07)])
def test_the_teachers_temperature_rises_over_its_epochs(build, step, expected):
    method = build(teacher_temperature=(0.04, 0.07), teacher_temperature_epochs=4.0)
    method.progress = Progress(step, 100, 10)
    assert method.teacher_temperature() == pytest.approx(expected)


def test_a_temperature_without_rise_is_the_last_one(build):
    assert build(teacher_temperature_epochs=0.0).teacher_temperature() == pytest.approx(0.07)


@pytest.mark.parametrize(("step", "decay", "weight"), [(0, 0.99, 1.0), (50, 0.995, 5.5), (100, 1.0, 10.0)])
def test_decays_go_on_half_a_cosine(build, step, decay, weight):
    method = build()
    method.progress = Progress(step, 100, 10)
    assert method.current_ema_decay() == pytest.approx(decay)
    assert method.multipliers().weight_decay == pytest.approx(weight)
    assert method.multipliers().lr == 1.0


def test_the_teacher_follows_equation_7(build):
    method = build(ema_decay=0.9, final_ema_decay=1.0)
    teacher = [weight.clone() for weight in method.averaged.module.parameters()]
    disturb(method.network, 1)
    method.progress = Progress(0, 100, 10)
    method.after_step()
    for before, now, student in zip(
        teacher, method.averaged.module.parameters(), method.network.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * before + 0.1 * student.detach())
    method.progress = Progress(100, 100, 10)
    held = [weight.clone() for weight in method.averaged.module.parameters()]
    method.after_step()
    assert all(torch.equal(a, b) for a, b in zip(held, method.averaged.module.parameters(), strict=True))
    assert method.selected() is method.averaged.module
