"""Evaluation of every model of a project on the test images."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.console import info
from sslpipe.io.files import atomic_folder, write_json
from sslpipe.io.params import Params
from sslpipe.io.stages import LABELLED_STAGES
from sslpipe.metrics.evaluation import (
    EvaluateSettings,
    Evaluation,
    evaluate_classifier,
    evaluate_clusters,
    write_evaluations,
)
from sslpipe.metrics.kmeans import Vectors, kmeans
from sslpipe.nets.inference import flat_pixels, probabilities, rotated_votes, unit_features
from sslpipe.nets.model_file import CARD, card_for, check_classes, load_model, load_network, weights_path


def evaluate_project(
    project: Params,
    store: Store,
    *,
    pretrained: Path,
    clustered: Path,
    self_labelled: Path,
    runs: Path,
    out: Path,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Write the metrics of every model whose stage has a block in params.yaml; returns the content of metrics.json.

    k-means on pixels and on the pretrained features is the baseline of the clusters. Only this opens the test images.
    """
    settings = project.parse(EvaluateSettings, "evaluate")
    classes = store.classes
    scored, label = store.scored()
    train, images = Images(store.images("train"), device), Images(scored, device)
    evaluations: dict[str, Evaluation] = {}
    with atomic_folder(out) as folder:
        cluster_models = project.present({"cluster": clustered, "self_label": self_labelled})
        predictions = {
            name: probabilities(load_network(path, store.info).to(device).eval(), images)
            for name, path in cluster_models.items()
        }
        clusters = next(iter(predictions.values())).shape[1] if predictions else len(classes)
        spaces: dict[str, Vectors] = {"pixels": flat_pixels}
        backbones = project.present({"pretrain": pretrained})
        if backbones:
            spaces["features"] = unit_features(load_network(pretrained, store.info).to(device).eval())
        if clusters:
            for name, vectors in spaces.items():
                nearest = kmeans(vectors, train, images, clusters=clusters, settings=settings, seed=project.seed)
                evaluations[f"kmeans_{name}"] = evaluate_clusters(nearest, label, classes, clusters=clusters)
        for name, prediction in predictions.items():
            evaluations[name] = evaluate_clusters(prediction, label, classes, clusters=clusters)
        classifiers = find_classifiers(project, runs)
        permutations = settings.permutations_of(len(classes))
        if classifiers and not permutations and settings.permutations is None:
            info(
                f"evaluate: label permutations (best_of_<k>_acc) are left out at {len(classes)} classes; "
                "evaluate.permutations sets their number"
            )
        for name, path in classifiers.items():
            evaluations[name] = evaluate_model(path, store, images, label, permutations=permutations)
        weights = [weights_path(path) for path in {**backbones, **cluster_models, **classifiers}.values()]
        card = card_for("evaluate", store.info, settings, parent=None, inputs=weights)
        write_json(folder / "card.json", asdict(card))
        metadata = {"protocol": store.info.protocol, "seed": project.seed, "images": len(label)}
        return write_evaluations(folder, evaluations, classes, metadata)


def find_classifiers(project: Params, runs: Path) -> Mapping[str, Path]:
    """<stage>.<method> → folder of each classifier that params.yaml lists; prints the names of missing ones."""
    listed = {
        f"{stage}.{name}": runs / stage / name
        for stage in LABELLED_STAGES
        for name in project.names(f"{stage}.methods")
    }
    for name, folder in listed.items():
        if not (folder / CARD).exists():
            info(f"{name}: {folder} does not exist and is left out; 'dvc repro' runs all stages")
    return {name: folder for name, folder in listed.items() if (folder / CARD).exists()}


def evaluate_model(
    folder: Path, store: Store, images: Images, label: NDArray[np.int64], *, permutations: int
) -> Evaluation:
    """Metrics of the classifier in `folder` on images whose classes are `label` [N].

    permutations: number of label permutations to evaluate; they are ranked by the predictions for the rotated labelled
    images.
    """
    network, card = load_model(folder)
    check_classes(card, network, store.info, store.classes, folder)
    network.to(images.device).eval()
    votes = None
    if permutations:
        index, known = store.labelled()
        votes = rotated_votes(network, Images(store.images("train")[index], images.device), known, len(store.classes))
    evaluation = evaluate_classifier(
        probabilities(network, images), label, store.classes, votes=votes, permutations=permutations
    )
    metadata = {key: card.settings[key] for key in ("start", "labels") if key in card.settings}
    return replace(evaluation, metadata=metadata)
