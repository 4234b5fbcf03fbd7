"""What small faults showed the other tests of objectives not to notice: thresholds, precision, gradients of targets."""

import pytest
import torch

from sslpipe.objectives import byol, dino, feature_decoupling, moco, nce, nce_products, propos, rotnet, supervised
from sslpipe.objectives.fixmatch import fixmatch
from sslpipe.objectives.mixmatch import mixmatch
from sslpipe.objectives.scan import scan
from sslpipe.objectives.self_label import confident_cross_entropy
from sslpipe.objectives.simclr import nt_xent
from sslpipe.objectives.simmatch import similarities, simmatch
from sslpipe.objectives.swav import swapped_prediction
from sslpipe.objectives.uda import annealed_cross_entropy, uda

HALF = torch.zeros(1, 2)
"""Logits of two classes with a probability of exactly 0.5 each."""
WEIGHT = torch.tensor([[1.0, 1.0], [0.5, 0.9], [0.2, 0.7], [0.6, 0.3]])
LABEL = torch.tensor([3, 0, 1, 1, 2, 0, 3, 2])
OTHERS = torch.tensor([[1, 2], [0, 3], [4, 5], [7, 6], [1, 0], [2, 3], [5, 4], [6, 0]])
TEMPERATURES = {"student_temperature": 0.1, "teacher_temperature": 0.05}


def probability(logits):
    return logits.float().softmax(dim=1)


IN_HALF_PRECISION = {
    "byol": lambda a, b: byol.regression(a, b),
    "feature_decoupling rotation": lambda a, b: feature_decoupling.rotation(a.view(4, 2, 4), WEIGHT),
    "feature_decoupling agreement": lambda a, b: feature_decoupling.agreement(a.view(4, 2, 4)),
    "fixmatch": lambda a, b: fixmatch(b, a, threshold=0.5)["loss"],
    "dino": lambda a, b: dino.distill_crops([a, a.flip(0)], torch.stack([b, b]), b[0], **TEMPERATURES),
    "mixmatch": lambda a, b: mixmatch(a, probability(b), a, probability(b))["unlabelled"],
    "moco": lambda a, b: moco.info_nce(a, b, b.flip(0), temperature=0.2),
    "nce": lambda a, b: nce.nce(a, LABEL, OTHERS, b, temperature=0.07, normalizer=torch.tensor(40.0)),
    "nce normalizer": lambda a, b: nce_products.estimate_normalizer(
        nce_products.cosines(a, LABEL, OTHERS, b), images=len(b), temperature=0.5
    ),
    "nce softmax": lambda a, b: nce.instance_softmax(a, LABEL, b, temperature=0.07),
    "nce softmax of some rows": lambda a, b: nce.instance_softmax(a, LABEL, b, LABEL, temperature=0.07),
    "propos": lambda a, b: propos.scattering(a, b, LABEL, clusters=4, temperature=0.5),
    "rotnet": lambda a, b: rotnet.rotation(a),
    "scan": lambda a, b: scan(a, b, entropy_weight=2.0)["loss"],
    "self_label": lambda a, b: confident_cross_entropy(b, a, threshold=0.3, balance=True)["loss"],
    "simclr": lambda a, b: nt_xent(a, b, temperature=0.2),
    "simmatch": lambda a, b: simmatch(probability(b), probability(b), a, probability(b), threshold=0.3)["semantic"],
    "simmatch similarities": lambda a, b: similarities(a, b, temperature=0.1).square().sum(),
    "supervised labels": lambda a, b: supervised.cross_entropy(a, LABEL),
    "supervised probabilities": lambda a, b: supervised.cross_entropy(a, probability(b)),
    "swav": lambda a, b: swapped_prediction(probability(b)[None], [a, a.flip(0)]),
    "uda": lambda a, b: uda(b, a, temperature=0.4, threshold=0.3)["loss"],
    "uda labelled": lambda a, b: annealed_cross_entropy(a, LABEL, threshold=0.9)["loss"],
}


@pytest.mark.parametrize("name", IN_HALF_PRECISION)
def test_the_loss_of_half_precision_is_computed_in_float32(name):
    objective = IN_HALF_PRECISION[name]
    first, second = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    loss = objective(first.requires_grad_(), second)
    loss.backward()
    assert loss.dtype == torch.float32
    assert first.grad.abs().sum() > 0
    torch.testing.assert_close(loss, objective(first.detach().float(), second.float()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", IN_HALF_PRECISION)
def test_autocast_rounds_neither_a_loss_nor_its_gradient(name):
    objective = IN_HALF_PRECISION[name]
    first, second = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    results = []
    for rounded in (False, True):
        given = first.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rounded):
            loss = objective(given, second)
        loss.backward()
        results.append((loss.detach(), given.grad))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


def test_the_threshold_itself_is_not_confident_where_it_has_to_be_exceeded():
    """SCAN's self-labelling, UDA and SimMatch; FixMatch alone keeps the threshold itself."""
    for threshold, kept in ((0.5, 0), (0.5 - 1e-6, 1)):
        assert confident_cross_entropy(HALF, HALF, threshold=threshold, balance=True)["confident"].item() == kept
        assert uda(HALF, HALF, temperature=0.4, threshold=threshold)["confident"].item() == kept
        p_hat = HALF.softmax(dim=1)
        assert simmatch(p_hat, p_hat, HALF, p_hat, threshold=threshold)["confident"].item() == kept


def test_a_label_at_the_threshold_is_still_released():
    label = torch.tensor([0])
    assert annealed_cross_entropy(HALF, label, threshold=0.5)["released"].item() == 1
    assert annealed_cross_entropy(HALF, label, threshold=0.5 - 1e-6)["released"].item() == 0


def test_simmatch_gives_the_targets_no_gradient_wherever_they_come_from():
    p_hat, q_hat = (torch.full((2, n), 1 / n, requires_grad=True) for n in (3, 5))
    logits, strong_q = torch.zeros(2, 3, requires_grad=True), torch.full((2, 5), 1 / 5, requires_grad=True)
    terms = simmatch(p_hat, q_hat, logits, strong_q, threshold=0.1)
    (terms["semantic"] + terms["instance"]).backward()
    assert p_hat.grad is None
    assert q_hat.grad is None
    assert strong_q.grad.abs().sum() > 0


def test_both_views_learn():
    """Without the gradient through one of them the loss would be the same."""
    for objective in (lambda a, b: scan(a, b, entropy_weight=2.0)["loss"], lambda a, b: nt_xent(a, b, temperature=0.2)):
        views = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).unbind()
        first, second = (view.requires_grad_() for view in views)
        assert all(each.abs().sum() > 0 for each in torch.autograd.grad(objective(first, second), (first, second)))


def test_weights_of_rotations_stay_in_range_for_probabilities_that_rounding_has_moved():
    weight = feature_decoupling.rotation_weights(torch.tensor([[1.004], [-1e-3], [1.0]]), gamma=0.5)
    assert weight.flatten().tolist() == [1, 0, 1, 0]
