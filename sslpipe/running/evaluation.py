"""Evaluation of every model of a project on the test images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.device import autocast
from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.console import info
from sslpipe.io.files import atomic_folder, write_json
from sslpipe.io.params import Params
from sslpipe.io.stages import LABELLED_STAGES, MERGED_FROM, RELIABLE
from sslpipe.metrics.evaluation import (
    EvaluateSettings,
    Evaluation,
    evaluate_classifier,
    evaluate_clusters,
    write_evaluations,
)
from sslpipe.metrics.kmeans import kmeans
from sslpipe.nets.inference import BATCH, flat_pixels, infer, unit_features
from sslpipe.nets.levels import TREE, merge_to_level, summed
from sslpipe.nets.model_card import ModelCard, card_for, read_card
from sslpipe.nets.model_file import check_classes, check_data, check_side, load_model, load_with_monitors
from sslpipe.nets.model_paths import CARD, weights_path
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.running.features import find_features
from sslpipe.running.forward import FeatureRows, Forward
from sslpipe.running.votes import Voters, find_voters

GROUPS = "evaluate.groups"


def evaluate_project(
    project: Params,
    store: Store,
    *,
    pretrained: Path,
    clustered: Path,
    self_labelled: Path,
    featured: Path,
    runs: Path,
    out: Path,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Write the metrics of every model whose stage has a block in params.yaml; returns the content of metrics.json.

    k-means on pixels and on the pretrained features is the baseline of the clusters; both see the central square of
    network.side, as the models do. featured: folder of the stored features, which take the place of the images where
    they are those of a model's backbone. Only this scores anything on the test images.
    Raises UserError for models of another side.
    """
    settings, side = project.parse(EvaluateSettings, "evaluate"), project.parse(BackboneSettings, "network").side
    classes = store.classes
    scored, label = store.scored()
    train, images = Images(store.images("train"), device), Images(scored, device)
    evaluations: dict[str, Evaluation] = {}
    with atomic_folder(out) as folder:
        backbones = project.present({"pretrain": pretrained})
        stored = find_features(featured, store, pretrained) if backbones else None
        if backbones and stored is None and "mine_neighbors" in project.tree:
            info(f"{featured}: no features of {pretrained} found, so they are computed; 'sslpipe features' stores them")
        forward = Forward(images, stored)
        cluster_models = project.present({"cluster": clustered, "self_label": self_labelled})
        predictions, merged = {}, {}
        for name, path in cluster_models.items():
            network, card = _load(path, store, side)
            merged[name] = merge_to_level(network, card, path, settings.groups, GROUPS)
            predictions[name] = forward.probabilities(network.to(device).eval(), path)
        clusters = next(iter(predictions.values())).shape[1] if predictions else settings.groups or len(classes)
        if clusters:
            with_kmeans = partial(kmeans, clusters=clusters, settings=settings, seed=project.seed)
            spaces = {"pixels": with_kmeans(partial(flat_pixels, side=side), train, images)}
            if stored:
                rows = FeatureRows((stored.tensor("train", device),)), FeatureRows(forward.features)
                spaces["features"] = with_kmeans(FeatureRows.unit, *rows)
            elif backbones:
                vectors = unit_features(_load(pretrained, store, side)[0].to(device).eval())
                spaces["features"] = with_kmeans(vectors, train, images, title="features")
            for name, nearest in spaces.items():
                evaluations[f"kmeans_{name}"] = evaluate_clusters(nearest, label, classes, clusters=clusters)
        for name, prediction in predictions.items():
            scored_clusters = evaluate_clusters(prediction, label, classes, clusters=clusters)
            evaluations[name] = replace(scored_clusters, metadata=level_of(merged[name]))
        classifiers = find_classifiers(project, runs)
        knows_classes = any(read_card(path / CARD)[1].classes for path in classifiers.values())
        permutations = settings.permutations_of(len(classes))
        if knows_classes and not permutations and settings.permutations is None:
            info(
                f"evaluate: label permutations (best_of_<k>_acc) are left out at {len(classes)} classes; "
                "evaluate.permutations sets their number"
            )
        voters = None
        if knows_classes and permutations:
            voters = find_voters(store, device, per_class=settings.votes_per_class, seed=project.seed)
        for name, path in classifiers.items():
            evaluations |= evaluate_model(
                name,
                path,
                store,
                forward,
                label,
                side=side,
                voters=voters,
                permutations=permutations,
                groups=settings.groups,
            )
        models = {**backbones, **cluster_models, **classifiers}
        files = [weights_path(path) for path in models.values()]
        files += [
            models[name] / TREE for name, each in evaluations.items() if name in models and MERGED_FROM in each.metadata
        ]
        evaluated_card = card_for("evaluate", store.info, settings, parent=None, inputs=files)
        write_json(folder / "card.json", asdict(evaluated_card))
        metadata = {"protocol": store.info.protocol, "seed": project.seed, "images": len(label)}
        weights = {name: evaluated_card.inputs[weights_path(path).as_posix()] for name, path in models.items()}
        return write_evaluations(folder, evaluations, classes, metadata, weights)


