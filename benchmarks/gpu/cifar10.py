"""CIFAR-10 from files: SimCLR, SCAN, self-labelling, within a budget of minutes; recipe scan-cifar10-code.

Each training has as many epochs as fit into its share of the budget, at most the recipe's, fixed by a short run before
the start, so that its schedule ends where the training ends. A training that is stopped by the end of a call goes on in
the next one. What differs from the recipe besides the epochs: images are files (JPEG has lost a little of each), and
labels of four images a class are drawn for the part few.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.gpu import settings
from benchmarks.gpu.commands import Job, StoppedError, run
from benchmarks.gpu.digits import shown
from benchmarks.gpu.length import rates, that_fit
from benchmarks.gpu.plan import Facts, Outcome, Plan
from sslpipe.io.console import info
from sslpipe.io.files import read_json
from sslpipe.io.params import Params

RECIPE = "scan-cifar10-code"
SHARES = {"pretrain": 0.6, "cluster": 0.15, "self-label": 0.25}
"""Of the budget: in the proportion of the recipe's own epochs, about, with more for what follows (own choice)."""
BLOCKS = {"pretrain": "pretrain.simclr", "cluster": "cluster.scan", "self-label": "self_label.confident"}
TIMING_EPOCHS = 3
PER_CLASS = 4
"""Labelled images of each class."""
TINY = {
    **{"network": {"name": "tiny_resnet"}, "prepare.size": 16, "mine_neighbors.k": 5, "cluster.scan.neighbors": 5},
    **{f"{block}.fit.batch": 16 for block in BLOCKS.values()},
    **{"pretrain.simclr.fit.epochs": 3, "cluster.scan.fit.epochs": 3, "self_label.confident.fit.epochs": 3},
    "self_label.confident.threshold": 0.2,
}
"""Of a rehearsal."""


def folder_of(plan: Plan) -> Path:
    """Return the folder of the runs on CIFAR-10."""
    return plan.out / "cifar10"


def make_images(folder: Path) -> Path:
    """Write a few JPEG files of ten classes as the rehearsal's images, and return their folder."""
    random = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 3)):
        for number in range(10):
            target = folder / part / f"class{number}"
            target.mkdir(parents=True, exist_ok=True)
            colour = np.array([number % 3, number // 3 % 3, number // 9]) * 100 + 25
            for each in range(count):
                pixels = colour + random.normal(0, 20, (32, 32, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(target / f"{each}.jpg")
    return folder


def replaced(plan: Plan, images: Path) -> dict[str, Any]:
    """Return dotted key → value of the settings that are not the recipe's."""
    own = {
        **{"prepare.source": "folder", "prepare.folder.path": str(images), "prepare.folder.layout": "parts"},
        "prepare.labelled": {"per_class": PER_CLASS, "fold": 0},
    }
    return own | (TINY if plan.tiny else {})


def command(plan: Plan, stage: str, *further: str, output: str = "", name: str = "") -> Job:
    """Return a stage's command. output: "" for its folder in runs/. name: "" for the stage's."""
    output = output or f"runs/{stage}"
    device = [] if stage == "prepare" else ["--device", str(plan.device)]
    return Job(name or stage, [stage, "--params", "params.yaml", "--out", output, *device, *further], output)


def length(plan: Plan, stage: str, project: Params, facts: Facts) -> int:
    """Return the number of epochs of a training stage, which is measured once."""
    known: dict[str, int] = facts.setdefault("epochs", {})
    if stage not in known:
        folder = folder_of(plan)
        timing = command(
            plan, stage, "--epochs", str(TIMING_EPOCHS), output=f"runs/timing/{stage}", name=f"timing-{stage}"
        )
        rate = rates(plan, folder, {stage: timing}, facts)[stage]
        key, method = BLOCKS[stage].split(".")
        fit = project.tree[key][method]["fit"]
        images = int(read_json(folder / "runs/prepare/store.json")["train"])
        each = (images // fit["batch"]) / rate
        seconds = 60 * plan.training_minutes * SHARES[stage]
        known[stage] = that_fit(seconds, each, most=fit["epochs"])
        info(f"{stage}: {each:.2f} s an epoch; {known[stage]} of the recipe's {fit['epochs']} fit into {seconds:.0f} s")
    return known[stage]


def measure(plan: Plan, facts: Facts) -> Outcome:
    images, folder = plan.images, folder_of(plan)
    if images is None and not plan.tiny:
        return Outcome("not measured: --images is not given", done=False, possible=False)
    images = images or make_images(plan.out / "images")
    settings.write(folder / "params.yaml", settings.recipe(RECIPE), replaced(plan, images))
    project = Params(folder / "params.yaml")
    seconds: dict[str, float] = facts.setdefault("seconds", {})

    def done(job: Job) -> None:
        if took := run(plan, folder, job):  # of the last call alone; all of them are in the part's minutes
            seconds[job.name] = round(took, 1)

    try:
        done(command(plan, "prepare"))
        for stage in ("pretrain", "features", "mine-neighbors", "cluster", "self-label", "evaluate"):
            further = ["--epochs", str(length(plan, stage, project, facts))] if stage in SHARES else []
            done(command(plan, stage, *further))
    except StoppedError as stopped:
        return Outcome(f"{stopped}, epochs {facts.get('epochs', {})}", done=False)
    facts["metrics"] = read_json(folder / "runs/evaluate/metrics.json")
    values = ", ".join(f"{model} {value:.3f}" for model, value in shown(facts["metrics"]).items())
    return Outcome(f"{values}; epochs {facts['epochs']}")
