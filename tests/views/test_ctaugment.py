"""CTAugment: what is drawn, what is learned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslpipe.views.ctaugment import CTAugment, Probe
from sslpipe.views.draw import Draw
from sslpipe.views.operations import OperationName, apply_operations
from sslpipe.views.policies import Views, ViewSettings
from sslpipe.views.pools import POOLS

OPERATIONS = POOLS["fixmatch"].operations
ALL = list(POOLS["ctaugment_code"].operations)

NAMES: tuple[OperationName, ...] = ("identity", "brightness")


def draws(count: int, seed: int = 0) -> Draw:
    return Draw(count, torch.Generator().manual_seed(seed))


def noise(count: int, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(7))


def updated(rates: Tensor, probe: Probe, match: Tensor, decay: float) -> Tensor:
    """ReMixMatch's rule, image by image and operation by operation."""
    rates = rates.double()
    for image in range(probe.chosen.shape[1]):
        for turn in range(probe.chosen.shape[0]):
            for number in range(rates.shape[1]):
                at = int(probe.chosen[turn, image]), number, int(probe.bins[number, turn, image])
                rates[at] = decay * rates[at] + (1 - decay) * float(match[image])
    return rates


@settings(max_examples=50, deadline=None)
@given(
    depth=st.integers(1, 3),
    bins=st.integers(1, 4),
    count=st.integers(1, 30),
    decay=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 1000),
    names=st.sampled_from([NAMES, ("posterize", "rescale", "cutout")]),
)
def test_update_is_the_papers_loop(
    depth: int, bins: int, count: int, decay: float, seed: int, names: tuple[OperationName, ...]
) -> None:
    augment = CTAugment(names, pool="ctaugment", depth=depth, bins=bins, decay=decay)
    generator = torch.Generator().manual_seed(seed)
    augment.rates.copy_(torch.rand(augment.rates.shape, generator=generator))
    before = augment.rates.clone()
    probe, match = augment.probe(Draw(count, generator)), torch.rand(count, generator=generator)
    augment.update(probe, match)
    torch.testing.assert_close(augment.rates.double(), updated(before, probe, match, decay), rtol=0, atol=2e-6)


def test_one_miss_lowers_its_bin_by_a_hundredth() -> None:
    # Counted by hand: FixMatch's decay 0.99, a rate of 1, a prediction of half the L1 distance 0.75 from its label.
    augment = CTAugment(NAMES, depth=1)
    probe = Probe(torch.tensor([[1]]), torch.tensor([[[16]]]), torch.tensor([[[0.97]]]))
    augment.update(probe, torch.tensor([0.25]))
    expected = torch.ones(2, 1, 17)
    expected[1, 0, 16] = 0.9925
    torch.testing.assert_close(augment.rates, expected)


def test_rates_start_at_one_and_lie_in_the_state() -> None:
    augment = CTAugment(list(OPERATIONS))
    assert torch.equal(augment.state_dict()["rates"], torch.ones(14, 1, 17))
    buffer = augment.rates
    augment.update(augment.probe(draws(8)), torch.zeros(8))
    assert augment.rates is buffer
    assert float(buffer.min()) < 1
    again = CTAugment(list(OPERATIONS))
    again.load_state_dict(augment.state_dict())
    assert torch.equal(again.rates, buffer)
    assert not list(augment.parameters())


def learned(rates: list[float], count: int = 20000) -> Tensor:
    """Views of white pixels under brightness with these rates of its bins: the factors that were drawn."""
    augment = CTAugment(["brightness"], depth=1, bins=len(rates))
    augment.rates.copy_(torch.tensor([[rates]]))
    factor: Tensor = augment(torch.ones(count, 1, 1, 1), draws(count)).flatten()
    return (factor - 0.05) / 0.9


@pytest.mark.parametrize(
    ("rates", "drawn"),
    [
        ([1.0, 1.0, 1.0, 1.0], [1, 1, 1, 1]),
        # Public code: 1 - decay = 0.01 is added to every rate.
        ([0.0, 1.0, 0.79, 0.81], [0, 1.01, 0, 0.82]),
        ([0.0, 0.1, 0.079, 0.0], [0, 0.11, 0.089, 0]),
        ([0.0, 0.0, 0.0, 0.0], [1, 1, 1, 1]),
        # Relative to the best bin: an operation that is seldom seen through still has something to draw.
        ([0.5, 0.45, 0.3, 0.0], [0.51, 0.46, 0, 0]),
        ([0.2, 0.0, 0.0, 0.0], [1, 0, 0, 0]),
        ([0.0, 0.0, 0.0, 1.0], [0, 0, 0, 1]),
    ],
)
def test_bins_are_drawn_by_their_rates_above_the_threshold(rates: list[float], drawn: list[float]) -> None:
    share = learned(rates)
    counts = torch.histc(share, bins=4, min=0, max=1) / len(share)
    expected = torch.tensor(drawn) / sum(drawn)
    assert torch.equal(counts == 0, expected == 0)
    torch.testing.assert_close(counts, expected, rtol=0, atol=0.015)


class Lowest(Draw):
    def uniform(self, low: float, high: float) -> Tensor:
        return torch.full((self.count,), low)


def test_the_lowest_draw_passes_over_a_bin_of_rate_zero() -> None:
    augment = CTAugment(["brightness"], depth=1, bins=4)
    augment.rates.copy_(torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))
    view = augment(torch.ones(1, 1, 1, 1), Lowest(1, torch.Generator()))
    assert float(view) == pytest.approx(0.05 + 0.9 * 2 / 4)


