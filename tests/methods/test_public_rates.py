"""Learning rates of pretext tasks, epoch by epoch, against the rules of their public code."""

import pytest
import yaml

from sslpipe.engine.schedules import factor
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.settings import parse
from sslpipe.methods.pretrain import feature_decoupling, nce, rotnet
from sslpipe.tools import recipes

MODULES = {"nce": nce, "rotnet": rotnet, "feature_decoupling": feature_decoupling}
TABLES = {
    "rotnet": [(60, 0.1), (120, 0.02), (160, 0.004), (200, 0.0008)],
    "feature_decoupling": [(90, 1e-2), (130, 1e-3), (190, 1e-4), (210, 1e-5), (230, 1e-4), (245, 1e-5)],
}
"""Rates until an epoch (0-based, exclusive)."""
RECIPES = {
    "scan-cifar10": "nce",
    "scan-cifar20": "nce",
    "scan-stl10": "nce",
    "scan-cifar10-rotnet": "rotnet",
    "scan-cifar10-feature-decoupling": "feature_decoupling",
}


def public_rate(method, epoch):
    if method == "nce":
        return 0.03 * 0.1 ** ((epoch - 80) // 40) if epoch >= 80 else 0.03
    return next(rate for until, rate in TABLES[method] if epoch < until)


def rates(fit, steps_per_epoch):
    """The rates of the first and the last step of each epoch."""
    total = fit.epochs * steps_per_epoch
    for epoch in range(fit.epochs):
        for step in (epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1):
            yield epoch, fit.optimizer.lr * factor(fit.schedule, step, total, steps_per_epoch)


def recipe_settings(name):
    block = yaml.safe_load(recipes.text(name))["pretrain"]
    return parse(MODULES[block["method"]].Settings, block[block["method"]], where="pretrain")


@pytest.mark.parametrize("steps_per_epoch", [1, 281, 421])
@pytest.mark.parametrize("name", [*MODULES, *RECIPES])
def test_the_rate_is_that_of_the_public_code(name, steps_per_epoch):
    settings = recipe_settings(name) if name in RECIPES else MODULES[name].Settings()
    assert isinstance(settings.fit, FitSettings)
    for epoch, rate in rates(settings.fit, steps_per_epoch):
        assert rate == pytest.approx(public_rate(RECIPES.get(name, name), epoch)), epoch


@pytest.mark.parametrize(
    "settings", [feature_decoupling.Settings(), recipe_settings("scan-cifar10-feature-decoupling")]
)
def test_ambiguous_images_count_less_from_the_epoch_on_at_which_the_rate_rises(settings):
    total = 281 * settings.fit.epochs
    weighted = [step for step in range(total) if step / total >= settings.ambiguity_from]
    assert weighted[0] == 281 * 210
    before, after = (factor(settings.fit.schedule, step, total, 281) for step in (weighted[0] - 1, weighted[0]))
    assert after == pytest.approx(10 * before)
