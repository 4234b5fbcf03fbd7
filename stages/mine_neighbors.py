"""A backbone → every image's nearest neighbours."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def mine_neighbors(
    k: Annotated[int | None, typer.Option("--k", help="Neighbours an image (params: mine_neighbors.k).")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, torch or faiss (params: backend).")] = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    out: options.Out = Path("runs/mine-neighbors"),
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Find each image's nearest images in feature space."""
    from dataclasses import asdict

    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import UNKNOWN, Split, Store
    from sslpipe.io.console import progress, say
    from sslpipe.io.files import sha256, whole_folder, write_array, write_csv, write_json
    from sslpipe.io.params import Params
    from sslpipe.metrics.neighbors import knn_accuracy, purities, vote_size
    from sslpipe.neighbors.mining import MiningSettings, check_counts
    from sslpipe.neighbors.search import nearest_in, nearest_neighbors
    from sslpipe.nets.inference import head_output, infer
    from sslpipe.nets.model_file import card_for, load_network, weights_path

    project = Params(params)
    project.override({"mine_neighbors.k": k, "mine_neighbors.backend": backend}, assignments, stage="mine_neighbors")
    settings = project.parse(MiningSettings, "mine_neighbors")

    store = Store(prepared)
    check_counts(settings, store.info)
    network = load_network(pretrained, store.info)
    where = choose_device(device)
    network.to(where).eval()
    metrics, compared = {}, {}
    with whole_folder(out) as folder:
        wanted: dict[Split, int] = {"train": settings.k, "held_out": settings.held_out_k}
        for split, count in wanted.items():
            features = infer(network.features, Images(store.images(split), where), title=f"features of {split}")
            compared[split] = features if settings.layer == "backbone" else head_output(network, features)
            with progress(f"neighbours in {split}", len(features), "images") as bar:
                indices, similarities = nearest_neighbors(
                    compared[split], k=count, settings=settings, device=where, advance=bar.advance
                )
            (folder / split).mkdir()
            write_array(folder / split / "features.npy", features.cpu().numpy())
            write_array(folder / split / "indices.npy", indices)
            write_array(folder / split / "similarities.npy", similarities)
            metrics[split] = purities(indices, store.labels(split))
        figures = {split: {f"purity@{k}": p for k, p in by_k.items()} for split, by_k in metrics.items()}
        if metrics["train"] and metrics["held_out"]:
            votes = vote_size(store.info.train, len(set(store.labels("train").tolist()) - {UNKNOWN}))
            indices, similarities = nearest_in(
                compared["held_out"], compared["train"], k=votes, settings=settings, device=where
            )
            label = store.labels("train")[indices]
            figures["held_out"]["knn_acc"] = knn_accuracy(similarities, label, store.labels("held_out"))
        write_json(folder / "metrics.json", figures)
        card = card_for("mine-neighbors", store.info, settings, parent=sha256(weights_path(pretrained)))
        write_json(folder / "card.json", asdict(card))
        write_csv(folder / "purity.csv", [{"k": k, "purity": p} for k, p in metrics["train"].items()])
    purity = ", ".join(f"{p:.3f} at k = {k}" for k, p in metrics["train"].items())
    say(f"training neighbours of the same class: {purity or 'unknown, too few labels'}")
