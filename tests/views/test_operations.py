"""The random operations of table S4."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from sslpipe.views.draw import Draw
from sslpipe.views.operations import OPERATIONS, OperationName, random_operations


def draws(count: int, seed: int = 0) -> Draw:
    return Draw(count, torch.Generator().manual_seed(seed))


def images(count: int, channels: int = 3) -> Tensor:
    # More than 255 pixels below the greatest value, so that equalize acts; a narrow range, so that autocontrast does.
    levels = torch.randint(40, 200, (count, channels, 20, 20), generator=torch.Generator().manual_seed(3))
    return levels / 255


def test_names_are_the_tables() -> None:
    # Table S4, in its order.
    table = "identity autocontrast equalize rotate solarize color contrast brightness sharpness "
    table += "shear_x translate_x translate_y posterize shear_y"
    assert list(get_args(OperationName)) == list(OPERATIONS) == table.split()


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_is_done_as_if_alone(name: OperationName) -> None:
    # Paper-literal: a loop over images, each with the operation and the magnitude that it drew.
    image = images(12)
    names: tuple[OperationName, ...] = ("identity", name, "contrast")
    view = random_operations(image, draws(12), rounds=2, names=names)
    draw = draws(12)
    chosen = [draw.whole(0, 2) for _ in range(2)]
    unit = [draw.uniform(0, 1) for _ in range(2)]
    for i in range(12):
        one = image[i : i + 1]
        for t in range(2):
            operation = OPERATIONS[names[int(chosen[t][i])]]
            one = operation.apply(one, operation.low + (operation.high - operation.low) * unit[t][i : i + 1])
        torch.testing.assert_close(view[i : i + 1], one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_changes_what_it_should(name: OperationName, channels: int) -> None:
    image = images(64, channels)
    changed = (random_operations(image, draws(64), rounds=1, names=[name]) != image).flatten(1).any(1)
    if name == "identity" or (name == "color" and channels == 1):
        assert not changed.any()
    else:
        # Solarize above the brightest value and posterize to 8 bits change nothing.
        assert changed.float().mean() > 0.6


def test_operations_are_drawn_evenly() -> None:
    # Brightness scales by 0.05 to 0.95 and identity by 1, so a white image tells which it drew.
    image = torch.ones(8000, 1, 1, 1)
    names: tuple[OperationName, ...] = ("identity", "brightness", "identity", "identity")
    view = random_operations(image, draws(8000), rounds=1, names=names).flatten()
    dimmed = view < 1
    assert abs(float(dimmed.float().mean()) - 1 / 4) < 0.02
    assert abs(float(view[dimmed].mean()) - 0.5) < 0.02
    assert float(view.min()) >= 0.05
    assert float(view[dimmed].max()) <= 0.95


def test_posterize_draws_each_number_of_bits_evenly() -> None:
    image = torch.full((5000, 1, 1, 1), 1.0)
    left = (random_operations(image, draws(5000), rounds=1, names=["posterize"]) * 255).round().flatten()
    values, counts = torch.unique(left, return_counts=True)
    assert values.tolist() == [240, 248, 252, 254, 255]
    assert (counts / 5000 - 1 / 5).abs().max() < 0.03


def test_rounds_are_drawn_with_replacement() -> None:
    # With two names, neither round draws brightness in a quarter of the images; without replacement it always would.
    image = torch.ones(4000, 1, 1, 1)
    view = random_operations(image, draws(4000), rounds=2, names=["identity", "brightness"]).flatten()
    assert abs(float((view == 1).float().mean()) - 1 / 4) < 0.03
