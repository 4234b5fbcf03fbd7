"""Methods with few labels on stored features, side by side: `python -m benchmarks.few_labels PROJECT`.

PROJECT is a project with known labels whose stages up to features have run. All its images take part: for each draw as
many labels of every class as the row says are drawn at random, the same for all methods, and each method is scored on
the images without a label. Without any label the groups of `scan_heads` are scored, and what `voting_probes` learns
from those of reliable images. Prints accuracy as mean ± sample standard deviation over draws, and CPU seconds. Methods
that train on views of the images, such as `fixmatch`, do not learn from stored features and are left out. Options:
`--labels 0,1,4,25 --draws 10 --methods "linear; voting_probes"`.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import SPLITS, Store
from sslpipe.methods.cluster import scan_heads
from sslpipe.methods.cluster._problem import Neighborhood
from sslpipe.methods.cluster._problem import Problem as ClusterProblem
from sslpipe.methods.finetune import linear
from sslpipe.methods.semisup import propagation, voting_probes
from sslpipe.methods.semisup._base import Problem
from sslpipe.metrics.agreement import reliable_images
from sslpipe.metrics.clustering import cluster_accuracy
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.model_file import load_network
from sslpipe.nets.network import Network
from sslpipe.running.features import open_features
from sslpipe.running.reliable import ReliableSettings

CPU = torch.device("cpu")
MINED = 50
"""Neighbours of each image, more than any of these methods reads (own choice)."""
METHODS: dict[str, Callable[[Problem], Any]] = {
    "linear": lambda problem: linear.Method(linear.Settings(), problem),
    "propagation": lambda problem: propagation.Method(propagation.Settings(), problem),
    "propagation, answer: probe": lambda problem: propagation.Method(propagation.Settings(answer="probe"), problem),
    "voting_probes, self_training: false": lambda problem: voting_probes.Method(
        voting_probes.Settings(self_training=False), problem
    ),
    "voting_probes": lambda problem: voting_probes.Method(voting_probes.Settings(), problem),
}
GROUPS, LEARNED = "scan_heads, its groups", "voting_probes, labels: reliable"
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """All images of a project."""

    network: Network
    features: NDArray[np.float16]
    label: Indices
    near: Indices
    cosine: NDArray[np.float32]

    @property
    def images(self) -> Images:
        """Images without content, since no method reads any."""
        return Images(np.zeros((len(self.label), 1, 1, 1), np.uint8), CPU)

    def problem(self, index: Indices, label: Indices) -> Problem:
        """Return the problem of these labelled images, with a network of its own."""
        names = tuple(map(str, range(int(label.max()) + 1)))
        labelled = LabelledImages(self.images, torch.from_numpy(index), torch.from_numpy(label), names)
        return Problem(
            deepcopy(self.network), labelled, features=self.features, neighbors=self.near, similarities=self.cosine
        )


def open_world(project: Path) -> World:
    """Return the images of all splits, and their neighbours."""
    store, pretrained = Store(project / "runs/prepare"), project / "runs/pretrain"
    stored = open_features(project / "runs/features", store, pretrained)
    there = [split for split in SPLITS if store.info.count(split)]
    features = np.concatenate([stored.split(split) for split in there])
    label = np.concatenate([store.labels(split) for split in there]).astype(np.int64)
    near, cosine = nearest_neighbors(torch.from_numpy(features).float(), k=MINED, device=CPU)
    return World(load_network(pretrained, store.info).eval(), features, label, near, cosine)


def predicted(method: Any) -> Indices:
    """Return the class of each image."""
    return np.asarray(method.training_logits().argmax(dim=1).numpy(), dtype=np.int64)


def with_labels(world: World, each: int, seed: int, names: Sequence[str]) -> Iterator[tuple[str, float, float]]:
    """Yield each method's name, its accuracy on the images without a label, and CPU seconds."""
    rng, classes = np.random.default_rng(seed), range(int(world.label.max()) + 1)
    of_class = [rng.choice(np.flatnonzero(world.label == number), each, replace=False) for number in classes]
    index = np.sort(np.concatenate(of_class))
    rest = np.setdiff1d(np.arange(len(world.label)), index)
    for name in names:
        problem = world.problem(index, world.label[index])
        torch.manual_seed(seed)
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            found = predicted(METHODS[name](problem))
        yield name, float((found == world.label)[rest].mean()), time.process_time() - began


def without_labels(world: World, seed: int) -> Iterator[tuple[str, float, float]]:
    """Yield the accuracy of groups on all images, matched to the classes, and CPU seconds, as `with_labels` does."""
    clusters = int(world.label.max()) + 1
    near = Neighborhood(world.images, torch.from_numpy(world.near), torch.from_numpy(world.features))
    chosen = scan_heads.Settings(clusters=clusters)
    torch.manual_seed(seed)
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        method = scan_heads.Method(chosen, ClusterProblem(deepcopy(world.network), near, near), seed=seed)
        method.after_epoch({})
    confidence, group = (each.numpy() for each in method.training_logits().softmax(dim=1).max(dim=1))
    yield GROUPS, cluster_accuracy(group, world.label)[0], time.process_time() - began
    began = time.process_time()
    reliable = ReliableSettings()
    index = reliable_images(group, confidence, world.near, agreement=reliable.agreement, share=reliable.share)
    names, label = np.unique(group[index], return_inverse=True)
    if len(names) < 2:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        found = predicted(voting_probes.Method(voting_probes.Settings(), world.problem(index, label)))
    yield LEARNED, cluster_accuracy(found, world.label)[0], time.process_time() - began


def run(project: Path, labels: Sequence[int], draws: int, names: Sequence[str]) -> None:
    """Measure all methods and print the table."""
    world = open_world(project)
    results: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for seed, each in product(range(draws), labels):
        measured = with_labels(world, each, seed, names) if each else without_labels(world, seed)
        for name, accuracy, seconds in measured:
            results.setdefault((each, name), []).append((accuracy, seconds))
            print(f"draw {seed}, {each} labels a class: {name}: {accuracy:.3f}, {seconds:.1f} s", flush=True)
    print(f"\n{len(world.label)} images, {draws} draws\n")
    print("| labels a class | method | accuracy | CPU s |\n|---|---|---|---|")
    for (each, name), rows in sorted(results.items(), key=lambda item: item[0][0]):
        accuracies, seconds = np.transpose(rows)
        deviation = np.std(accuracies, ddof=1) if len(rows) > 1 else 0.0
        few = "" if len(rows) == draws else f" ({len(rows)} draws)"
        print(f"| {each} | {name}{few} | {np.mean(accuracies):.3f} ± {deviation:.3f} | {np.mean(seconds):.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--labels", default="0,1,4,25", help="labels a class, of which 0 is without labels")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--methods", help=f"separated by semicolons, of: {'; '.join(METHODS)}")
    given = parser.parse_args()
    wanted = [name.strip() for name in given.methods.split(";")] if given.methods else list(METHODS)
    if unknown := [name for name in wanted if name not in METHODS]:
        parser.error(f"--methods: '{unknown[0]}' is none of {', '.join(METHODS)}")
    run(given.project, [int(each) for each in given.labels.split(",")], given.draws, wanted)