def find_classifiers(project: Params, runs: Path) -> Mapping[str, Path]:
    """<stage>.<method> → folder of each model of semisup and finetune; prints the names of missing ones."""
    listed = {
        f"{stage}.{name}": runs / stage / name
        for stage in LABELLED_STAGES
        for name in project.names(f"{stage}.methods")
    }
    for name, folder in listed.items():
        if not (folder / CARD).exists():
            info(f"{name}: {folder} does not exist and is left out; 'dvc repro' runs all stages")
    return {name: folder for name, folder in listed.items() if (folder / CARD).exists()}


def _load(folder: Path, store: Store, side: int | None) -> tuple[Network, ModelCard]:
    network, card = load_model(folder)
    check_data(card, store.info, folder)
    check_side(network, side, folder)
    return network, card


def level_of(merged: Sequence[int] | None) -> dict[str, int]:
    """Return the entry of a row that says how many clusters were merged, of the group of each; empty for None."""
    return {} if merged is None else {MERGED_FROM: len(merged)}


def evaluate_model(
    name: str,
    folder: Path,
    store: Store,
    forward: Forward,
    label: NDArray[np.int64],
    *,
    side: int | None,
    voters: Voters | None,
    permutations: int,
    groups: int | None = None,
) -> dict[str, Evaluation]:
    """Metrics of the model in `folder` on images whose classes are `label` [N], by the names of their rows.

    forward: of these images. side: network.side in params.yaml, which the model's must be. voters: labelled images
    whose predictions in four rotations rank the label permutations; None evaluates none. permutations: their number.
    groups: to which clusters are merged; None: not at all.
    Each linear classifier on the model's layers has a row <name>/<layer>, without permutations. A model that has
    learned groups, and its layers, are scored as clusters.
    """
    network, monitors, card = load_with_monitors(folder)
    if card.predicts_clusters:
        check_data(card, store.info, folder)
    else:
        check_classes(card, network, store.info, store.classes, folder)
    check_side(network, side, folder)
    merged = merge_to_level(network, card, folder, groups, GROUPS) if card.predicts_clusters else None
    images = forward.images
    network.to(images.device).eval()

    def scored(probability: NDArray[np.float32], votes: NDArray[Any] | None = None) -> Evaluation:
        if card.predicts_clusters:
            return evaluate_clusters(probability, label, store.classes, clusters=probability.shape[1])
        return evaluate_classifier(probability, label, store.classes, votes=votes, permutations=permutations)

    votes = None if voters is None or card.predicts_clusters else voters.votes(network)
    evaluations = {name: scored(forward.probabilities(network, folder), votes)}
    if monitors is not None:
        layers = monitor_probabilities(network, monitors.to(images.device), images)
        evaluations |= {f"{name}/{layer}": scored(summed(each, merged)) for layer, each in layers}
    metadata = {key: card.settings[key] for key in ("start", "labels", "labels_chosen") if key in card.settings}
    if card.predicts_clusters:
        metadata |= {RELIABLE: card.settings[RELIABLE]["images"], **level_of(merged)}
    return {row: replace(each, metadata=metadata) for row, each in evaluations.items()}


def monitor_probabilities(
    network: Network, monitors: LinearMonitors, images: Images
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each classifier's layer and the softmax of its logits, [N, C], one classifier's at a time in memory.

    network: in eval mode, on the device of the images, which pass through its backbone once.
    """
    features = infer(network.features, images, title="predictions of monitors")
    for name in monitors.names:
        yield name, _layer_probabilities(network, monitors, name, features)


@torch.no_grad()
def _layer_probabilities(
    network: Network, monitors: LinearMonitors, name: str, features: Tensor
) -> NDArray[np.float32]:
    """Return the softmax [N, C] of one classifier's logits for the backbone's features [N, D]."""
    with autocast(features.device):
        rows = torch.split(features, BATCH)
        parts = [monitors.layer_logits(network, name, few).float().softmax(dim=1) for few in rows]
    return np.concatenate([part.cpu().numpy() for part in parts])
