"""The command estimate-clusters: from cached features to a suggested number of clusters and its report."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.console import info
from sslpipe.io.files import atomic_folder, read_array, sha256, write_csv, write_json
from sslpipe.running.features import StoredFeatures
from sslpipe.tools.cluster_scores import suggest
from sslpipe.tools.estimate_clusters import EstimateSettings, best_merging, draw_sample, merge_curve, sweep
from sslpipe.tools.estimate_report import print_curve, rows_of, warnings_of


def run_estimate(
    settings: EstimateSettings, stored: StoredFeatures, mined: Path, out: Path, *, seed: int, device: torch.device
) -> None:
    """Suggest a number of clusters for stored features and their mined neighbours; write and print the report.

    out: folder to write. curve.csv has the scores of each number, merge.csv the results of merging the clusters of the
    highest number, suggestion.json the suggestion with its warnings and settings.
    Raises UserError for missing or unsuitable arrays and for numbers of clusters outside the possible range.
    """
    source = stored.path("train")
    sample = draw_sample(
        stored.split("train"),
        read_array(mined / "train" / "indices.npy", mapped=True),
        stored.split("held_out"),
        settings,
        seed=seed,
        device=device,
    )
    result = sweep(sample, settings, seed=seed)
    suggestion = suggest(
        result.scores,
        tolerance=settings.tolerance,
        draws=settings.draws,
        confidence=settings.confidence,
        rng=np.random.default_rng(mix(seed, RandomStream.ESTIMATE_BOOTSTRAP)),
    )
    highest = max(result.scores)
    merging = merge_curve(result.assignments[highest], sample.neighbors.cpu().numpy(), highest)
    per_score = {**suggestion.per_score, "merging": best_merging(merging)}
    rows = rows_of(result.scores)
    warnings = warnings_of(suggestion, min_score=settings.min_score, lowest=settings.at_least, highest=highest)
    with atomic_folder(out) as folder:
        write_csv(folder / "curve.csv", rows)
        write_csv(folder / "merge.csv", merging)
        content = {
            **asdict(suggestion),
            "per_score": per_score,
            "reliable": not warnings,
            "warnings": warnings,
            "scores": result.scores[suggestion.suggested].means(),
            "settings": {**asdict(settings), "seed": seed},
            "features": {"path": str(source), "sha256": sha256(source), "images_used": len(sample.features)},
        }
        write_json(folder / "suggestion.json", content)
    print_curve(rows, suggestion)
    info("best number by each score: " + ", ".join(f"{name} {count or '-'}" for name, count in per_score.items()))
    for text in warnings:
        info(f"warning: {text}")
    span = f"{suggestion.low} to {suggestion.high}"
    info(f"suggested: {suggestion.suggested} clusters ({span}); set cluster.clusters")
