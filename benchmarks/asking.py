"""Labels that `sslpipe ask` chooses against random ones: `python -m benchmarks.asking PROJECT`.

PROJECT is a project with known labels whose stages up to features have run, best up to cluster or self-label, whose
groups are then those that are asked about. All its images take part: for each seed a quarter of them, the same share of
each class, is for testing, and labels of the others are chosen. Prints test accuracies as mean ± standard deviation
over seeds of a linear probe (`finetune.linear`) and of `semisup.propagation`, and how many classes the labels have; a
class without a label is never predicted. Budgets count labels that are trained on, not the random held-out ones.
`--speed` measures the choice of 1,000 of 50,000 images instead. Options: `--seeds 10 --budgets 10,40,100`.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.asking.herding import herding, sparse_kernel
from sslpipe.asking.questions import Known, Pool, questions
from sslpipe.asking.typical import nearest_to_centres
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import SPLITS, Store
from sslpipe.decoding.entries import Entry
from sslpipe.methods.finetune import linear
from sslpipe.methods.semisup import propagation
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._logistic import regress
from sslpipe.nets.inference import head_logits, head_probabilities
from sslpipe.nets.model_file import load_model, load_network
from sslpipe.nets.network import Network
from sslpipe.preparation.splits import draw_splits
from sslpipe.reporting import label_doubts
from sslpipe.reporting.neighbors import Similar, find_similar
from sslpipe.running.features import open_features
from sslpipe.tools.ask_models import GROUPS, calibrated
from sslpipe.tools.asker import NEIGHBORS

CPU = torch.device("cpu")
ROUND = 50
"""Labels from which the second round of `ask` goes on with an uncertainty."""
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """The images of a split."""

    network: Network
    train: NDArray[np.float16]
    label: Indices
    test: NDArray[np.float16]
    test_label: Indices
    similar: Similar
    group: Indices | None

    def accuracies(self, chosen: Indices) -> tuple[float, float, int]:
        """Return the test accuracy of a linear probe and of propagation, and the number of classes with a label."""
        names, label = np.unique(self.label[chosen], return_inverse=True)
        if len(names) < 2:
            share = float((self.test_label == names[0]).mean())
            return share, share, 1
        features, given = torch.from_numpy(self.train[chosen]).double(), torch.from_numpy(label)
        with contextlib.redirect_stdout(io.StringIO()):
            penalty = linear.choose_penalty(features, given, linear.Settings())
        weight, bias = regress(features, given, penalty, 200)
        logits = torch.from_numpy(self.test).double() @ weight.T + bias
        probed = (names[logits.argmax(dim=1).numpy()] == self.test_label).mean()
        network = self.propagated(chosen, label, len(names)).selected()
        found = names[head_logits(network, self.test).argmax(dim=1).numpy()]
        return float(probed), float((found == self.test_label).mean()), len(names)

    def propagated(self, chosen: Indices, label: Indices, classes: int) -> propagation.Method:
        """Return `semisup.propagation` with labels of these images."""
        order = np.argsort(chosen)
        blank = Images(np.zeros((len(self.train), 1, 1, 1), np.uint8), CPU)
        names = tuple(map(str, range(classes)))
        given = LabelledImages(blank, torch.from_numpy(chosen[order]), torch.from_numpy(label[order]), names)
        problem = Problem(
            deepcopy(self.network),
            given,
            features=self.train,
            neighbors=self.similar.index[:, :20],
            similarities=self.similar.cosine[:, :20],
        )
        with contextlib.redirect_stdout(io.StringIO()):
            return propagation.Method(propagation.Settings(), problem)


def orders(world: World, most: int, seed: int) -> Iterator[tuple[str, Sequence[Indices] | Indices]]:
    """Yield the name of each way to choose, and its order; k-means has none, but a choice for each budget."""
    count = len(world.train)
    yield "random", np.random.default_rng(seed).permutation(count)[:most]
    kernel = sparse_kernel(world.similar.index, world.similar.cosine)
    yield "MaxHerding alone", np.array(list(islice(herding(kernel), most)))
    known = Known(
        pool=Pool(neighbors=world.similar.index, cosine=world.similar.cosine, group=world.group),
        index=np.zeros(0, np.int64),
        classes=0,
        held_out=np.zeros(0, bool),
    )
    order = np.array([each.image for each in questions(known, most, seed=seed)])
    yield "ask, one round", order
    yield "ask, a second round with uncertainty", _second_round(world, known, order, most, seed)


def _second_round(world: World, known: Known, order: Indices, most: int, seed: int) -> Indices:
    """The order of `ask` if it is called again after ROUND labels."""
    first = order[:ROUND]
    names, label = np.unique(world.label[first], return_inverse=True)
    probability = world.propagated(first, label, len(names)).training_logits().softmax(dim=1).numpy()
    vectors = world.similar.vectors[first]
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    near = np.argsort(-cosine, axis=1, kind="stable")[:, : label_doubts.VOTERS]
    given = label_doubts.Labelled(label, vectors, near, np.take_along_axis(cosine, near, 1), len(names))
    right = [rows.argmax(axis=1) == label[part] for part, rows in label_doubts.probabilities(given)]
    again = replace(
        known,
        index=np.sort(first),
        classes=min(len(names), ROUND // 5),
        probability=calibrated(probability, float(np.concatenate(right).mean())),
    )
    return np.concatenate([first, [each.image for each in questions(again, most - ROUND, seed=seed)]])


def worlds(project: Path, seeds: int) -> Iterator[World]:
    """Yield the images of a project, split anew for each seed."""
    store, pretrained = Store(project / "runs/prepare"), project / "runs/pretrain"
    stored = open_features(project / "runs/features", store, pretrained)
    network = load_network(pretrained, store.info).eval()
    there = [split for split in SPLITS if store.info.count(split)]
    features = np.concatenate([stored.split(split) for split in there])
    label = np.concatenate([store.labels(split) for split in there])
    group = None
    for folder in (project / "runs" / name for name in GROUPS):
        if (folder / "model.json").exists() and group is None:
            model, _ = load_model(folder)
            group = head_probabilities(model.eval(), torch.from_numpy(features)).argmax(axis=1).astype(np.int64)
    entries = [Entry(str(i), int(each)) for i, each in enumerate(label)]
    for seed in range(seeds):
        drawn = draw_splits(entries, test=0.25, held_out=0.0, protocol="split", seed=seed)
        train, test = drawn["train"], drawn["test"]
        with contextlib.redirect_stdout(io.StringIO()):
            similar = find_similar(features[train], NEIGHBORS, CPU)
        of_train = None if group is None else group[train]
        yield World(network, features[train], label[train], features[test], label[test], similar, of_train)


def run(project: Path, seeds: int, budgets: Sequence[int]) -> None:
    """Measure all ways to choose and print the table."""
    found: dict[tuple[str, int], list[tuple[float, float, int]]] = {}
    for seed, world in enumerate(worlds(project, seeds)):
        for budget in budgets:
            unit = world.similar.vectors
            centres = nearest_to_centres(unit, budget, seed=seed)
            found.setdefault(("nearest to k-means centres", budget), []).append(world.accuracies(centres))
        for name, order in orders(world, max(budgets), seed):
            for budget in budgets:
                if budget > ROUND or "second" not in name:
                    found.setdefault((name, budget), []).append(world.accuracies(np.asarray(order[:budget])))
        print(f"seed {seed} done", flush=True)
    print(f"\n{len(world.train)} training images, {len(world.test)} test images, {seeds} seeds\n")
    print("| labels | chosen | linear probe | propagation | classes |\n|---|---|---|---|---|")
    for budget in budgets:
        for name in dict.fromkeys(name for name, _ in found):
            if rows := found.get((name, budget)):
                mean, deviation = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1 if len(rows) > 1 else 0)
                cells = [f"{mean[i]:.3f} ± {deviation[i]:.3f}" for i in range(2)]
                print(f"| {budget} | {name} | {' | '.join(cells)} | {mean[2]:.1f} |")


def speed(count: int = 50_000, k: int = NEIGHBORS, budget: int = 1000) -> None:
    """Print the seconds that the choice of 1,000 of 50,000 images takes, in features with groups and hubs."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(100, 64)).astype(np.float32)
    features = centre[rng.integers(100, size=count)] + rng.normal(0, 0.7, (count, 64)).astype(np.float32)
    similar = find_similar(features, k, CPU)
    began = time.process_time()
    pool = Pool(neighbors=similar.index, cosine=similar.cosine)
    kernel = pool.kernel
    built = time.process_time()
    chosen = list(islice(herding(kernel), budget))
    ended = time.process_time()
    known = Known(pool=pool, index=np.sort(chosen), classes=100, held_out=np.zeros(0, bool))
    questions(known, 10, seed=0)
    again = time.process_time()
    print(
        f"{count:,} images, {k} neighbours: kernel {built - began:.1f} s ({len(kernel.index):,} pairs), "
        f"{len(chosen):,} images {ended - built:.1f} s, ten more after these {again - ended:.2f} s of CPU"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", default="10,40,100")
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    if options.speed:
        speed()
    elif options.project is None:
        parser.error("expected the folder of a project, or --speed")
    else:
        run(options.project, options.seeds, [int(each) for each in options.budgets.split(",")])
