"""TEMI: a whole step against loops, what the method draws and says, and what it learns."""

import copy

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from sslpipe.data.images import Images
from sslpipe.methods.cluster import kmeans, temi
from sslpipe.methods.cluster._distillation import Distillation
from sslpipe.methods.cluster._inputs import fit_inputs
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.cosine_heads import CosineHeads, CosineSettings
from sslpipe.nets.inference import infer

BETA, LR, DECAY, MOMENTUM = 0.6, 1e-3, 0.95, 0.9
SMALL = {
    "heads": 4,
    "hidden": 32,
    "embedding": 16,
    "epochs": 30,
    "warmup_epochs": 2.0,
    "batch": 100,
    "lr": 3e-3,
    "ema_decay": 0.95,
}


def loss_by_loops(student, teacher, marginal, features):
    """Loss of each head over pairs of rows i and i + B, as in the paper, one head and one pair at a time."""
    count = len(features) // 2
    p, q = student(features).softmax(dim=2), teacher(features).softmax(dim=2).detach()
    weights = [sum(q[h, i] @ q[h, i + count] for h in range(len(q))) / len(q) for i in range(count)]
    losses = []
    for h, pk in enumerate(marginal):
        pairs = []
        for i in range(count):
            ahead = ((q[h, i] * p[h, i + count]) ** BETA / pk).sum().log()
            back = ((q[h, i + count] * p[h, i]) ** BETA / pk).sum().log()
            pairs.append(-weights[i] * (ahead + back) / 2)
        losses.append(sum(pairs) / count)
    return torch.stack(losses)


def test_three_steps_are_those_of_loops():
    """Loss, gradient, weights by AdamW, the teacher and the marginal, in double precision."""
    torch.manual_seed(0)
    heads = CosineHeads(7, 3, CosineSettings(outputs=4, hidden=6, embedding=5)).double()
    student, teacher = copy.deepcopy(heads), copy.deepcopy(heads)
    training = Distillation(heads, beta=BETA, lr=LR, weight_decay=0.01, ema_decay=DECAY, marginal_momentum=MOMENTUM)
    marginal = torch.full((3, 4), 1 / 4, dtype=torch.double)
    first, second = ([torch.zeros_like(weight) for weight in student.parameters()] for _ in range(2))
    for step, factor in enumerate((0.5, 1.0, 1.0), 1):
        features = torch.randn(10, 7, dtype=torch.double)
        found = training.step(features, factor=factor)
        with torch.no_grad():
            q = teacher(features).softmax(dim=2)
            for h in range(3):
                marginal[h] = MOMENTUM * marginal[h] + (1 - MOMENTUM) * sum(q[h]) / 10
        losses = loss_by_loops(student, teacher, marginal, features)
        torch.testing.assert_close(found, losses.detach(), rtol=0, atol=1e-6)
        torch.testing.assert_close(training.marginal, marginal, rtol=0, atol=1e-6)
        gradients = torch.autograd.grad(sum(losses) / 3, list(student.parameters()))
        with torch.no_grad():
            pairs = list(zip(student.parameters(), heads.parameters(), strict=True))
            for (weight, own), gradient, m, v in zip(pairs, gradients, first, second, strict=True):
                torch.testing.assert_close(own.grad, gradient, rtol=0, atol=1e-6)
                m.mul_(0.9).add_(0.1 * gradient)
                v.mul_(0.999).add_(0.001 * gradient**2)
                weight.mul_(1 - factor * LR * 0.01)
                weight.sub_(factor * LR * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
                torch.testing.assert_close(own.detach(), weight.detach(), rtol=0, atol=1e-6)
            for kept, weight, averaged in zip(
                teacher.parameters(), student.parameters(), training.teacher.module.parameters(), strict=True
            ):
                kept.copy_(DECAY * kept + (1 - DECAY) * weight)
                torch.testing.assert_close(averaged, kept.detach(), rtol=0, atol=1e-6)


def groups_of(module, problem, seed=0, **settings):
    """Each image's group, and the method."""
    torch.manual_seed(seed)
    method = module.Method(module.Settings(clusters=10, **settings), problem)
    method.after_epoch({})
    return method.training_logits().argmax(dim=1).numpy(), method


def neighborhood(images, features, k):
    return Neighborhood(images, torch.from_numpy(nearest_neighbors(features, k=k)[0]), features.half().numpy())


@pytest.fixture
def problem(digits, network):
    train_set, held_out = (infer(network.eval().features, digits[i]) for i in (0, 1))
    return Problem(network, neighborhood(digits[0], train_set, 10), neighborhood(digits[1], held_out, 3))


def test_the_teachers_best_head_is_kept(problem, monkeypatch):
    made, losses = [], []
    step = Distillation.step
    monkeypatch.setattr(temi, "Distillation", lambda *a, **k: made.append(Distillation(*a, **k)) or made[0])
    monkeypatch.setattr(Distillation, "step", lambda *a, **k: losses.append(step(*a, **k)) or losses[-1])
    _, method = groups_of(temi, problem, **SMALL)
    teacher = made[0].teacher.module
    features = torch.from_numpy(problem.train.features).float()
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0)
    logits = teacher((features - mean) / deviation.clamp_min(1e-4 * deviation.max()))
    same = [torch.allclose(method.training_logits(), each, atol=1e-3) for each in logits]
    last_epoch = torch.stack(losses[-3:]).mean(dim=0)
    assert same == [head == int(last_epoch.argmin()) for head in range(4)]


