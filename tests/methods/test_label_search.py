"""TURTLE's steps against loops by hand, and its gradient against finite differences."""

from functools import partial

import numpy as np
import pytest
import torch

from sslpipe.methods.cluster._label_search import Labelling, LabelSearch, LinearLayers, SearchSettings
from sslpipe.objectives import turtle as objective

CLUSTERS = 3


def spaces_of(seed=0, images=12, dimensions=(4, 2), kind=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, each, generator=generator, dtype=torch.float64).to(kind) for each in dimensions]


def search_of(spaces, *, seed=0, clusters=CLUSTERS, **settings):
    generator = torch.Generator().manual_seed(seed)
    return LabelSearch(spaces, SearchSettings(**settings), clusters=clusters, generator=generator)


class AdamByHand:
    """Adam (Kingma and Ba 2015, algorithm 1) of some arrays, in place."""

    def __init__(self, arrays, lr):
        self.arrays, self.lr, self.t = arrays, lr, 0
        self.m, self.v = [np.zeros_like(each) for each in arrays], [np.zeros_like(each) for each in arrays]

    def step(self, gradients):
        self.t += 1
        for array, g, m, v in zip(self.arrays, gradients, self.m, self.v, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            array -= self.lr * (m / (1 - 0.9**self.t)) / (np.sqrt(v / (1 - 0.999**self.t)) + 1e-8)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def fit_by_hand(spaces, layers, label, steps, adam):
    """The inner loop: the gradient of the mean cross-entropy in W is (softmax - label)ᵀ z / B."""
    for _ in range(steps):
        gradients = []
        for z, (w, b) in zip(spaces, layers, strict=True):
            error = (softmax(z @ w.T + b) - label) / len(z)
            gradients += [error.T @ z, error.sum(axis=0)]
        adam.step(gradients)


def labels_by_hand(spaces, labelling):
    """The probabilities of θ in each space: the rows of its matrix are g v / |v|."""
    layers = [(g * v / np.linalg.norm(v, axis=1, keepdims=True), b) for v, b, g in labelling]
    return [softmax(z @ w.T + b) for z, (w, b) in zip(spaces, layers, strict=True)]


def label_gradients(spaces, labelling, layers, weight):
    """The gradients of eq. 12 in direction, bias and length of each space's θ, with W fixed, by the chain rule."""
    taus = labels_by_hand(spaces, labelling)
    count, gradients = len(spaces[0]), []
    towards = -sum(np.log(softmax(z @ w.T + b)) for z, (w, b) in zip(spaces, layers, strict=True)) / len(spaces) / count
    for z, tau, (v, _, g) in zip(spaces, taus, labelling, strict=True):
        mean = tau.mean(axis=0)
        # d(-γ H)/d mean = γ (ln mean + 1), and the constant falls out of the softmax's gradient.
        by_tau = towards + weight * np.log(mean) / count
        by_logit = tau * (by_tau - (by_tau * tau).sum(axis=1, keepdims=True))
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        by_matrix, unit = by_logit.T @ z, v / norm
        along = (by_matrix * unit).sum(axis=1, keepdims=True)
        gradients += [g / norm * (by_matrix - along * unit), by_logit.sum(axis=0), along]
    return gradients


@pytest.mark.parametrize("warm_start", [False, True])
def test_steps_equal_those_of_the_algorithm_by_hand(warm_start):
    """Three whole steps, with numpy alone: gradients by the chain rule, Adam and weight normalisation written out."""
    settings = {"entropy_weight": 3.0, "inner_steps": 4, "lr": 0.05, "inner_lr": 0.1, "warm_start": warm_start}
    spaces = spaces_of()
    search, arrays = search_of(spaces, **settings), [space.numpy() for space in spaces]

    def copies(module, *names):
        lists = [[each.detach().numpy().copy() for each in getattr(module, name)] for name in names]
        return list(zip(*lists, strict=True))

    theta = copies(search.labelling, "weights", "biases", "lengths")
    outer = AdamByHand([array for layer in theta for array in layer], 0.05)
    if warm_start:
        layers = copies(search.classifiers, "weights", "biases")
        inner = AdamByHand([array for layer in layers for array in layer], 0.1)
    for _ in range(3):
        if not warm_start:  # what the search will draw next
            state = search.generator.get_state()
            layers = copies(LinearLayers(spaces, CLUSTERS, search.generator), "weights", "biases")
            search.generator.set_state(state)
            inner = AdamByHand([array for layer in layers for array in layer], 0.1)
        label = sum(labels_by_hand(arrays, theta)) / len(arrays)
        fit_by_hand(arrays, layers, label, 4, inner)
        gradients = label_gradients(arrays, theta, layers, 3.0)
        terms = search.step()
        outer.step(gradients)
        error = -sum((label * np.log(softmax(z @ w.T + b))).sum() for z, (w, b) in zip(arrays, layers, strict=True))
        assert terms["cross_entropy"].item() == pytest.approx(error / len(label), abs=1e-9)
        for found, expected in zip(copies(search.classifiers, "weights", "biases"), layers, strict=True):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-9)
        for found, expected in zip(copies(search.labelling, "weights", "biases", "lengths"), theta, strict=True):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-9)


