"""The recipes of the alternation are the runs of its public code."""

import pytest

from sslpipe.engine.method import Progress
from sslpipe.methods.semisup._phases import Phases
from sslpipe.tools.recipes import load

CIFAR, SVHN, STL = (200, 20, 10, 1, [100]), (200, 0, 5, 0, [20, 50, 100, 150]), (200, 20, 5, 1, [50, 100, 150])
RUNS = {
    **{f"alternation-cifar10-{labels}": CIFAR for labels in (10, 40, 250)},
    **{f"alternation-svhn-{labels}": SVHN for labels in (40, 250)},
    "alternation-stl10": STL,
    "alternation-cifar10-40-uda": (120, 20, 10, 1, [20, 50, 100]),
    "alternation-cifar10-40-mixmatch": (300, 20, 1, 1, [50, 100, 250]),
}
"""Name → iterations, epochs of rotation before them, semi-supervised epochs and epochs of rotation in each, and
clustering epochs after which the learning rate is halved."""
JITTER = {"jitter": 1.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.125}


def block(name):
    return load(name).settings["semisup"]["alternation"]


@pytest.mark.parametrize("name", [*RUNS, "alternation-cifar10-40-short"])
def test_the_run_ends_with_its_last_semi_supervised_epoch(name):
    settings = block(name)
    keys = ("warmup_epochs", "ssl_epochs", "rotation_epochs", "cluster_epochs")
    phases, total = Phases(*(settings[key] for key in keys)), settings["fit"]["epochs"]
    iterations, warmup, ssl, rotation, _ = RUNS.get(name, (20, 2, 10, 1, [10]))
    assert (phases.warmup, phases.semisupervised, phases.rotation, phases.clustering) == (warmup, ssl, rotation, 1)
    assert phases.among_semisupervised(Progress(0, total, 1)).total == iterations * ssl
    assert phases.at(Progress(total - 1, total, 1)) == "semisupervised"
    assert phases.at(Progress(total, total, 1)) != "semisupervised"


@pytest.mark.parametrize("name", RUNS)
def test_clustering_schedule_and_average_are_the_public_codes(name):
    settings = block(name)
    assert settings["lr_milestones"] == RUNS[name][4]
    assert settings["lr"] == (0.005 if name == "alternation-stl10" else 0.01)
    assert (settings["schedule_over"], settings["average_in"]) == ("semisupervised", "semisupervised")
    assert (settings["distance"], settings["reduction"], settings["radius"]) == ("euclidean", "mean", 0.2)
    assert settings.get("cluster_batch") == (128 if settings["fit"]["batch"] > 128 else None)


@pytest.mark.parametrize("name", RUNS)
def test_labelled_images_are_jittered_over_fixmatch_alone(name):
    base, ssl = block(name)["base"], block(name)["ssl"]
    flip = {"flip": 0.0} if "svhn" in name else {}
    jittered = {"policy": "weak", **JITTER, **flip} if base == "fixmatch" else {"policy": "weak"}
    assert dict(ssl["views"]) == jittered
    assert dict(ssl.get("weak", {})) == ({"policy": "weak", **flip} if base == "fixmatch" else {})
    assert ssl.get("normalize_by") == (None if base == "mixmatch" else "confident")


def test_mixmatch_has_its_papers_settings_within_the_alternation():
    ssl = block("alternation-cifar10-40-mixmatch")["ssl"]
    assert (ssl["unlabelled_weight"], ssl["mixing"]["mixup"], ssl["ramp_steps"]) == (75, 0.75, 2**14)
    assert (ssl["temperature"], ssl["copies"]) == (0.5, 2)


@pytest.mark.parametrize("labels", [40, 250, 4000])
def test_mixmatch_alone_rises_in_1024_kimg(labels):
    settings = load(f"mixmatch-cifar10-{labels}").settings["semisup"]["mixmatch"]
    assert settings["ramp_steps"] * settings["fit"]["batch"] == 1024 * 1024
    assert (settings["unlabelled_weight"], settings["mixing"]["mixup"]) == (100, 0.5)
