"""Views for a network that sees smaller squares than the stored ones."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from sslpipe.io.errors import UserError
from sslpipe.views import geometry
from sslpipe.views.draw import Draw
from sslpipe.views.multi_crop import MultiCrop, MultiCropSettings
from sslpipe.views.policies import POLICIES, Views, ViewSettings, plain

WINDOW = ViewSettings(policy="plain", window="random")


def images(count: int, channels: int = 3, size: int = 6) -> Tensor:
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(4))


def view(given: ViewSettings, image: Tensor, side: int | None, seed: int = 0) -> Tensor:
    return Views(given, [0.4] * image.shape[1], side=side)(image, torch.Generator().manual_seed(seed))


def test_the_plain_view_is_the_centre() -> None:
    image = images(5)
    assert torch.equal(view(ViewSettings(policy="plain"), image, 4), plain(image[..., 1:5, 1:5]))


@given(size=st.integers(1, 9), less=st.integers(0, 8), channels=st.sampled_from([1, 3]), seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_a_random_window_is_torchvisions_crop_at_the_drawn_place(
    size: int, less: int, channels: int, seed: int
) -> None:
    side = max(size - less, 1)
    image, draw = images(7, channels, size), Draw(7, torch.Generator().manual_seed(seed))
    left, top = draw.whole(0, size - side).tolist(), draw.whole(0, size - side).tolist()
    expected = [V.crop(each, top[i], left[i], side, side) for i, each in enumerate(image)]
    cut = geometry.window(image, left=torch.tensor(left), top=torch.tensor(top), side=side)
    assert torch.equal(cut, torch.stack(expected))
    if side < size:
        assert torch.equal(view(WINDOW, image, side, seed), plain(cut))


def test_every_place_is_as_likely() -> None:
    image = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(9000, -1, -1, -1)
    corner = (view(WINDOW, image, 4)[:, 0, 0, 0] * 255).round().long()
    counts = corner.bincount(minlength=36).view(6, 6)
    assert counts[:3, :3].sum() == 9000
    assert (counts[:3, :3] - 1000).abs().max() < 130  # four standard deviations


@pytest.mark.parametrize("policy", ["strong", "weak", "randaugment"])
def test_policies_without_a_crop_start_from_a_random_window(policy: str) -> None:
    given = ViewSettings(policy=policy)
    generator = torch.Generator().manual_seed(3)
    draw, image = Draw(40, generator), images(40, size=12)
    cut = geometry.window(image, left=draw.whole(0, 4), top=draw.whole(0, 4), side=8)
    expected = Views(given, [0.4] * 3)(cut, generator)  # which goes on with the next draws
    assert torch.equal(view(given, image, 8, seed=3), expected)
    central = view(replace(given, window="central"), image, 8, seed=3)
    assert torch.equal(central, view(given, image[..., 2:10, 2:10], 8, seed=3))


@pytest.mark.parametrize("policy", ["standard", "simclr"])
def test_a_crop_is_cut_from_the_whole_square_and_has_the_networks_side(policy: str) -> None:
    given = ViewSettings(policy=policy)
    image = images(20, size=12)
    found = view(given, image, 8)
    assert found.shape == (20, 3, 8, 8)
    assert torch.equal(found, view(replace(given, size=8), image, None))
    whole = ViewSettings(policy="plain", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    ramp = (torch.arange(12) * 20).to(torch.uint8).expand(2, 1, 12, 12)
    expected = (torch.arange(8) * 1.5 + 0.25) * 20 / 255  # pixel centres of the eight columns over all twelve
    torch.testing.assert_close(view(whole, ramp, 8), expected.expand(2, 1, 8, 8))


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_changes_where_the_images_have_the_networks_side(policy: str) -> None:
    given = ViewSettings(policy=policy)
    expected = view(given, images(20, size=12), None)
    for side in (12, 20):
        if side == 12 or not given.resolved().crop_scale:
            assert torch.equal(view(given, images(20, size=12), side), expected)


def test_local_views_keep_their_own_size() -> None:
    settings = MultiCropSettings(
        global_views=ViewSettings(policy="plain", crop_scale=(0.5, 1.0)),
        local_views=ViewSettings(crop_scale=(0.2, 0.5), size=5),
        local_crops=3,
    )
    crops = MultiCrop(settings, [0.4] * 3, size=12, multiple=1, side=8)
    found = crops(images(4, size=12), torch.Generator().manual_seed(0))
    assert [each.shape[-1] for each in found] == [8, 8, 5, 5, 5]


def test_views_larger_than_the_network_sees_are_refused() -> None:
    with pytest.raises(UserError, match=r"^size: 9 px found for views, expected at most network.side, 8$"):
        Views(ViewSettings(size=9), [0.4], side=8)
