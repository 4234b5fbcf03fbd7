"""One way to run the five training stages: settings, images, problem, method, training, model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches, Stream
from sslpipe.data.device import choose_device
from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.live import Live
from sslpipe.engine.loop import fit
from sslpipe.engine.method import BaseMethod
from sslpipe.io.console import info
from sslpipe.io.errors import NothingLearnedError
from sslpipe.io.files import atomic_folder, sha256, write_csv
from sslpipe.io.own_process import own_number, processes_started
from sslpipe.io.params import Params, find_module, siblings
from sslpipe.io.stage_end import print_end
from sslpipe.io.stages import LABELLED_STAGES, SHARED_KEYS, key_of
from sslpipe.nets.levels import save_tree
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.model_paths import CARD, weights_path
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.recompute import set_recompute
from sslpipe.running.checks import check_images, check_model, check_run, report_rise, size_of
from sslpipe.running.inputs import Choice, Inputs, OpenedProblem
from sslpipe.running.learned import learned
from sslpipe.running.watching import Logs, find_logs, open_live

TRAINED = "trained"
"""Folder, within the stage's output, of the method's own model where another one has become the result."""
OF_ENTRY = ("start", "labels")
"""Options that set a key of the list of methods, not of the method."""


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
    log: Sequence[str] | None = None,
) -> None:
    """Train a stage's method on its problem and write the model to `out`.

    open_problem: reads the stage's further inputs and builds the method's problem. method: its module in
    sslpipe.methods.<stage>; None: the one that <stage>.method names. options: key within the method's block, or one
    that all methods of the stage share → value, None where not given; seed, options and then assignments ("key=value")
    override params.yaml. log: modules of sslpipe.engine.logs that receive the rows of the history as they come.
    Raises UserError for a method, key or value that is not known, for inputs that do not fit, and for a model that is
    of no use.
    """
    logs = find_logs(log)
    project = Params(params)
    key, package = key_of(stage), f"sslpipe.methods.{key_of(stage)}"
    name, where = str(method), f"{key}.{method}"
    if stage not in LABELLED_STAGES:
        # Assignments come first, because they may name the method; their keys lie in the stage's block.
        project.override({f"{key}.method": method}, assignments, stage=key)
        name, assignments = project.method(key, package), None
        where = f"{key}.{name}"
    module = find_module(package, name, where="--method" if stage in LABELLED_STAGES else f"{key}.method")
    entry = {f"{key}.methods.{name}.{option}": options.get(option) for option in OF_ENTRY}
    shared = SHARED_KEYS.get(key, ())
    rest = {
        f"{key if option in shared else where}.{option}": value
        for option, value in options.items()
        if option not in OF_ENTRY
    }
    project.override({"seed": seed, **entry, **rest}, assignments, stage=where)
    if stage in LABELLED_STAGES:
        project.check_keys(key, ["methods", *siblings(package)])
    settings = project.parse_method(module.Settings, key, name)

    store = Store(prepared)
    check_images(store)
    images = Images(store.images("train"), choose_device(device))
    in_steps = settings.fit is not None
    if not in_steps and processes_started() > 1:
        if own_number():
            return
        info(f"{where}: trains no network in steps, so one device is used")
    with world.joined(images.device) if in_steps else nullcontext():
        torch.manual_seed(project.seed)
        inputs = Inputs(
            project=project, stage=stage, method=name, where=where, settings=settings, store=store, images=images
        )
        opened = open_problem(inputs)
        built = module.Method(settings, opened.problem).to(images.device)
        # Networks are loaded without it. It changes no result, so that no stage has it among DVC's params for this.
        set_recompute(built, project.parse(BackboneSettings, "network").recompute)
        _train(built, inputs, opened, out=out, checkpoint_seconds=checkpoint_seconds, logs=logs)


def _train(
    method: Any, inputs: Inputs, opened: OpenedProblem, *, out: Path, checkpoint_seconds: float, logs: Logs
) -> None:
    """Train a method and write the network that it selects.

    method: on the device of the images, with `selected() -> Network`. out: receives model.safetensors, model.json and
    history.csv, all or none. Raises NothingLearnedError for a model of no use, whose checkpoint is deleted.
    """
    settings, store, seed = inputs.settings, inputs.store, inputs.project.seed
    start = opened.started_from
    parent = sha256(weights_path(start)) if start else None
    checkpoint = Checkpoint.of_stage(
        inputs.stage,
        settings=[seed, settings, parent, *opened.cache_key],
        # The weights do not say what the network sees of an image, its card does.
        inputs=[store.root / "store.json", *([start / CARD] if start else []), *opened.files_read],
        every_seconds=checkpoint_seconds,
    )
    if world.rank():  # process 0 alone writes
        with checkpoint:
            _fit(method, inputs, opened, checkpoint, None)
        return
    # The folder is opened first, so that one that cannot be written to fails before hours of work.
    with atomic_folder(out) as folder, checkpoint:
        try:
            with closing(open_live(method, inputs, out, logs)) as live:
                network, history, outputs, found = _learn(method, inputs, opened, checkpoint, live)
        except NothingLearnedError:
            checkpoint.remove()
            raise
        choice = Choice(network) if opened.choose is None else opened.choose(folder, network, outputs)
        card = card_for(
            inputs.stage,
            store.info,
            {**opened.metadata, **choice.metadata, **asdict(settings)},
            parent=parent,
            inputs=opened.files_read,
            classes=opened.classes,
        )
        monitors = method.selected_monitors() if isinstance(method, BaseMethod) else None
        if choice.network is network:
            own_folder, own = folder, card
        else:
            save_model(folder, choice.network, card)
            if choice.tree is not None:
                save_tree(folder, choice.tree)
            own_folder, own = folder / TRAINED, replace(card, settings={**opened.metadata, **asdict(settings)})
            own_folder.mkdir()
        save_model(own_folder, network, own, monitors)
        if opened.levels is not None and outputs is not None:
            save_tree(own_folder, opened.levels.tree(outputs))
        write_csv(folder / "history.csv", history)
    checkpoint.remove()
    several = inputs.method if inputs.stage in LABELLED_STAGES else None
    print_end(inputs.stage, out, f"{inputs.where}: {found}", inputs.project.tree, method=several)


def _learn(
    method: Any, inputs: Inputs, opened: OpenedProblem, checkpoint: Checkpoint, live: Live
) -> tuple[Network, list[dict[str, float]], Tensor | None, str]:
    """Train a method; return the network that it selects, the history, and the network's outputs for training images.

    The last value is what it has learned, in words. Raises NothingLearnedError.

    inputs.settings has the method's `fit`; None there says that the method is complete as it is built. opened.labelled
    is given for a method that learns on pairs of a labelled and an unlabelled batch.
    """
    settings, where = inputs.settings, inputs.where
    state, seconds, before = None, 0.0, size_of(method)
    if settings.fit is None:
        history = [method.after_epoch({})]
        live.begin(State(history=history))
    else:
        state = _fit(method, inputs, opened, checkpoint, live)
        seconds = state.seconds
        check_run(method, state, where, grown=size_of(method) / before)
        history = state.history
    network: Network = method.selected()
    clusters = not opened.classes
    outputs = check_model(method, network, inputs, intervals=len(history), clusters=clusters)
    if state is not None:
        report_rise(method, state, where)
    return network, history, outputs, learned(method, state, history, outputs, seconds=seconds, clusters=clusters)


def _fit(method: Any, inputs: Inputs, opened: OpenedProblem, checkpoint: Checkpoint, live: Live | None) -> State:
    """Train a method by the stream of batches that it needs."""
    settings, where, seed = inputs.settings, inputs.where, inputs.project.seed
    world.check_shares(f"{where}.fit.batch", settings.fit.batch)
    every = Batches(inputs.images, settings.fit.batch, seed=seed, where=f"{where}.fit.batch", needs=method.needs())
    batches: Stream = every
    if opened.labelled is not None:
        world.check_shares(f"{where}.labelled_batch", settings.labelled_batch)
        batches = PairedBatches(every, LabelledBatches(opened.labelled, settings.labelled_batch, seed=seed))
    return fit(method, batches, settings.fit, where=where, seed=seed, checkpoint=checkpoint, live=live)
