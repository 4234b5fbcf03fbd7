"""A number of clusters from the cached features alone."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def estimate_clusters(
    at_least: Annotated[int, typer.Option(min=2, help="Lowest number of clusters to try.")] = 2,
    at_most: Annotated[
        int | None, typer.Option(min=2, help="Highest one; 50 by default, or a 20th of the training images if fewer.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Starts for each number.")] = 8,
    mined: options.Mined = Path("runs/mine-neighbors"),
    out: options.Out = Path("runs/estimate-clusters"),
    seed: options.Seed = None,
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
) -> None:
    """Suggest a number of clusters where it is not known; no label is read."""
    from dataclasses import asdict

    import numpy as np

    from sslpipe.data.device import choose_device
    from sslpipe.data.seeds import RandomStream, mix
    from sslpipe.io.console import info, progress
    from sslpipe.io.files import atomic_folder, read_array, sha256, write_csv, write_json
    from sslpipe.io.params import Params
    from sslpipe.tools.cluster_scores import suggest
    from sslpipe.tools.estimate_clusters import EstimateSettings, Sweep, draw_sample, grid, merge_curve, merging_alone
    from sslpipe.tools.estimate_report import doubts, print_curve, rows_of

    number = Params(params).seed if seed is None else seed
    settings = EstimateSettings(at_least=at_least, at_most=at_most, seeds=seeds)
    where = choose_device(device)
    source = mined / "train" / "features.npy"
    sample = draw_sample(
        read_array(source, mapped=True),
        read_array(mined / "train" / "indices.npy", mapped=True),
        read_array(mined / "held_out" / "features.npy", mapped=True),
        settings,
        seed=number,
        device=where,
    )
    found = Sweep()
    for numbers in (grid(settings, len(sample.features)), None):
        rest = found.between() if numbers is None else numbers
        with progress("numbers of clusters", len(rest), "numbers") as bar:
            for clusters in rest:
                found.visit(sample, clusters, settings, seed=number)
                bar.advance()
    suggestion = suggest(
        found.scores,
        near=settings.near,
        draws=settings.draws,
        confidence=settings.confidence,
        rng=np.random.default_rng(mix(number, RandomStream.ESTIMATE_BOOTSTRAP)),
    )
    highest = max(found.scores)
    merging = merge_curve(found.assignments[highest], sample.neighbors.cpu().numpy(), highest)
    alone = {**suggestion.alone, "merging": merging_alone(merging)}
    rows = rows_of(found.scores)
    doubt = doubts(suggestion, clear=settings.clear, lowest=settings.at_least, highest=highest)
    with atomic_folder(out) as folder:
        write_csv(folder / "curve.csv", rows)
        write_csv(folder / "merge.csv", merging)
        content = {
            **asdict(suggestion),
            "alone": alone,
            "clear": not doubt,
            "doubts": doubt,
            "scores": found.scores[suggestion.suggested].means(),
            "settings": {**asdict(settings), "seed": number},
            "features": {"path": str(source), "sha256": sha256(source), "images_used": len(sample.features)},
        }
        write_json(folder / "suggestion.json", content)
    print_curve(rows, suggestion)
    info("alone: " + ", ".join(f"{name} {count or '-'}" for name, count in alone.items()))
    for text in doubt:
        info(f"warning: {text}")
    span = f"{suggestion.low} to {suggestion.high}"
    info(f"suggested: {suggestion.suggested} clusters ({span}); set cluster.clusters")