def loss_of(labelling, classifiers, spaces, weight=3.0):
    return objective.turtle(labelling(spaces), classifiers(spaces), entropy_weight=weight)["loss"]


def fitted(labelling, spaces):
    """The classifiers at the minimum of the inner loop, by L-BFGS."""
    label = objective.mean_label(labelling(spaces).detach())
    layers = LinearLayers(spaces, CLUSTERS, torch.Generator().manual_seed(1))
    solver = torch.optim.LBFGS(
        layers.parameters(), max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure():
        solver.zero_grad()
        loss = -(label * layers(spaces).log_softmax(dim=1)).sum() / label.shape[1]
        loss.backward()
        return loss

    solver.step(closure)
    return layers.requires_grad_(False)


def differences(labelling, value, width=1e-5):
    """Central differences of `value()` in every parameter of θ."""
    found = []
    with torch.no_grad():
        for parameter in labelling.parameters():
            flat = parameter.view(-1)
            for i in range(len(flat)):
                kept, sides = flat[i].item(), []
                for sign in (1, -1):
                    flat[i] = kept + sign * width
                    with torch.enable_grad():
                        sides.append(value().item())
                flat[i] = kept
                found.append((sides[0] - sides[1]) / (2 * width))
    return torch.tensor(found, dtype=torch.float64)


def gradient(labelling, loss):
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(labelling.parameters()))])


def test_the_gradient_is_that_with_classifiers_fixed_and_at_their_best_the_whole_one():
    """Eq. 13: central differences with W fixed, and with W fitted anew for every θ (the envelope theorem)."""
    spaces = spaces_of(images=40)
    labelling = Labelling(spaces, CLUSTERS, torch.Generator().manual_seed(2))
    early = LinearLayers(spaces, CLUSTERS, torch.Generator().manual_seed(3)).requires_grad_(False)
    best = fitted(labelling, spaces)
    for classifiers in (early, best):
        own = gradient(labelling, loss_of(labelling, classifiers, spaces))
        fixed = differences(labelling, partial(loss_of, labelling, classifiers, spaces))
        torch.testing.assert_close(own, fixed, rtol=1e-6, atol=1e-8)
    whole = differences(labelling, lambda: loss_of(labelling, fitted(labelling, spaces), spaces), width=1e-4)
    torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-6)


def test_the_step_does_not_differentiate_the_inner_loop():
    """The first step of Adam goes along the signs of the gradient with W as the inner loop has left it."""
    spaces = spaces_of()
    search = search_of(spaces, entropy_weight=0.5, inner_lr=0.3, inner_steps=3, lr=1e-3)
    before = Labelling(spaces, CLUSTERS, torch.Generator().manual_seed(0))
    start = [each.detach().clone() for each in before.parameters()]
    search.step()
    expected = gradient(before, loss_of(before, search.classifiers.requires_grad_(False), spaces, weight=0.5))
    moved = torch.cat(
        [(new.detach() - old).flatten() for new, old in zip(search.labelling.parameters(), start, strict=True)]
    )
    torch.testing.assert_close(moved, -1e-3 * expected.sign(), rtol=1e-3, atol=1e-8)


def test_the_names_of_clusters_do_not_matter():
    """θ with its rows in another order takes the same steps, in that order, if W is too."""
    order = torch.tensor([2, 0, 1])
    searches = [search_of(spaces_of(), warm_start=True, lr=0.05, inner_lr=0.1) for _ in range(2)]
    with torch.no_grad():
        for module in (searches[1].labelling, searches[1].classifiers):
            for parameter in module.parameters():
                parameter.copy_(parameter[order])
    for _ in range(5):
        terms, other = (search.step() for search in searches)
        torch.testing.assert_close(terms, other)
    for one, permuted in zip(searches[0].labelling.parameters(), searches[1].labelling.parameters(), strict=True):
        torch.testing.assert_close(one[order], permuted)


def test_a_batch_is_of_the_same_images_in_all_spaces_without_repetition():
    index = torch.arange(30, dtype=torch.float64)
    search = search_of([index[:, None], 100 + index[:, None].repeat(1, 2)], batch=20)
    first, second = search._batch()
    assert torch.equal(first[:, 0] + 100, second[:, 1])
    assert len(first.unique()) == 20
    assert not torch.equal(first, search._batch()[0])


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_warm_start_keeps_the_classifiers_and_their_optimiser(warm_start):
    search = search_of(spaces_of(), warm_start=warm_start, inner_steps=2)
    search.step()
    kept = search.classifiers
    search.step()
    assert (search.classifiers is kept) == warm_start
    (state, *_) = search._inner.state.values()
    assert state["step"].item() == (4 if warm_start else 2)
