import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sslpipe.objectives.nce import instance_softmax, nce, proximal
from sslpipe.objectives.nce_products import WHOLE, cosines, estimate_normalizer


def unit(*shape, seed):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


@given(seed=st.integers(0, 1000), temperature=st.floats(0.07, 1.0))
def test_softmax_equals_eq_2_by_loops(seed, temperature):
    feature, memory, index = unit(4, 5, seed=seed), unit(9, 5, seed=seed + 1), torch.tensor([3, 0, 8, 3])
    total = 0.0
    for b in range(4):
        weights = [math.exp(float(memory[j] @ feature[b]) / temperature) for j in range(9)]
        total -= math.log(weights[int(index[b])] / sum(weights))
    loss = instance_softmax(feature, index, memory, temperature=temperature)
    assert loss.item() == pytest.approx(total / 4, rel=1e-6)


@given(seed=st.integers(0, 1000), noise_count=st.integers(1, 7), z=st.floats(0.5, 100.0))
def test_nce_equals_eq_4_to_7_by_loops(seed, noise_count, z):
    images, temperature = 9, 0.3
    feature, memory, index = unit(4, 5, seed=seed), unit(images, 5, seed=seed + 1), torch.tensor([3, 0, 8, 3])
    noise = torch.randint(images, (4, noise_count), generator=torch.Generator().manual_seed(seed))

    def posterior(i, v):
        p = math.exp(float(memory[i] @ v) / temperature) / z
        return p / (p + noise_count / images)

    total = 0.0
    for b in range(4):
        total -= math.log(posterior(int(index[b]), feature[b]))
        total -= sum(math.log(1 - posterior(int(j), feature[b])) for j in noise[b])
    loss = nce(feature, index, noise, memory, temperature=temperature, normalizer=torch.tensor(z, dtype=torch.float64))
    assert loss.item() == pytest.approx(total / 4, rel=1e-6)


def test_softmax_is_ln_n_where_all_rows_are_alike():
    memory = torch.ones(50, 4) / 2
    loss = instance_softmax(torch.ones(3, 4) / 2, torch.tensor([0, 7, 49]), memory, temperature=0.07)
    assert loss.item() == pytest.approx(math.log(50), rel=1e-5)


def test_the_normalizer_is_exact_when_every_row_is_noise_once():
    feature, memory = unit(3, 5, seed=0), unit(20, 5, seed=1)
    noise = torch.arange(20).repeat(3, 1)
    expected = (feature @ memory.T / 0.2).exp().sum(dim=1).mean()
    cosine = cosines(feature, torch.zeros(3, dtype=torch.int64), noise, memory)[:, 1:]
    torch.testing.assert_close(estimate_normalizer(cosine, images=20, temperature=0.2), expected)


@pytest.mark.parametrize("rows", [WHOLE * 5, WHOLE * 5 + 1])
def test_products_of_all_rows_and_of_chosen_ones_are_the_same(rows):
    feature, memory = unit(4, 6, seed=0).float().requires_grad_(), unit(rows, 6, seed=1).float()
    random = torch.Generator().manual_seed(2)
    index, noise = torch.randint(rows, (4,), generator=random), torch.randint(rows, (4, 5), generator=random)
    found = cosines(feature, index, noise, memory)
    feature_rows, products = feature.detach(), found.detach()
    for b in range(4):
        for place, row in enumerate([index[b], *noise[b]]):
            assert products[b, place].item() == pytest.approx(float(feature_rows[b] @ memory[row]), abs=1e-6)
    gradient = torch.autograd.grad(found.square().sum(), feature)[0]
    chosen = memory[torch.cat([index[:, None], noise], dim=1)]
    expected = torch.autograd.grad(torch.einsum("bd,bmd->bm", feature, chosen).square().sum(), feature)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


class Largest(TorchDispatchMode):
    """The largest number of elements that an operation returned."""

    largest = 0

    def __torch_dispatch__(self, function, types, given=(), named=None):
        result = function(*given, **(named or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@pytest.mark.parametrize(("rows", "elements"), [(64, 8 * 64), (WHOLE * 50 + 1, 8 * 51 * 32)])
def test_no_row_is_copied_for_each_image_of_a_small_memory(rows, elements):
    feature, memory = unit(8, 32, seed=0).float().requires_grad_(), unit(rows, 32, seed=1).float()
    index, noise = torch.arange(8), torch.randint(rows, (8, 50), generator=torch.Generator().manual_seed(0))
    with Largest() as seen:
        nce(feature, index, noise, memory, temperature=0.1, normalizer=torch.tensor(5.0)).backward()
    assert seen.largest <= max(elements, memory.numel())


def test_nce_and_softmax_pull_the_same_way():
    """With many noise rows and the true Z, the gradient of NCE tends to that of the softmax (Gutmann & Hyvärinen)."""
    memory, index = unit(30, 6, seed=1), torch.tensor([4])
    feature = unit(1, 6, seed=2).requires_grad_()
    exact = instance_softmax(feature, index, memory, temperature=0.5)
    noise = torch.arange(30).repeat(1, 400)
    z = (feature.detach() @ memory.T / 0.5).exp().sum()
    noisy = nce(feature, index, noise, memory, temperature=0.5, normalizer=z)
    gradients = [torch.autograd.grad(loss, feature)[0].flatten() for loss in (exact, noisy)]
    assert F.cosine_similarity(*gradients, dim=0) > 0.999
    torch.testing.assert_close(gradients[0].norm(), gradients[1].norm(), rtol=0.02, atol=0)


def test_proximal_is_the_mean_squared_distance():
    assert proximal(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])).item() == 1.0
