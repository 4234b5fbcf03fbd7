import pytest
import torch
from every_method import losses_of, pretext_given
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain import _memory
from sslpipe.methods.pretrain.nce import Method, Settings
from sslpipe.objectives import nce as objective


def step(method, images, index, seed=0):
    batch = Batch(image=images[index], index=index)
    terms = losses_of(method, batch, torch.Generator().manual_seed(seed))
    feature = method._latest[1].clone()
    method.after_step()
    return terms, feature


def test_visited_rows_of_the_memory_move_and_stay_on_the_sphere(digits, network):
    method = Method(Settings(negatives=0, momentum=0.5), pretext_given(digits, network))
    before, index = method.memory.rows.clone(), torch.tensor([3, 7, 290])
    _, feature = step(method, digits[0], index)
    torch.testing.assert_close(method.memory.rows[index], F.normalize(0.5 * before[index] + 0.5 * feature, dim=1))
    others = torch.ones(300, dtype=torch.bool)
    others[index] = False
    assert torch.equal(method.memory.rows[others], before[others])
    torch.testing.assert_close(method.memory.rows.norm(dim=1), torch.ones(300))


@pytest.mark.parametrize(
    ("normalizer", "expected"), [("first_epoch", (2.0, 3.0, 5.0, 5.0)), ("first_batch", (2.0, 2.0, 2.0, 2.0))]
)
def test_the_normalizer_is_that_of_the_first_batch_or_the_mean_of_the_first_epochs(
    digits, network, monkeypatch, normalizer, expected
):
    estimates = iter([2.0, 4.0, 9.0, 100.0])
    monkeypatch.setattr(_memory, "estimate_normalizer", lambda *_, **__: torch.tensor(next(estimates)))
    method = Method(Settings(negatives=64, normalizer=normalizer), pretext_given(digits, network))
    for number, value in enumerate(expected):
        method.progress = Progress(number, 12, 3)
        step(method, digits[0], torch.arange(30))
        method.after_epoch({})  # an interval of the history is not an epoch
        torch.testing.assert_close(method.contrast.normalizer, torch.tensor(value))


def test_an_estimate_is_over_the_noise_of_the_batch(digits, network, monkeypatch):
    method = Method(Settings(negatives=8, normalizer="first_batch"), pretext_given(digits, network))
    given, nce, memory = [], _memory.nce, method.memory.rows.clone()
    monkeypatch.setattr(_memory, "nce", lambda *rows, **named: given.append(rows) or nce(*rows, **named))
    step(method, digits[0], torch.arange(30))
    feature, noise = given[0][0].detach(), given[0][2]
    total = sum(float((feature[i] @ memory[j] / 0.07).exp()) for i in range(30) for j in noise[i])
    assert method.contrast.normalizer.item() == pytest.approx(300 * total / (30 * 8), rel=1e-4)


def test_the_first_batchs_normalizer_is_that_of_a_random_memory(digits, network):
    """E[exp(v·f / τ)] of a random unit f of D entries is about exp(1 / 2Dτ²), 1.48 for D = 128 and τ = 0.1."""
    method = Method(Settings(temperature=0.1, normalizer="first_batch"), pretext_given(digits, network))
    step(method, digits[0], torch.arange(30))
    assert method.contrast.normalizer.item() / 300 == pytest.approx(1.48, rel=0.05)


def test_the_proximal_term_is_added(digits, network):
    method = Method(Settings(negatives=16, proximal=2.0), pretext_given(digits, network))
    terms, _ = step(method, digits[0], torch.arange(30))
    torch.testing.assert_close(terms["loss"], terms["nce"] + 2 * terms["proximal"])


@pytest.mark.parametrize("step_number", [0, 3])
def test_products_with_the_noise_are_computed_once_and_z_in_the_first_epoch_alone(
    digits, network, monkeypatch, step_number
):
    calls = []
    for name in ("cosines", "estimate_normalizer"):
        real = getattr(_memory, name)
        noted = lambda *given, name=name, real=real, **named: calls.append(name) or real(*given, **named)  # noqa: E731
        monkeypatch.setattr(_memory, name, noted)
    monkeypatch.setattr(objective, "cosines", lambda *_: calls.append("again"))
    method = Method(Settings(negatives=64), pretext_given(digits, network))
    method.contrast.normalizer.fill_(300.0)
    method.progress = Progress(step_number, 12, 3)
    step(method, digits[0], torch.arange(30))
    assert calls == ["cosines", "estimate_normalizer"][: 2 if step_number == 0 else 1]
