"""Cluster methods on stored features, side by side: `python -m benchmarks.cluster_methods PROJECT`.

PROJECT is a project with known labels whose stages up to features have run. With `protocol: full` all its images take
part, else the training images alone; each method is fitted to and scored on the same images. Spaces are the features
and, if several networks are joined, each one's. Prints accuracy, NMI and ARI as mean ± population standard deviation
over seeds, and CPU seconds. `--peers` adds imcluster's and tasnif's clustering of the same features, if they are
installed (`pip install --no-deps imcluster tasnif pandas pyarrow`). Options: `--seeds 0,1,2 --methods "kmeans;turtle"
--spaces features`.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.methods.cluster import kmeans, scan_heads, spectral, temi, turtle
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.methods.self_label import neighbors as reliable
from sslpipe.methods.self_label._problem import Problem as SelfLabelProblem
from sslpipe.metrics.clustering import ari, cluster_accuracy, nmi
from sslpipe.metrics.modularity import neighbor_modularity
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.neighbors.unit_vectors import unit_vectors
from sslpipe.nets.inference import infer
from sslpipe.nets.joined import names_of
from sslpipe.nets.layers import Backbone
from sslpipe.nets.model_file import load_network
from sslpipe.nets.network import Network, pixel_network
from sslpipe.running.features import open_features

CPU = torch.device("cpu")
NEIGHBORS, TEMI_NEIGHBORS = 20, 50
"""Neighbours of each image, of TEMI the paper's."""
PLAIN, CONSENSUS = "k-means plain", "scan_heads consensus"
METHODS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    PLAIN: (None, {}),
    "kmeans": (kmeans, {}),
    "spectral": (spectral, {}),
    "scan_heads best": (scan_heads, {"answer": "best"}),
    CONSENSUS: (scan_heads, {}),
    "turtle": (turtle, {}),
    "temi": (temi, {}),
    "temi, 256 components": (temi, {"components": 256}),
}
"""Name → the module of a method and its settings, at their published length."""
Groups = NDArray[np.int64]
Results = dict[tuple[str, str], list[tuple[float, ...]]]


@dataclass(frozen=True)
class Space:
    """Features in which images are grouped, and their graph."""

    name: str
    rows: torch.Tensor
    neighbors: torch.Tensor


def spaces_of(features: torch.Tensor, network: Network) -> list[Space]:
    """Return the features as they are stored, and each network's of joined ones."""
    parts = network.backbone.parts
    given = {"features": features}
    if len(parts) > 1:
        names = names_of(network.settings.architecture or "")
        given |= dict(zip(names, torch.split(features, list(parts), dim=1), strict=True))
    return [
        Space(
            name, rows.contiguous(), torch.from_numpy(nearest_neighbors(rows.float(), k=TEMI_NEIGHBORS, device=CPU)[0])
        )
        for name, rows in given.items()
    ]


def candidates(
    space: Space, network: Network, images: Images, clusters: int, seed: int, chosen: Sequence[str]
) -> Iterator[tuple[str, Groups]]:
    """Yield each chosen method's name and groups; self-labelling by neighbours follows SCAN's consensus."""
    if space.rows.shape[1] != network.backbone.dimension:  # TURTLE asks the network for the parts of its features
        network = deepcopy(network)
        network.backbone = Backbone()
        network.backbone.dimension = space.rows.shape[1]

    def found(name: str, neighbors: int) -> Any:
        module, settings = METHODS[name]
        near = Neighborhood(images, space.neighbors[:, :neighbors], space.rows)
        problem = Problem(network, near, Neighborhood(images, near.neighbors))
        method = module.Method(module.Settings(clusters=clusters, **settings), problem, seed=seed)
        method.after_epoch({})
        return method

    for name in chosen:
        if name == PLAIN:
            unit = unit_vectors(space.rows, CPU).numpy()
            yield name, KMeans(clusters, n_init=10, random_state=seed).fit_predict(unit)
            continue
        method = found(name, TEMI_NEIGHBORS if METHODS[name][0] is temi else NEIGHBORS)
        yield name, groups_of(method)
        if name == CONSENSUS:
            again = reliable.Method(
                reliable.Settings(neighbors=NEIGHBORS),
                SelfLabelProblem(method.selected(), images, space.rows, space.neighbors[:, :NEIGHBORS].numpy()),
            )
            again.after_epoch({})
            yield f"{name}, then neighbors", groups_of(again)


def groups_of(method: Any) -> Groups:
    """Return the group of each image."""
    return np.asarray(method.training_logits().argmax(dim=1).cpu().numpy(), dtype=np.int64)


