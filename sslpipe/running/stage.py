"""One way to run the five training stages: settings, images, problem, method, training, model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sslpipe.data.device import choose_device
from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.params import Params, find_module, siblings
from sslpipe.io.stages import LABELLED_STAGES, key_of
from sslpipe.running.inputs import Inputs, OpenedProblem
from sslpipe.running.training import train

ONLY_METHOD = {"cluster": "scan", "self-label": "confident"}
"""The method of each stage that has only one."""


def run_stage(
    stage: str,
    params: Path,
    open_problem: Callable[[Inputs], OpenedProblem],
    *,
    method: str | None = None,
    options: Mapping[str, Any],
    seed: int | None,
    assignments: list[str] | None,
    prepared: Path,
    out: Path,
    device: str,
    checkpoint_seconds: float,
) -> None:
    """Train a stage's method on its problem and write the model to `out`.

    open_problem: reads the stage's further inputs and builds the method's problem. method: its module in
    sslpipe.methods.<stage>; None: pretrain.method, or the stage's only one. options: key within the method's block →
    value, None where not given; seed, options and then assignments ("key=value") override params.yaml.
    Raises UserError for a method, key or value that is not known, and for inputs that do not fit.
    """
    project = Params(params)
    key, package = key_of(stage), f"sslpipe.methods.{key_of(stage)}"
    name, where = str(method), f"{key}.{method}"
    if stage in ONLY_METHOD:
        name, where = ONLY_METHOD[stage], key
    elif stage == "pretrain":
        # Assignments come first, because they may name the method; their keys lie in the stage's block.
        project.override({"pretrain.method": method}, assignments, stage=key)
        name, assignments = project.method(key, package), None
        where = f"{key}.{name}"
    module = find_module(package, name, where="--method" if stage in LABELLED_STAGES else f"{key}.method")
    # `start` is a setting of the list of methods, not of the method.
    starts = {f"{key}.methods.{name}.start": options.get("start")}
    rest = {f"{where}.{option}": value for option, value in options.items() if option != "start"}
    project.override({"seed": seed, **starts, **rest}, assignments, stage=where)
    if stage in LABELLED_STAGES:
        project.check_keys(key, ["methods", *siblings(package)])
    settings = project.parse(module.Settings, where)

    store = Store(prepared)
    images = Images(store.images("train"), choose_device(device))
    torch.manual_seed(project.seed)
    inputs = Inputs(
        project=project, stage=stage, method=name, where=where, settings=settings, store=store, images=images
    )
    opened = open_problem(inputs)
    built = module.Method(settings, opened.problem).to(images.device)
    train(built, inputs, opened, out=out, checkpoint_seconds=checkpoint_seconds)
