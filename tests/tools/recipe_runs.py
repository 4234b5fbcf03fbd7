"""A recipe as the stages see it: its settings, and its methods on a few random images of its size."""

import copy
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

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
from sslpipe.methods.cluster import _problem as clusters
from sslpipe.methods.pretrain import _base as pretext
from sslpipe.methods.self_label import _problem as labelling
from sslpipe.methods.semisup._base import Problem
from sslpipe.metrics.evaluation import EvaluateSettings
from sslpipe.neighbors.mining import MiningSettings
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
    return parsed(Params(path))


def parsed(project):
    """The same of a Params."""
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
            losses["cluster"] = self.trained("cluster", found.cluster, self.clustering())
        if found.self_label:
            losses["self_label"] = self.trained("self-label", found.self_label, self.self_labelling())
        for stage, methods in found.methods.items():
            for name, chosen in methods.items():
                method = self.with_labels(chosen)
                if chosen.settings.fit is None:
                    self.trained(f"{stage}/{name}", chosen, method)
                    continue
                for phase, progress in phases(chosen.settings):
                    method.progress = progress
                    losses[f"{stage}/{name}{phase}"] = self.first(method, chosen.settings, labelled=True)
                self.models[f"{stage}/{name}"] = method.selected()
        return {name: loss for name, loss in losses.items() if loss is not None}

    def start(self, folder):
        """A copy of the network in a folder under runs/."""
        return copy.deepcopy(self.models[folder])

    def trained(self, folder, chosen, method):
        """Keep the model of a method without labels; the loss of its first batch, None for one that has no loop."""
        loss = None
        if chosen.settings.fit is None:
            method.after_epoch({})
        else:
            loss = self.first(method, chosen.settings)
        self.models[folder] = method.selected()
        return loss

    def stored(self, network):
        """Features [N, D] and neighbours [N, k] as they are stored, random ones."""
        count = len(self.images)
        features = torch.randn(count, network.backbone.dimension)
        return features, torch.randint(count, (count, self.found.mining.k))

    def clustering(self):
        chosen, network = self.found.cluster, self.start("pretrain")
        features, neighbors = self.stored(network)
        hood = clusters.Neighborhood(self.images, neighbors[:, : chosen.settings.neighbors], features)
        return chosen.module.Method(chosen.settings, clusters.Problem(network, hood, hood))

    def self_labelling(self):
        chosen, network = self.found.self_label, self.start("cluster")
        features, neighbors = (each.numpy() for each in self.stored(network))
        return chosen.module.Method(chosen.settings, labelling.Problem(network, self.images, features, neighbors))

    def with_labels(self, chosen):
        folder = chosen.entry.start
        network = build_network(self.found.backbone, self.info) if folder == "prepare" else self.start(folder)
        problem = Problem(network, self.labelled, self.held_out)
        if getattr(chosen.settings, "reads_features", False):
            features, neighbors = (each.numpy() for each in self.stored(network))
            similarities = np.full(neighbors.shape, 0.5, dtype=np.float32)
            problem = replace(
                problem, features=features.astype(np.float16), neighbors=neighbors, similarities=similarities
            )
        return chosen.module.Method(chosen.settings, problem)

    @torch.no_grad()
    def first(self, method, settings, *, labelled=False):
        """The loss of the first batch; None where such a method on such a network had one."""
        seen = repr((type(method), self.found.backbone, self.found.prepare.size, settings, method.progress))
        if seen in self.done:
            return None
        self.done.add(seen)
        batches = Batches(self.images, settings.fit.batch, seed=0, needs=method.needs())
        if labelled:
            batches = PairedBatches(batches, LabelledBatches(self.labelled, settings.labelled_batch, seed=0))
        method.train()
        batch, generator = batches.at(0), torch.Generator().manual_seed(0)
        return method.losses(batch, method.draw_views(batch, generator), generator)["loss"].item()


def frozen_with_random_weights(found, problem):
    """The pretext task of published networks, on files as the recipe's, with random weights and others to leave out.

    These are the ones that the recipe names, and with a prefix one without it, as of another encoder. Other
    architectures that would take the weights are not searched for: tests/nets/test_weights_owner.py.
    """
    settings, architectures = found.pretrain.settings, found.backbone.architecture.split("+")
    with tempfile.TemporaryDirectory() as folder:
        paths = tuple(str(Path(folder) / f"{name}.pth") for name in architectures)
        for path, name in zip(paths, architectures, strict=True):
            model = timm.create_model(name, num_classes=0)
            weights = {settings.prefix + name: value for name, value in model.state_dict().items()}
            weights |= {f"{settings.prefix}{beginning}weight": torch.ones(1) for beginning in settings.leave_out}
            if settings.prefix:
                weights["another.weight"] = torch.ones(1)
            torch.save({"state_dict": weights}, path)
        given = paths if len(paths) > 1 else paths[0]
        with patch("sslpipe.nets.weights_owner.twins", lambda _: ()):
            return found.pretrain.module.Method(replace(settings, weights=given), problem)


def phases(settings):
    """Where in a run a method does something else: (name, progress)."""
    if not hasattr(settings, "cluster_epochs"):
        return [("", Progress())]
    first = settings.warmup_epochs
    places = {" semisupervised": first, " clustering": first + settings.ssl_epochs + settings.rotation_epochs}
    if settings.rotation_epochs:
        places[" rotation"] = first + settings.ssl_epochs
    return [(name, Progress(step=epoch, total=settings.fit.epochs)) for name, epoch in places.items()]
