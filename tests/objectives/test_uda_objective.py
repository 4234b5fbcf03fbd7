import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.objectives.fixmatch import fixmatch
from sslpipe.objectives.uda import annealed_cross_entropy, signal_threshold, uda


def softmax(logits, temperature=1.0):
    weights = [math.exp(z / temperature) for z in logits]
    return [w / sum(weights) for w in weights]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(0.2, 1.0),
    threshold=st.floats(0.2, 0.95),
    normalize_by=st.sampled_from(["batch", "confident"]),
)
def test_equals_the_paper_by_loops(seed, temperature, threshold, normalize_by):
    weak, strong = 2 * torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(seed))
    loss, kept = 0.0, 0
    for w, s in zip(weak.tolist(), strong.tolist(), strict=True):
        if max(softmax(w)) > threshold:
            kept += 1
            loss -= sum(q * math.log(p) for q, p in zip(softmax(w, temperature), softmax(s), strict=True))
    terms = uda(weak, strong, temperature=temperature, threshold=threshold, normalize_by=normalize_by)
    loss /= 8 if normalize_by == "batch" else max(kept, 1)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-4, abs=1e-6)
    assert terms["confident"].item() == pytest.approx(kept / 8)


def test_sharpening_does_not_make_an_image_confident():
    weak = torch.tensor([[1.0, 0.0]])
    assert weak.softmax(dim=1).max() < 0.8 < (weak / 0.4).softmax(dim=1).max()
    assert uda(weak, weak, temperature=0.4, threshold=0.8)["confident"].item() == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_tends_to_fixmatch_as_the_temperature_falls(seed):
    weak, strong = 3 * torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(
        uda(weak, strong, temperature=1e-5, threshold=0.7), fixmatch(weak, strong, threshold=0.7), rtol=1e-3, atol=1e-3
    )


def test_the_gradient_is_that_of_the_divergence():
    generator = torch.Generator().manual_seed(0)
    weak, strong = torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator, requires_grad=True)
    loss = uda(weak, strong, temperature=0.4, threshold=0.0)["loss"]
    target = (weak / 0.4).softmax(dim=1)
    divergence = (target * (target.log() - strong.log_softmax(dim=1))).sum(dim=1).mean()
    torch.testing.assert_close(torch.autograd.grad(loss, strong), torch.autograd.grad(divergence, strong))


def test_known_values():
    sure, uniform = 100 * torch.eye(10), torch.zeros(10, 10)
    assert uda(sure, sure, temperature=0.4, threshold=0.8)["loss"].item() == pytest.approx(0, abs=1e-6)
    assert uda(sure, uniform, temperature=0.4, threshold=0.8)["loss"].item() == pytest.approx(math.log(10))
    # One image in ten is sure: its loss counts a tenth over the batch, and whole over the confident ones.
    one = torch.cat([sure[:1], uniform[1:]])
    for normalize_by, share in (("batch", 0.1), ("confident", 1.0)):
        loss = uda(one, uniform, temperature=0.4, threshold=0.8, normalize_by=normalize_by)["loss"]
        assert loss.item() == pytest.approx(share * math.log(10))
    strong = uniform.clone().requires_grad_()
    terms = uda(uniform, strong, temperature=0.4, threshold=0.8)
    terms["loss"].backward()
    assert terms["loss"].item() == terms["confident"].item() == strong.grad.abs().sum() == 0


def test_computes_in_float32_and_gives_the_target_no_gradient():
    weak = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    strong = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    loss = uda(weak, strong, temperature=0.4, threshold=0.1)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert weak.grad is None
    assert strong.grad is not None


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [
        ("off", 1.0, 1.0, 1.0),
        ("linear", 0.0, 0.5, 1.0),
        ("log", 0.0, 1 - math.exp(-2.5), 1 - math.exp(-5)),
        ("exp", math.exp(-5), math.exp(-2.5), 1.0),
    ],
)
@pytest.mark.parametrize("classes", [2, 10])
def test_the_threshold_rises_from_chance_to_one(schedule, start, middle, end, classes):
    for progress, alpha in zip((0.0, 0.5, 1.0), (start, middle, end), strict=True):
        expected = alpha * (1 - 1 / classes) + 1 / classes
        assert signal_threshold(progress, classes=classes, schedule=schedule) == pytest.approx(expected)
    assert signal_threshold(1.0, classes=classes, schedule=schedule) <= 1


@settings(max_examples=30, deadline=None)
@given(early=st.floats(0, 1), late=st.floats(0, 1), classes=st.integers(2, 1000))
def test_log_releases_before_linear_before_exp_and_none_falls(early, late, classes):
    early, late = sorted((early, late))
    for schedule in ("linear", "log", "exp"):
        thresholds = [signal_threshold(at, classes=classes, schedule=schedule) for at in (early, late)]
        assert 1 / classes - 1e-9 <= thresholds[0] <= thresholds[1] <= 1
    if 0.01 < early < 0.99:
        log, linear, exp = (signal_threshold(early, classes=classes, schedule=s) for s in ("log", "linear", "exp"))
        assert log > linear > exp


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.1, 1.0), smoothing=st.sampled_from([0.0, 0.1]))
def test_annealing_equals_the_paper_by_loops(seed, threshold, smoothing):
    generator = torch.Generator().manual_seed(seed)
    logits, label = 2 * torch.randn(8, 4, generator=generator), torch.randint(4, (8,), generator=generator)
    losses = []
    for z, y in zip(logits.tolist(), label.tolist(), strict=True):
        p = softmax(z)
        if p[y] <= threshold:
            losses.append(-sum(((1 - smoothing) * (k == y) + smoothing / 4) * math.log(p[k]) for k in range(4)))
    terms = annealed_cross_entropy(logits, label, threshold=threshold, smoothing=smoothing)
    assert terms["loss"].item() == pytest.approx(sum(losses) / max(len(losses), 1), rel=1e-4, abs=1e-6)
    assert terms["released"].item() == pytest.approx(len(losses) / 8)


def test_what_is_learned_is_withheld():
    logits = (10 * torch.eye(3)).requires_grad_()
    terms = annealed_cross_entropy(logits, torch.tensor([0, 1, 0]), threshold=0.5)
    terms["loss"].backward()
    assert terms["released"].item() == pytest.approx(1 / 3)
    assert logits.grad[:2].abs().sum() == 0
    assert logits.grad[2].abs().sum() > 0
    terms = annealed_cross_entropy(logits, torch.arange(3), threshold=0.5)
    assert terms["loss"].item() == terms["released"].item() == 0


def test_the_loss_of_one_released_image_is_its_own():
    logits, label = torch.tensor([[9.0, 0.0], [0.0, 1.0], [9.0, 0.0]]), torch.zeros(3, dtype=torch.int64)
    terms = annealed_cross_entropy(logits, label, threshold=0.5)
    assert terms["released"].item() == pytest.approx(1 / 3)
    assert terms["loss"].item() == pytest.approx(math.log(1 + math.e))
