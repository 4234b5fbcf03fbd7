"""A recipe as the stages see it: its settings, and its methods on a few random images of its size."""

import copy
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import timm
import torch

from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches
from sslpipe.data.held_out import HeldOut
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import StoreInfo
from sslpipe.engine.method import Progress
from sslpipe.io.params import Params, find_module, siblings
from sslpipe.io.settings import parse
from sslpipe.methods.cluster import _problem as cluster
from sslpipe.methods.pretrain import _base as pretext
from sslpipe.methods.self_label import _problem as self_label
from sslpipe.methods.semisup._base import Problem
from sslpipe.metrics.evaluation import EvaluateSettings
from sslpipe.neighbors.mining import MiningSettings
from sslpipe.nets.joined import names_of
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.preparation.splits import protocol_named
from sslpipe.preparation.store_writer import read_settings
from sslpipe.running.starts import Entry

SOURCES = "sslpipe.sources"
ALONE = {stage: f"sslpipe.methods.{stage}" for stage in ("pretrain", "cluster", "self_label")}
"""Stage with one method at a time → the package of its methods."""
PACKAGES = {"semisup": "sslpipe.methods.semisup", "finetune": "sslpipe.methods.finetune"}


@dataclass(frozen=True)
class Chosen:
    """A method that a recipe runs."""

    module: object
    settings: object
    entry: Entry | None = None


def read(path):
    """All settings of a params file, parsed as each stage parses its own; UserError as there."""
    project = Params(path)
    found = SimpleNamespace(
        tree=project.tree, seed=project.seed, protocol=protocol_named(project.tree.get("protocol", "split"))
    )
    found.prepare = read_settings(project, sources=siblings(SOURCES))
    source = find_module(SOURCES, found.prepare.source, where="prepare.source")
    found.source = project.parse(source.Settings, f"prepare.{found.prepare.source}")
    found.backbone = project.parse(BackboneSettings, "network")
    found.evaluate = project.parse(EvaluateSettings, "evaluate")
    found.pretrain = found.mining = found.cluster = found.self_label = None
    for stage, package in project.present(ALONE).items():
        name = project.method(stage, package)
        module = find_module(package, name, where=f"{stage}.method")
        setattr(found, stage, Chosen(module, project.parse_method(module.Settings, stage, name)))
    if "mine_neighbors" in project.tree:
        found.mining = project.parse(MiningSettings, "mine_neighbors")
    found.methods = {stage: few_label_methods(project, stage) for stage in PACKAGES}
    return found


def few_label_methods(project, stage):
    """Name → Chosen of those that the stage's block lists, as running/stage.py reads them."""
    project.check_keys(stage, ["methods", *siblings(PACKAGES[stage])])
    methods = {}
    for name in project.names(f"{stage}.methods"):
        module = find_module(PACKAGES[stage], name, where=f"{stage}.methods")
        entry = project.parse(Entry, f"{stage}.methods.{name}")
        methods[name] = Chosen(module, project.parse(module.Settings, f"{stage}.{name}"), entry)
        if name == "alternation":  # which parses the settings of its base when it is built
            base = find_module(PACKAGES[stage], methods[name].settings.base, where="semisup.alternation.base")
            parse(base.Settings, methods[name].settings.ssl, where="semisup.alternation.ssl")
    return methods


def count_classes(found):
    """How many the recipe's data set has."""
    if found.prepare.source == "cifar100":
        return {"fine": 100, "coarse": 20}[found.source.classes]
    if found.cluster is not None:
        return found.cluster.settings.clusters
    return 1000 if found.prepare.source == "imagenet" else 10


def made_small(tree):
    """A recipe's content with batches of a few images; what it builds stays as large as it is."""
    tree = copy.deepcopy(tree)
    # An image, of which there may be a dozen views, costs billions of operations in the largest networks.
    large = tree["prepare"]["size"] > 32 or tree["network"]["name"] == "wrn_28_8"
    batch, labelled_batch = (2, 2) if large else (8, 4)
    blocks = [tree[stage][tree[stage]["method"]] for stage in ALONE if stage in tree]
    for stage in PACKAGES:
        blocks += [tree[stage][name] for name in tree.get(stage, {}).get("methods", {})]
    for block in blocks:
        if "fit" in block:
            block["fit"]["batch"] = batch
        if "labelled_batch" in block:
            block["labelled_batch"] = labelled_batch
    return tree