def test_magnitudes_are_even_within_a_bin() -> None:
    share = learned([0.0, 1.0, 0.0, 0.0])
    assert 0.25 - 1e-6 <= float(share.min()) < 0.251
    assert 0.499 < float(share.max()) <= 0.5 + 1e-6
    assert abs(float(share.mean()) - 0.375) < 0.003
    assert abs(float(share.std()) - 0.25 / 12**0.5) < 0.002


def test_probe_draws_operations_and_bins_evenly_whatever_the_rates() -> None:
    augment = CTAugment(list(OPERATIONS), depth=2, bins=3)
    augment.rates[:, :, 0] = 0.0
    probe = augment.probe(draws(42000))
    assert probe.chosen.shape == (2, 42000)
    assert probe.bins.shape == probe.shares.shape == (1, 2, 42000)
    for turn in range(2):
        cells = torch.bincount(probe.chosen[turn] * 3 + probe.bins[0, turn], minlength=42)
        assert (cells - 1000).abs().max() < 150
    assert torch.equal((probe.shares * 3).floor().long(), probe.bins)
    # The rounds are drawn apart from each other.
    assert abs(float((probe.chosen[0] == probe.chosen[1]).float().mean()) - 1 / 14) < 0.01


def test_views_draw_operations_evenly() -> None:
    # White pixels tell whether they were dimmed: not in a quarter, with two operations in two rounds.
    augment = CTAugment(NAMES)
    view = augment(torch.ones(8000, 1, 1, 1), draws(8000)).flatten()
    assert abs(float((view == 1).float().mean()) - 1 / 4) < 0.02


def test_probe_is_done_image_by_image_by_its_table() -> None:
    augment, image, pool = CTAugment(list(OPERATIONS)), noise(30), POOLS["fixmatch"]
    probe = augment.probe(draws(30))
    names = pool.arranged(list(OPERATIONS))
    expected = apply_operations(image, probe.chosen, probe.shares[0], probe.shares[0], names=names, pool=pool)
    assert torch.equal(augment.apply_probe(image, probe), expected)
    assert not torch.equal(CTAugment(list(OPERATIONS), pool="scan").apply_probe(image, probe), expected)


def test_it_fits_into_a_policy_and_draws_from_its_generator_alone() -> None:
    augment = CTAugment(list(OPERATIONS))
    image = (noise(16) * 255).to(torch.uint8)
    views = Views(ViewSettings(policy="randaugment"), [0.5] * 3)
    torch.manual_seed(0)
    first = views(image, torch.Generator().manual_seed(1), augment)
    torch.manual_seed(1)
    assert torch.equal(first, views(image, torch.Generator().manual_seed(1), augment))
    assert not torch.equal(first, views(image, torch.Generator().manual_seed(2), augment))
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_bins_that_hide_the_label_are_given_up() -> None:
    # A network that sees the label only in images at least half as bright: brightness below 0.5 is learned to be out.
    augment, generator = CTAugment(["brightness"], depth=1, decay=0.9), torch.Generator().manual_seed(0)
    white = torch.ones(200, 1, 1, 1)
    for _ in range(10):
        probe = augment.probe(Draw(200, generator))
        augment.update(probe, (augment.apply_probe(white, probe).flatten() >= 0.5).float())
    factor = augment(white, Draw(200, generator))
    # Bin 8 of 17 lies on both sides of 0.5 and may stay in.
    assert float(factor.min()) >= 0.05 + 0.9 * 8 / 17 - 1e-6
    assert float(factor.max()) > 0.9


def test_bins_of_the_public_code() -> None:
    # 17 for a level, 8 for posterize's bits, 6 for rescale's methods; identity and cutout's place have no bins.
    augment = CTAugment(ALL, pool="ctaugment_code")
    assert augment.rates.shape == (19, 2, 17)
    counts = dict(zip(augment.names, augment.counts.tolist(), strict=True))
    assert counts == {name: [17, 1] for name in ALL} | {
        "identity": [1, 1],
        "translate_x": [17, 1],
        "posterize": [8, 1],
        "rescale": [17, 6],
    }


def test_bins_that_an_interval_has_not_are_never_drawn() -> None:
    augment = CTAugment(["posterize", "rescale"], pool="ctaugment")
    augment.rates[:, :, 3:] = 0.9
    for probe in (augment.probe(draws(4000)), augment._draw(draws(4000), augment._in_use() * augment.rates)):
        for index, name in enumerate(augment.names):
            level, method = (bins[probe.chosen == index] for bins in probe.bins)
            assert level.unique().tolist() == list(range(8 if name == "posterize" else 17))
            assert method.unique().tolist() == list(range(6 if name == "rescale" else 1))


def test_rescale_gives_up_methods_that_hide_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    augment, generator = CTAugment(["rescale"], pool="ctaugment", depth=1, decay=0.9), torch.Generator().manual_seed(0)
    for _ in range(20):
        probe = augment.probe(Draw(100, generator))
        augment.update(probe, (probe.bins[1, 0] == 4).float())
    monkeypatch.setattr(augment, "apply_probe", lambda view, probe: probe.bins)
    assert augment(torch.ones(500, 1, 1, 1), Draw(500, generator))[1].unique().tolist() == [4]


@pytest.mark.parametrize("pool", ["ctaugment", "ctaugment_code"])
def test_all_operations_in_a_policy(pool: str) -> None:
    augment = CTAugment(ALL, pool=pool)  # type: ignore[arg-type]
    image = (noise(40) * 255).to(torch.uint8)
    view = Views(ViewSettings(policy=pool), [0.5] * 3)(image, torch.Generator().manual_seed(1), augment)  # type: ignore[arg-type]
    assert view.shape == image.shape
    assert 0 <= float(view.min()) <= float(view.max()) <= 1
