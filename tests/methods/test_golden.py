"""Twenty steps of every method as they were: a refactor has to reproduce them.

After a change that is meant to change them: UPDATE_GOLDEN=1 pytest tests/methods/test_golden.py
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sslpipe.data.batches import Batches
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import fit
from sslpipe.methods.cluster import scan
from sslpipe.methods.pretrain import nce, simclr
from sslpipe.methods.self_label import confident
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.heads import LinearHead, LinearSettings

PATH = Path(__file__).parent / "golden.json"


def simclr_method(digits, network):
    settings = simclr.Settings()
    return settings, simclr.Pretext(settings, network, digits[0])


def nce_softmax(digits, network):
    settings = nce.Settings(negatives=0)
    return settings, nce.Pretext(settings, network, digits[0])


def nce_noise(digits, network):
    settings = nce.Settings(negatives=32, proximal=0.5)
    return settings, nce.Pretext(settings, network, digits[0])


def scan_method(digits, network):
    settings = scan.Settings(clusters=10, heads=2)
    hoods = []
    for images in digits[:2]:
        indices, _ = nearest_neighbors(torch.from_numpy(images.array).flatten(1).float(), k=5)
        hoods.append(scan.Neighborhood(images, torch.from_numpy(indices)))
    return settings, scan.Clustering(settings, network, *hoods)


def confident_method(digits, network):
    settings = confident.Settings(threshold=0.1, targets="averaged", decay=0.9)
    network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=10))
    return settings, confident.SelfLabelling(settings, network, digits[0])


METHODS = {
    "pretrain/simclr": simclr_method,
    "pretrain/nce softmax": nce_softmax,
    "pretrain/nce noise": nce_noise,
    "cluster/scan": scan_method,
    "self_label/confident": confident_method,
}


@pytest.mark.parametrize("name", METHODS)
def test_twenty_steps_are_as_they_were(name, digits, network):
    settings, method = METHODS[name](digits, network)
    # Five epochs of four steps; a learning rate at which something happens.
    budget = replace(settings.fit, epochs=5, batch=75, optimizer=replace(settings.fit.optimizer, name="adam", lr=1e-3))
    batches = Batches(digits[0], budget.batch, seed=0)
    history = fit(method, batches, budget, where=name, seed=0, checkpoint=Checkpoint(None, 1e9))
    curve = [{key: value for key, value in row.items() if key != "images_per_s"} for row in history]
    golden = json.loads(PATH.read_text()) if PATH.exists() else {}
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(json.dumps({**golden, name: curve}, indent=1, sort_keys=True) + "\n")
        return
    assert len(curve) == len(golden[name])
    for row, expected in zip(curve, golden[name], strict=True):
        assert row == pytest.approx(expected, rel=5e-3, abs=1e-4)
    assert curve[-1]["loss"] < curve[0]["loss"]