class Pipeline:
    """The methods of a recipe one after the other, each on the network that the one before it leaves."""

    def __init__(self, found, done):
        """done: a set of what took a batch in earlier recipes, network and settings; such a method is built alone."""
        self.found, self.done = found, done
        size, channels, classes = found.prepare.size, found.prepare.channels, count_classes(found)
        # Alternation and clustering want more images than classes.
        count = max(8 if size > 100 else 24, found.cluster.settings.clusters if found.cluster else 0)
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (min(count, 24), channels, size, size), generator=draw, dtype=torch.uint8)
        self.images = Images(np.resize(pixels.numpy(), (count, channels, size, size)), torch.device("cpu"))
        self.info = StoreInfo(
            size=size,
            channels=channels,
            mean=(0.5,) * channels,
            std=(0.3,) * channels,
            train=count,
            held_out=2,
            test=0,
            protocol=found.protocol,
            fingerprint="0" * 64,
        )
        index = torch.arange(classes if classes <= count else 4)
        self.labelled = LabelledImages(self.images, index, index.clone(), tuple(map(str, range(classes))))
        self.held_out = HeldOut(self.images.subset(torch.arange(2)), torch.zeros(2, dtype=torch.int64))
        self.models = {}
        """Folder under runs/ → the network that lies there."""

    def run(self):
        """Stage, or stage/method and phase → the loss of its first batch; those that were seen are left out."""
        torch.manual_seed(0)
        found, losses = self.found, {}
        if found.pretrain:
            problem = pretext.Problem(found.backbone, self.info, self.images, self.held_out.images)
            if found.pretrain.settings.fit is None:
                method = frozen_with_random_weights(found, problem)
            else:
                method = found.pretrain.module.Method(found.pretrain.settings, problem)
                losses["pretrain"] = self.first(method, found.pretrain.settings)
            self.models["pretrain"] = method.selected()
        if found.cluster:
            method = self.clustering()
            losses["cluster"] = self.first(method, found.cluster.settings)
            self.models["cluster"] = method.selected()
        if found.self_label:
            network, stored = self.start("cluster"), self.stored()
            problem = self_label.Problem(network, self.images, stored["features"], stored["neighbors"])
            method = found.self_label.module.Method(found.self_label.settings, problem)
            losses["self_label"] = self.first(method, found.self_label.settings)
            self.models["self-label"] = method.selected()
        for stage, methods in found.methods.items():
            for name, chosen in methods.items():
                method = self.with_labels(chosen)
                if chosen.settings.fit is None:
                    self.first(method, chosen.settings)
                    self.models[f"{stage}/{name}"] = method.selected()
                    continue
                for phase, progress in phases(chosen.settings):
                    method.progress = progress
                    losses[f"{stage}/{name}{phase}"] = self.first(method, chosen.settings, labelled=True)
                self.models[f"{stage}/{name}"] = method.selected()
        return {name: loss for name, loss in losses.items() if loss is not None}

    def start(self, folder):
        """A copy of the network in a folder under runs/."""
        return copy.deepcopy(self.models[folder])

    def clustering(self):
        settings, count = self.found.cluster.settings, len(self.images)
        network = self.start("pretrain")
        neighbors = torch.randint(count, (count, settings.neighbors))
        hood = cluster.Neighborhood(self.images, neighbors, torch.randn(count, network.backbone.dimension))
        return self.found.cluster.module.Method(settings, cluster.Problem(network, hood, hood))

    def stored(self):
        """What a method on stored features is given besides: features, neighbours and their cosines."""
        count, k = len(self.images), self.found.mining.k if self.found.mining else 1
        random, dimension = np.random.default_rng(0), self.models["pretrain"].backbone.dimension
        return {
            "features": random.standard_normal((count, dimension)).astype(np.float16),
            "held_out_features": random.standard_normal((2, dimension)).astype(np.float16),
            "neighbors": random.integers(count, size=(count, k)),
            "similarities": random.random((count, k), dtype=np.float32),
        }

    def with_labels(self, chosen):
        folder = chosen.entry.start
        network = build_network(self.found.backbone, self.info) if folder == "prepare" else self.start(folder)
        stored = self.stored() if getattr(chosen.settings, "reads_features", False) else {}
        return chosen.module.Method(chosen.settings, Problem(network, self.labelled, self.held_out, **stored))

    @torch.no_grad()
    def first(self, method, settings, *, labelled=False):
        """The loss of the first batch; None where such a method on such a network had one."""
        if settings.fit is None:  # it is finished as it is built, or by this
            method.after_epoch({})
            return None
        seen = repr((type(method), self.found.backbone, self.found.prepare.size, settings, method.progress))
        if seen in self.done:
            return None
        self.done.add(seen)
        batches = Batches(self.images, settings.fit.batch, seed=0)
        if labelled:
            batches = PairedBatches(batches, LabelledBatches(self.labelled, settings.labelled_batch, seed=0))
        method.train()
        return method.losses(batches.at(0), torch.Generator().manual_seed(0))["loss"].item()


def frozen_with_random_weights(found, problem):
    """The pretext task of a published network, on a file as the recipe's, with random weights and others to leave out.

    These are the ones that the recipe names, and with a prefix one without it, as of another encoder.
    """
    settings, names = found.pretrain.settings, names_of(found.backbone.architecture)
    if len(names) > 1:
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for name in names:
                paths.append(str(Path(folder) / f"{name}.pth"))
                torch.save({"arch": name, "state_dict": timm.create_model(name).state_dict()}, paths[-1])
            return found.pretrain.module.Method(replace(settings, weights=tuple(paths)), problem)
    model = timm.create_model(names[0], num_classes=0)
    weights = {settings.prefix + name: value for name, value in model.state_dict().items()}
    weights |= {f"{settings.prefix}{beginning}weight": torch.ones(1) for beginning in settings.leave_out}
    if settings.prefix:
        weights["another.weight"] = torch.ones(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"state_dict": weights}, path)
        return found.pretrain.module.Method(replace(settings, weights=str(path)), problem)


def phases(settings):
    """Where in a run a method does something else: (name, progress)."""
    if not hasattr(settings, "cluster_epochs"):
        return [("", Progress())]
    first = settings.warmup_epochs
    places = {" semisupervised": first, " clustering": first + settings.ssl_epochs + settings.rotation_epochs}
    if settings.rotation_epochs:
        places[" rotation"] = first + settings.ssl_epochs
    return [(name, Progress(step=epoch, total=settings.fit.epochs)) for name, epoch in places.items()]
