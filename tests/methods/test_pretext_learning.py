"""Sixty steps on 300 digits: what each pretext task asks for, the network does better than before."""

import pytest
import torch
from every_method import METHODS, train

from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.views.policies import Views, ViewSettings

PRETEXTS = [name for name in METHODS if name.startswith("pretrain/")]
CROP = ViewSettings(policy="plain", crop_scale=(0.5, 1.0))


@torch.no_grad()
def told_apart(network, images):
    """Share of the other images that a view is farther from than from another view of its image: 0.5 at chance."""
    views, shares = Views(CROP, network.image_mean), []
    every = images[torch.arange(len(images))]
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        first, second = (
            torch.nn.functional.normalize(network.eval().features(views(every, generator)), dim=1) for _ in range(2)
        )
        similarity = first @ second.T
        shares.append((similarity.diagonal()[:, None] > similarity).float().mean() * len(every) / (len(every) - 1))
    return torch.stack(shares).mean().item()


@pytest.mark.parametrize("name", PRETEXTS)
def test_it_learns(name, digits, network):
    settings, method = METHODS[name](digits, network)
    before = told_apart(network, digits[1])
    history = train(name, digits, settings, method, batch=50, epochs=10, lr=2e-3, schedule=ScheduleSettings())
    if name == "pretrain/rotnet":
        assert history[-1]["rotation_acc"] > 0.7  # of four
        return
    after = told_apart(method.selected(), digits[1])
    # Views of an image come closer to each other, other images do not (SCAN, eq. 1).
    assert after > before + 0.03
