import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.methods.semisup._alignment import DistributionAlignment


def predictions(random, count=8, classes=4):
    return torch.from_numpy(random.dirichlet(np.linspace(0.3, 2.0, classes), count)).float()


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_agrees_with_a_plain_loop(seed, steps, batches, given_target):
    random = np.random.default_rng(seed)
    target = random.dirichlet(np.ones(4)) if given_target else np.full(4, 0.25)
    align = DistributionAlignment(4, steps=steps, target=torch.from_numpy(target).float() if given_target else None)
    means = []
    for _ in range(batches):
        probability = predictions(random)
        means.append(probability.double().mean(dim=0).numpy())
        average = np.mean(means[-steps:], axis=0)
        expected = []
        for p in probability.double().numpy():
            scaled = [p[c] * target[c] / max(average[c], 1e-6) for c in range(4)]
            expected.append([value / sum(scaled) for value in scaled])
        np.testing.assert_allclose(align(probability).numpy(), expected, rtol=1e-3, atol=1e-6)


def test_the_mean_of_aligned_predictions_comes_near_the_target():
    random = np.random.default_rng(0)
    target = torch.tensor([0.4, 0.3, 0.2, 0.1])
    align = DistributionAlignment(4, steps=10, target=target)
    batches = [predictions(random, count=50) for _ in range(10)]
    raw = torch.cat(batches).mean(dim=0)
    aligned = torch.cat([align(batch) for batch in batches]).mean(dim=0)
    assert (aligned - target).abs().sum() < 0.4 * (raw - target).abs().sum()


def test_predictions_that_are_all_alike_become_the_target():
    target = torch.tensor([0.4, 0.3, 0.2, 0.1])
    align = DistributionAlignment(4, steps=3, target=target)
    for _ in range(5):
        aligned = align(torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 6))
        torch.testing.assert_close(aligned, target.expand(6, 4))


def test_predictions_as_they_should_be_stay():
    probability = torch.eye(4)
    torch.testing.assert_close(DistributionAlignment(4, steps=3)(probability), probability)


def test_a_class_never_given_makes_no_number_that_is_none():
    assert DistributionAlignment(2, steps=3)(torch.tensor([[1.0, 0.0]] * 4)).isfinite().all()


def test_what_it_has_seen_is_state():
    align = DistributionAlignment(3, steps=2)
    align(torch.tensor([[0.2, 0.3, 0.5]]))
    other = DistributionAlignment(3, steps=2)
    other.load_state_dict(align.state_dict())
    probability = torch.tensor([[0.6, 0.3, 0.1]])
    assert torch.equal(other(probability), align(probability))