def test_each_epoch_has_every_image_once_and_neighbors_of_its_own(problem, monkeypatch):
    drawn = []
    own = temi.Method._rows
    monkeypatch.setattr(temi.Method, "_rows", lambda self, index: drawn.append(index) or own(self, index))
    groups_of(temi, problem, **SMALL, max_neighbors=4)
    batches = [index for index in drawn if len(index) == 200]  # 100 pairs
    assert len(batches) == 3 * SMALL["epochs"]
    for epoch in range(SMALL["epochs"]):
        images = torch.cat([batch[:100] for batch in batches[3 * epoch : 3 * epoch + 3]])
        assert sorted(images.tolist()) == list(range(300))
    found = {(x, y) for batch in batches for x, y in zip(batch[:100].tolist(), batch[100:].tolist(), strict=True)}
    mined = problem.train.neighbors[:, :4].tolist()
    assert all(y in mined[x] for x, y in found)
    assert len(found) > 0.95 * 300 * 4  # in 30 epochs nearly all pairs


@pytest.mark.parametrize(("few", "is_said"), [(121, True), (120, False)])
def test_a_line_says_that_there_are_few_steps(problem, capsys, monkeypatch, few, is_said):
    monkeypatch.setattr(temi, "FEW_STEPS", few)
    count = len(problem.train.neighbors)
    groups_of(temi, problem, **{**SMALL, "epochs": 120, "heads": 2, "batch": count, "max_neighbors": 10})
    assert ("cluster.temi: 120 steps are few, the published run has 9700" in capsys.readouterr().out) == is_said


def test_fewer_mined_neighbors_are_used_and_a_line_says_so(problem, capsys):
    groups_of(temi, problem, **{**SMALL, "epochs": 1})
    line = " ".join(capsys.readouterr().out.split())
    assert "cluster.temi.max_neighbors: 50 asked, 10 mined, all of which are used; raise mine_neighbors.k" in line
    groups_of(temi, problem, **{**SMALL, "epochs": 1}, max_neighbors=10)
    assert "max_neighbors" not in capsys.readouterr().out


def test_a_feature_that_never_changes_is_no_noise(problem):
    features = np.concatenate([problem.train.features, np.full((300, 1), 7, np.float16)], axis=1)
    one = Problem(
        problem.network, Neighborhood(problem.train.images, problem.train.neighbors, features), problem.held_out
    )
    found = temi.Method(temi.Settings(clusters=10, **SMALL), one, seed=0).find()[0]
    moved = torch.from_numpy(features[:5]).float()
    before = found(moved)
    moved[:, -1] += 0.003  # the step of float16 at 7
    torch.testing.assert_close(found(moved), before, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
def test_components_are_those_of_the_standardised_features(problem, kind):
    """Against the singular vectors of the standardised features, which may have other signs."""
    stored = problem.train.features if kind is np.ndarray else torch.from_numpy(problem.train.features)
    inputs = fit_inputs(stored, 8, torch.device("cpu"))
    rows = problem.train.features.astype(np.float64)
    standard = (rows - inputs.mean.numpy()) / inputs.deviation.numpy()
    left, values, _ = np.linalg.svd(standard, full_matrices=False)
    expected = left[:, :8] * values[:8]
    expected /= np.sqrt((expected**2).mean())
    found = inputs.of(torch.from_numpy(problem.train.features)).numpy()
    assert inputs.dimension == 8
    assert (found**2).mean() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-2)


def test_all_components_are_the_standardised_features_turned(problem):
    """Distances between images are the same but for one scale."""
    plain, turned = (fit_inputs(problem.train.features, each, torch.device("cpu")) for each in (None, 10_000))
    rows = torch.from_numpy(problem.train.features)
    own, other = (torch.pdist(inputs.of(rows)) for inputs in (plain, turned))
    torch.testing.assert_close(own / own.mean(), other / other.mean(), rtol=1e-3, atol=1e-4)


def test_the_head_of_components_takes_stored_features(problem, monkeypatch):
    made = []
    monkeypatch.setattr(temi, "Distillation", lambda *a, **k: made.append(Distillation(*a, **k)) or made[0])
    _, method = groups_of(temi, problem, **SMALL, components=8)
    inputs = fit_inputs(problem.train.features, 8, torch.device("cpu"))
    assert made[0].student.hidden.shape[2] == 8
    logits = made[0].teacher.module(inputs.of(torch.from_numpy(problem.train.features)))
    assert any(torch.allclose(method.training_logits(), each, atol=1e-3) for each in logits)


def test_it_groups_digits_better_than_k_means_of_the_same_features(network):
    """The features are the pixels: 900 digits whose 10 neighbours are of the same class in 95 % of all cases."""
    data = load_digits()
    images = Images((data.images[:900] * (255 / 16)).astype(np.uint8)[:, None], torch.device("cpu"))
    label, pixels = data.target[:900], data.data[:900].astype(np.float32) / 16
    train_set = neighborhood(images, torch.from_numpy(pixels), 10)
    alone = Problem(network, train_set, Neighborhood(images, train_set.neighbors))
    plain = KMeans(10, n_init=10, random_state=0).fit_predict(pixels)
    groups = {
        "plain": plain,
        "kmeans": groups_of(kmeans, alone)[0],
        "temi": groups_of(temi, alone, **{**SMALL, "heads": 8, "epochs": 100})[0],
    }
    score = {name: adjusted_rand_score(label, each) for name, each in groups.items()}
    assert score["temi"] > max(score["plain"], score["kmeans"]) + 0.05
