"""Sixty steps on 300 digits: what each pretext task asks for, the network does better than before."""

import pytest
from every_method import METHODS, train

from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.methods.pretrain._monitors import feature_diagnostics

PRETEXTS = [name for name in METHODS if name.startswith("pretrain/")]


@pytest.mark.parametrize("name", PRETEXTS)
def test_it_learns(name, digits, network):
    settings, method = METHODS[name](digits, network)
    before = feature_diagnostics(network, method.held_out, method.views)
    history = train(name, digits, settings, method, batch=50, epochs=10, lr=2e-3, schedule=ScheduleSettings())
    after = history[-1]
    if name == "pretrain/rotnet":
        assert after["rotation_acc"] > 0.7  # of four
        return
    # Views of an image come closer to each other, other images do not (SCAN, eq. 1).
    assert after["held_out/view_retrieval@1"] > before["held_out/view_retrieval@1"] + 0.03
    assert after["held_out/feature_std"] > before["held_out/feature_std"] + 0.05
