"""What the stages with few labels share: settings, images, labels and start of one method's run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sslpipe.data.device import choose_device
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages, read_labelled
from sslpipe.data.store import Store
from sslpipe.io.params import Params, find_module, siblings
from sslpipe.methods.parts.starts import start_network
from sslpipe.methods.parts.task import Entry, Task
from sslpipe.methods.training import Training
from sslpipe.methods.watch import read_watch
from sslpipe.nets.network import BackboneSettings


@dataclass(frozen=True, kw_only=True)
class Run:
    """One method of semisup.methods or finetune.methods, ready to go."""

    module: ModuleType
    """The method's own."""
    settings: Any
    """Of the module's class Settings."""
    entry: Entry
    started_from: Path | None
    backbone: BackboneSettings
    store: Store
    labelled: LabelledImages
    training: Training

    def task(self) -> Task:
        """The start's network, its new parts drawn from torch's global generator, and the labels."""
        network = start_network(self.started_from, self.backbone, self.store.info, self.labelled)
        device = self.labelled.images.device
        return Task(network.to(device), self.labelled, read_watch(self.store, device), self.entry.base)


def open_run(
    package: str,
    stage: str,
    method: str,
    project: Params,
    options: Mapping[str, Any],
    assignments: list[str] | None,
    *,
    prepared: Path,
    runs: Path,
    out: Path | None,
    device: str,
    checkpoint_seconds: float,
) -> Run:
    """Find the method in `package` and read its settings, with the command line's options laid over them.

    options: key → value, None where not given; "start" belongs to <stage>.methods.<method>, "seed" to all, the others
    to <stage>.<method>. Raises UserError for a method, key or value that is not known.
    """
    module = find_module(package, method, where="--method")
    where, listed = f"{stage}.{method}", f"{stage}.methods.{method}"
    places = {"seed": "seed", "start": f"{listed}.start"}
    project.override({places.get(k, f"{where}.{k}"): v for k, v in options.items()}, assignments, stage=where)
    project.check_keys(stage, ["methods", *siblings(package)])
    entry = project.parse(Entry, listed)
    settings = project.parse(module.Settings, where)
    backbone = project.parse(BackboneSettings, "network")
    store = Store(prepared)
    images = Images(store.images("train"), choose_device(device))
    labelled = read_labelled(store, images)
    started_from = entry.folder(runs)
    training = Training(
        stage=stage,
        out=out or runs / stage / method,
        where=where,
        store=store,
        images=images,
        seed=project.seed,
        started_from=started_from,
        decides=[method, entry, backbone],
        inputs=store.labelled_files(),
        classes=labelled.names,
        facts={"method": method, "start": entry.start, "base": entry.base, "labels": len(labelled)},
        checkpoint_seconds=checkpoint_seconds,
    )
    return Run(
        module=module,
        settings=settings,
        entry=entry,
        started_from=started_from,
        backbone=backbone,
        store=store,
        labelled=labelled,
        training=training,
    )
