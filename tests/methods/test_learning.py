"""Sixty steps (Daino: 120) from scratch with four labels a class: every method does far better than chance, 0.1."""

import pytest
from every_method import LABELLED_METHODS, train

from sslpipe.engine.schedules import ScheduleSettings

REACHED = {
    # These begin slowly: guesses and assignments are of use once something is known.
    "semisup/mixmatch": 0.3,
    "semisup/suave": 0.35,
    "semisup/daino": 0.3,
    "semisup/alternation": 0.5,
    "semisup/alternation public": 0.5,
}


PRETRAINED = "semisup/simmatch lora"
"""Updates of a network that is not pretrained are not enough, see test_tuning_methods."""


@pytest.mark.parametrize("name", [name for name in LABELLED_METHODS if name != PRETRAINED])
def test_it_learns(name, digits, network):
    settings, method = LABELLED_METHODS[name](digits, network)
    epochs = 20 if name == "semisup/daino" else 10
    history = train(name, digits, settings, method, batch=50, epochs=epochs, lr=3e-3, schedule=ScheduleSettings())
    assert history[-1]["monitor/held_out_acc"] > REACHED.get(name, 0.65)
