import pytest
import torch
from every_method import losses_of

from sslpipe.engine.method import Progress
from sslpipe.methods.semisup.uda import Method, Settings
from sslpipe.objectives.uda import annealed_cross_entropy
from sslpipe.views.policies import ViewSettings

PLAIN = ViewSettings(policy="plain")


def reference(method, settings, pair, seed, eta):
    """The loss from the paper, image by image; eta: the threshold on the labelled images' own probability."""
    generator = torch.Generator().manual_seed(seed)
    weak = method.views(torch.cat([pair.labelled.image, pair.unlabelled.image]), generator)
    strong = method.strong(pair.unlabelled.image, generator)
    logits = method.network(torch.cat([weak, strong])).double().detach()
    known = [
        -logit.log_softmax(0)[label]
        for logit, label in zip(logits[:20], pair.labelled.label, strict=True)
        if logit.softmax(0)[label] <= eta
    ]
    total, confident = 0.0, 0
    for weak_logit, strong_logit in zip(logits[20:50], logits[50:], strict=True):
        if weak_logit.softmax(0).max() > settings.threshold:
            target = (weak_logit / settings.temperature).softmax(0)
            total -= (target * strong_logit.log_softmax(0)).sum()
            confident += 1
    labelled = sum(known) / max(len(known), 1)
    divisor = 30 if settings.normalize_by == "batch" else confident
    return labelled + settings.unlabelled_weight * total / divisor, len(known) / 20


@pytest.mark.parametrize("normalize_by", ["batch", "confident"])
@pytest.mark.parametrize(
    ("annealing", "step", "eta"),
    [("off", 0, 1.0), ("linear", 0, 0.1), ("linear", 5, 0.145), ("linear", 100, 1.0), ("log", 100, 0.994)],
)
def test_the_loss_is_the_papers_and_labels_are_released_as_training_goes_on(
    problem, pair, annealing, step, eta, normalize_by
):
    settings = Settings(threshold=0.16, annealing=annealing, unlabelled_weight=2.0, normalize_by=normalize_by)
    method = Method(settings, problem)
    method.progress = Progress(step, 100, 10)
    terms = losses_of(method, pair, torch.Generator().manual_seed(3))
    loss, released = reference(method, settings, pair, 3, eta)
    assert terms["loss"].item() == pytest.approx(float(loss), rel=1e-4)
    assert terms["released"].item() == pytest.approx(released)
    assert 0 < terms["confident"] < 1


def test_some_labels_are_held_back_at_first(problem, pair, generator):
    method = Method(Settings(annealing="linear"), problem)
    method.progress = Progress(0, 100, 10)
    assert 0 < losses_of(method, pair, generator)["released"] < 1


def test_labelled_weak_and_strong_images_go_through_one_forward(problem, pair, generator):
    method = Method(Settings(), problem)
    sizes = []
    method.network.register_forward_pre_hook(lambda module, images: sizes.append(len(images[0])))
    losses_of(method, pair, generator)
    assert sizes == [80]


def test_labels_are_smoothed(network, problem, pair):
    losses = []
    for smoothing in (0.0, 0.3):
        torch.manual_seed(0)
        settings = Settings(label_smoothing=smoothing, ema_decay=None, views=PLAIN, strong=PLAIN)
        method = Method(settings, problem)
        logits = []
        method.network.register_forward_hook(lambda module, images, output, seen=logits: seen.append(output.detach()))
        terms = losses_of(method, pair, torch.Generator().manual_seed(0))
        labelled = logits[0][: len(pair.labelled.label)].float()
        expected = annealed_cross_entropy(labelled, pair.labelled.label, threshold=1.0, smoothing=smoothing)
        assert terms["labelled"].item() == pytest.approx(expected["loss"].item(), rel=1e-5)
        losses.append(terms["labelled"].item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
