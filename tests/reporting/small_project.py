"""Projects of a few images whose groups are known, as the stages write them, without a training."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from stored import write_store, write_stored_features

from sslpipe.data.store import SPLITS, Store
from sslpipe.io.params import Params
from sslpipe.metrics.evaluation import evaluate_classifier, evaluate_clusters, write_evaluations
from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.inference import head_logits
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.reporting.collect import Inputs

DIMENSION = 64
BACKBONE = BackboneSettings(name="tiny_resnet")


def decode(folder, name):
    """The content of a file in data/."""
    text = (folder / "data" / f"{name}.js").read_text()
    return json.loads(text[text.index(",") + 1 : text.rindex(");")])


class Project:
    """A project in a folder: N images, of which image i is of class i % classes, in features near that class's axis.

    counts: images in each split. groups: outputs of the cluster model; group g is that of class g, and the groups
    after the classes are empty. known: share of the images with a label.
    """

    def __init__(self, folder, counts=(16, 4, 8), classes=3, groups=3, known=True, names=None, channels=3, size=12):
        self.folder, self.classes, self.runs = folder, classes, folder / "runs"
        rng = np.random.default_rng(0)
        total = sum(counts)
        self.label = np.arange(total) % classes
        pixels = rng.integers(0, 256, (total, channels, size, size), dtype=np.uint8)
        stops = np.cumsum(counts)
        parts = {split: slice(stop - count, stop) for split, count, stop in zip(SPLITS, counts, stops, strict=True)}
        self.prepared = self.runs / "prepare"
        write_store(self.prepared, {split: pixels[part] for split, part in parts.items()})
        self.features = rng.normal(0, 0.15, (total, DIMENSION))
        self.features[np.arange(total), self.label % DIMENSION] += 1
        self.names = names or [f"a/{i}.png" for i in range(total)]
        for split, part in parts.items():
            label = self.label[part] if known else np.full(part.stop - part.start, -1)
            np.save(self.prepared / split / "labels.npy", label.astype(np.int64))
            (self.prepared / split / "files.json").write_text(json.dumps(self.names[part]))
        (self.prepared / "labelled").mkdir()
        given = np.arange(min(2 * classes, counts[0])) if known else np.zeros(0, np.int64)
        np.save(self.prepared / "labelled/index.npy", given)
        np.save(self.prepared / "labelled/label.npy", self.label[given])
        self.class_names = [f"class {i}" for i in range(classes)] if known else []
        (self.prepared / "labelled/classes.json").write_text(json.dumps(self.class_names))
        self.store = Store(self.prepared)
        self.params = {"seed": 0, "protocol": "split", "pretrain": {}, "cluster": {}}
        self.models = {}
        self.write_model("pretrain", None)
        write_stored_features(
            self.runs / "features",
            self.store,
            self.runs / "pretrain",
            {split: self.features[part] for split, part in parts.items()},
        )
        self.write_model("cluster", groups)

    def write_model(self, name, outputs, classes=()):
        """A network with the pretrained backbone, whose output g is that of the axis g."""
        head = None if outputs is None else LinearSettings(outputs=outputs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            info = self.store.info
            network = Network(BACKBONE, head, mean=info.mean, std=info.std, channels=info.channels, size=info.size)
        if outputs is not None:
            layer = next(module for module in network.head.modules() if isinstance(module, torch.nn.Linear))
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.constant_(layer.bias, -9)
            used = min(outputs, self.classes)
            with torch.no_grad():
                layer.weight[torch.arange(used), torch.arange(used) % DIMENSION] = 8.0
                layer.bias[:used] = 0
            self.models[name] = network
        folder = self.runs / name
        folder.mkdir(parents=True)
        stage = name.split("/")[0]
        save_model(folder, network, card_for(stage, info, {}, parent=None, classes=tuple(classes)))
        (folder / "history.csv").write_text("epoch,loss,note\n1,0.5,\n2,0.25,nan\n")

    def inputs(self):
        """What the report is made from; the evaluation is written anew."""
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(self.params))
        self.evaluate()
        return Inputs(
            project=Params(path),
            store=self.store,
            pretrained=self.runs / "pretrain",
            featured=self.runs / "features",
            evaluated=self.runs / "evaluate",
            runs=self.runs,
            lineage=["runs/evaluate: files of evaluate"],
            device=torch.device("cpu"),
        )

    def evaluate(self):
        """runs/evaluate, as the stage writes it."""
        test = self.features[-self.store.info.test :].astype(np.float16)
        label, found = np.load(self.prepared / "test/labels.npy"), {}
        for name, network in self.models.items():
            probability = head_logits(network, test).softmax(dim=1).numpy()
            if "/" in name:
                found[name.replace("/", ".")] = evaluate_classifier(probability, label, self.class_names)
            else:
                outputs = probability.shape[1]
                found[name] = evaluate_clusters(probability, label, self.class_names, clusters=outputs)
        folder = self.runs / "evaluate"
        folder.mkdir(exist_ok=True)
        write_evaluations(folder, found, self.class_names, {"protocol": "split", "seed": 0, "images": len(label)})
        weights = [self.runs / name / "model.safetensors" for name in self.models]
        card = card_for("evaluate", self.store.info, {}, parent=None, inputs=weights)
        (folder / "card.json").write_text(json.dumps(asdict(card)))