def peers(clusters: int) -> Iterator[tuple[str, Callable[[NDArray[np.float32]], Groups]]]:
    """Yield the clustering of other programs, with their own defaults and the same number of groups."""
    from imcluster.cluster import cluster as imcluster
    from tasnif.clustering import fit_kmeans
    from tasnif.reduction import fit_pca

    def by_imcluster(algorithm: str) -> Callable[[NDArray[np.float32]], Groups]:
        def run(rows: NDArray[np.float32]) -> Groups:
            saved: dict[str, Any] = {}
            table = SimpleNamespace(
                images=range(len(rows)), output="", has_column=lambda name: False, save_column=saved.__setitem__
            )
            imcluster(table, rows, algorithm, n_clusters=clusters)
            return np.asarray(saved[f"{algorithm}_cluster"])

        return run

    yield "imcluster, kmeans", by_imcluster("kmeans")
    yield "tasnif", lambda rows: fit_kmeans(fit_pca(rows)[0], clusters).labels
    yield "imcluster, spectral", by_imcluster("spectral")


def score(groups: Groups, labels: Groups) -> tuple[float, float, float]:
    """Return accuracy by the Hungarian method, NMI and ARI."""
    return cluster_accuracy(groups, labels)[0], nmi(groups, labels), ari(groups, labels)


def run(
    project: Path, seeds: Sequence[int], chosen: Sequence[str], wanted: Sequence[str] | None, with_peers: bool
) -> None:
    """Measure the chosen methods in the wanted spaces (None: all) and print the tables."""
    store = Store(project / "runs/prepare")
    network = load_network(project / "runs/pretrain", store.info)
    stored = open_features(project / "runs/features", store, project / "runs/pretrain")
    images, labels = Images(store.images("train"), CPU), np.asarray(store.labels("train"))
    clusters = len(store.classes)
    spaces = spaces_of(stored.tensor("train", CPU), network)
    graphs = {space.name: space.neighbors[:, :NEIGHBORS].numpy() for space in spaces}
    if len(graphs) == 1:  # a single network, ranked by the mean with the graph of pixels; several by the smallest
        pixels = infer(pixel_network(store.info).eval().features, images)
        graphs["pixels"] = nearest_neighbors(pixels, k=NEIGHBORS, device=CPU)[0]
    judges, combine = (list(graphs), np.mean) if len(spaces) == 1 else ([each.name for each in spaces[1:]], min)
    spaces = [space for space in spaces if wanted is None or space.name in wanted]
    results: Results = {}
    picks = []
    for seed in seeds:
        ranked = []
        for space in spaces:
            began = time.process_time()
            torch.manual_seed(seed)
            for name, groups in candidates(space, network, images, clusters, seed, chosen):
                seconds = time.process_time() - began
                figures = score(groups, labels)
                results.setdefault((name, space.name), []).append((*figures, seconds))
                rank = float(combine([neighbor_modularity(groups, graphs[judge]) for judge in judges]))
                ranked.append((rank, figures[0], f"{name}, {space.name}"))
                shown = " / ".join(f"{value:.3f}" for value in figures)
                print(f"{seed} {space.name}: {name}: {shown}, rank {rank:.3f}, {seconds:.1f} s", flush=True)
                began = time.process_time()
        _, accuracy, name = max(ranked)
        picks.append(f"| {seed} | {name} | {accuracy:.3f} | {max(each[1] for each in ranked):.3f} |")
    if with_peers:
        for name, cluster in peers(clusters):
            began, wall = time.process_time(), time.time()
            groups = cluster(unit_vectors(spaces[0].rows, CPU).numpy())
            results[(name, "features")] = [(*score(groups, labels), time.process_time() - began)]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            print(f"{name}: {time.time() - wall:.1f} s, peak of the process so far {peak:.0f} MB", flush=True)
    print(f"\n{len(labels)} images, {clusters} classes, seeds {', '.join(map(str, seeds))}\n")
    print("| method | space | acc | NMI | ARI | CPU s |\n|---|---|---|---|---|---|")
    for (name, space_name), rows in results.items():
        mean, deviation = np.mean(rows, axis=0), np.std(rows, axis=0)
        cells = [f"{mean[i]:.3f} ± {deviation[i]:.3f}" for i in range(3)]
        print(f"| {name} | {space_name} | {' | '.join(cells)} | {mean[3]:.1f} |")
    print("\n| seed | chosen without labels | acc | best of the candidates |\n|---|---|---|---|")
    print("\n".join(picks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=";".join(METHODS))
    parser.add_argument("--spaces", default=None)
    parser.add_argument("--peers", action="store_true")
    given = parser.parse_args()
    spaces_given = None if given.spaces is None else given.spaces.split(",")
    run(
        given.project,
        [int(each) for each in given.seeds.split(",")],
        given.methods.split(";"),
        spaces_given,
        given.peers,
    )
