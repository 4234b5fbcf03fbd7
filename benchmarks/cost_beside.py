"""What recipes take beside their training steps, by the terms of `benchmarks.cost_terms`."""

from collections.abc import Mapping
from typing import Any

from benchmarks import cost_terms
from benchmarks.report import Table
from sslpipe.io.settings import parse
from sslpipe.metrics.evaluation import EvaluateSettings

CLASSES = {"cifar10": 10, "stl10": 10, "imagenet": 1000}
"""Source → classes."""
LISTED_CLASSES = 100
"""Classes of a list of ImageNet's."""
Splits = tuple[int, int, int]
"""Training, held-out and test images."""
COLUMNS = (
    *("recipe", "metrics of a model, s", "permutations of a classifier, s", "k-means on pixels", "its time, s"),
    *("evaluate beside forwards, s", "its memory, GB", "forwards at an epoch's end", "DVC of prepare, s"),
    "prepare with DVC's copy, GB",
)


def run_of(settings: Mapping[str, Any], splits: Splits) -> cost_terms.Run:
    """Return the numbers of a recipe that its evaluation depends on."""
    prepare, side = settings["prepare"], settings["network"].get("side") or settings["prepare"]["size"]
    images, held_out, test = splits
    classes = LISTED_CLASSES if prepare[prepare["source"]].get("classes") else CLASSES[prepare["source"]]
    labelled = prepare.get("labelled") or {}
    labels = labelled["per_class"] * classes if "per_class" in labelled else round(labelled.get("fraction", 0) * images)
    return cost_terms.Run(
        images=images,
        scored=test or images + held_out,
        classes=classes,
        labels=labels,
        values=3 * side**2,
        settings=parse(EvaluateSettings, settings.get("evaluate", {}), where="evaluate"),
    )


def table(found: Mapping[str, tuple[Mapping[str, Any], Splits]]) -> Table:
    """Return the table of recipes: name → settings and numbers of images."""
    note = (
        "CPU seconds of one core of an AMD EPYC, by the constants of benchmarks/cost_terms.py, which "
        "tests/test_cost_terms.py holds against measurements. Checkpoints take "
        f"{cost_terms.checkpoint_share():.0%} of a training stage's time at most."
    )
    return Table("Beside training", COLUMNS, [_row(name, *each) for name, each in found.items()], note)


def _row(name: str, settings: Mapping[str, Any], splits: Splits) -> list[Any]:
    run = run_of(settings, splits)
    classifiers = len(settings.get("semisup", {}).get("methods", ()))
    clusterings = sum(stage in settings for stage in ("cluster", "self_label"))
    spaces = 1 + ("pretrain" in settings)
    work = cost_terms.kmeans_work(run)
    stored = sum(splits) * 3 * settings["prepare"]["size"] ** 2
    return [
        name,
        cost_terms.metrics_seconds(run),
        cost_terms.permutation_seconds(run) if classifiers else "-",
        f"{work.fitted} × {work.values}, {work.restarts} × {'mini-batches' if work.mini_batches else 'Lloyd'}",
        cost_terms.kmeans_seconds(run),
        cost_terms.evaluation_seconds(run, classifiers=classifiers, clusterings=clusterings, spaces=spaces),
        cost_terms.evaluation_bytes(run) / 1e9,
        splits[1],
        cost_terms.dvc_seconds(stored),
        (stored + cost_terms.dvc_bytes(stored)[1]) / 1e9,
    ]
