"""Multi-crop: the size of local views, and DINO's two global views, which are not alike."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.methods.pretrain import dino, swav
from sslpipe.methods.semisup import daino, suave
from sslpipe.views.multi_crop import MultiCrop, MultiCropSettings, local_side
from sslpipe.views.policies import ViewSettings

PLAIN = ViewSettings(policy="plain")


def crops(settings: MultiCropSettings, side: int, *, count: int = 2, multiple: int | None = 1) -> list[torch.Tensor]:
    image = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    image[..., ::2, ::2] = image[..., 1::2, 1::2] = 255  # a chessboard
    return MultiCrop(settings, [0.5], size=side, multiple=multiple)(image, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("side", "multiple", "expected"),
    [
        (224, 1, 96),  # the papers'
        (224, 16, 96),  # of ViT-S/16
        (224, None, 224),  # a network of one size
        (160, 1, 69),
        (96, 1, 41),
        (96, 16, 48),
        (64, 1, 27),
        (32, 1, 18),  # solo-learn's for CIFAR
        (32, 4, 16),
        (28, 1, 18),
        (16, 1, 16),  # nothing smaller is of use
        (16, 4, 16),
        (8, 1, 8),
    ],
)
def test_a_local_view_has_the_papers_share_of_the_image(side: int, multiple: int | None, expected: int) -> None:
    assert local_side(side, multiple) == expected


@given(patches=st.integers(1, 40), multiple=st.integers(1, 32))
def test_a_local_view_is_of_whole_patches_and_no_larger_than_the_image(patches: int, multiple: int) -> None:
    side = local_side(patches * multiple, multiple)
    assert side % multiple == 0
    assert multiple <= side <= patches * multiple


@pytest.mark.parametrize("settings", [swav.Settings(), dino.Settings(), suave.Settings(), daino.Settings()])
def test_the_default_views_are_two_global_ones_and_small_local_ones(settings: MultiCropSettings) -> None:
    sides = [view.shape[-1] for view in crops(settings, 64, count=1)]
    assert sides == [64, 64] + [27] * settings.local_crops


def test_a_size_that_is_set_stays_and_a_view_without_a_crop_stays_whole() -> None:
    local = ViewSettings(policy="plain", crop_scale=(0.1, 0.3), size=24)
    for views, side in ((local, 24), (PLAIN, 64)):
        settings = MultiCropSettings(global_views=PLAIN, local_views=views, local_crops=1)
        assert [view.shape[-1] for view in crops(settings, 64)] == [64, 64, side]


def shares(view: torch.Tensor) -> tuple[float, float]:
    """Shares of the views of chessboards that are blurred (they have greys), and solarised (they have no light)."""
    blurred = ((view > 0.1) & (view < 0.9)).flatten(1).any(dim=1)
    solarized = (view > 0.51).flatten(1).any(dim=1).logical_not()
    return float(blurred.float().mean()), float(solarized.float().mean())


def test_dinos_global_views_differ_in_blur_and_solarisation_as_in_its_public_code() -> None:
    """First view: blur 1, no solarisation; second: blur 0.1, solarisation 0.2; local views: blur 0.5."""
    for settings in (dino.Settings(), daino.Settings()):
        first, second, local = (
            views.resolved() for views in (settings.global_views, settings.second(), settings.local_views)
        )
        assert (first.blur, first.solarize) == (1.0, None)
        assert (second.blur, second.solarize) == (0.1, 0.2)
        assert (local.blur, local.solarize) == (0.5, None)
        assert first.crop_scale == second.crop_scale
        for views in (first, second, local):
            assert (views.brightness, views.contrast, views.saturation, views.hue) == (0.4, 0.4, 0.2, 0.1)
            assert (views.jitter, views.gray, views.flip, views.interpolation) == (0.8, 0.2, 0.5, "bicubic")


def test_the_second_global_view_is_drawn_with_its_changes() -> None:
    settings = MultiCropSettings(
        global_views=ViewSettings(policy="plain", blur=1.0, blur_sigma=(1.0, 2.0)),
        second_global_views={"blur": 0.1, "solarize": 0.2},
        local_crops=0,
    )
    first, second = crops(settings, 8, count=4000)
    assert shares(first)[0] == 1.0
    assert float((first[:, 0, 0, 0] > 0.49).float().mean()) > 0.9  # blurred white: no view is inverted
    blurred, solarized = shares(second)
    assert blurred == pytest.approx(0.1, abs=0.02)
    assert solarized == pytest.approx(0.2, abs=0.03)


def test_changes_keep_what_global_views_sets_unless_they_name_a_policy() -> None:
    block = {"global_views": {"crop_scale": [0.25, 1.0]}, "second_global_views": {"solarize": 0.3}}
    second = parse(dino.Settings, block, where="pretrain.dino").second().resolved()
    assert (second.crop_scale, second.blur, second.solarize) == ((0.25, 1.0), 1.0, 0.3)
    block["second_global_views"] = {"policy": "plain", "flip": 0.5}
    second = parse(dino.Settings, block, where="pretrain.dino").second().resolved()
    assert (second.crop_scale, second.blur, second.flip) == (None, None, 0.5)
    block["second_global_views"] = {}
    settings = parse(dino.Settings, block, where="pretrain.dino")
    assert settings.second() == settings.global_views


@pytest.mark.parametrize(("changes", "found"), [({"blurr": 0.1}, "blurr"), ({"blur": 2}, "blur")])
@pytest.mark.parametrize("module", [swav, dino, suave, daino])
def test_changes_that_are_none_are_one_line_with_their_key(module, changes, found) -> None:
    with pytest.raises(UserError, match=rf"^block: second_global_views\.{found}: [^\n]+$"):
        parse(module.Settings, {"second_global_views": changes}, where="block")
