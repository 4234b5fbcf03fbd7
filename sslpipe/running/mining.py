"""Mining the nearest neighbours of every image in feature space."""

from dataclasses import asdict
from pathlib import Path

import torch

from sslpipe.data import world
from sslpipe.data.store import UNKNOWN, Split, Store
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.io.console import progress
from sslpipe.io.files import atomic_folder, sha256, write_array, write_csv, write_json
from sslpipe.metrics.neighbors import knn_accuracy, purities, vote_size
from sslpipe.neighbors.mining import MiningSettings, check_counts
from sslpipe.neighbors.saved_search import NOT_SAVED, SavedSearch
from sslpipe.neighbors.search import Neighbors, nearest_in, nearest_neighbors
from sslpipe.nets.inference import head_output
from sslpipe.nets.model_card import card_for, read_card
from sslpipe.nets.model_file import check_data, load_network
from sslpipe.nets.model_paths import CARD, weights_path
from sslpipe.running.features import open_features


def mine(
    settings: MiningSettings,
    store: Store,
    pretrained: Path,
    featured: Path,
    out: Path,
    device: torch.device,
    *,
    checkpoint_seconds: float = 20.0,
) -> dict[int, float] | None:
    """Write the neighbours of the training and of the held-out images, and their metrics, to `out`.

    pretrained: folder of the model. featured: folder of its stored features. A search that was killed goes on
    where it was last saved, at most every `checkpoint_seconds`. An approximate search's share of the exact neighbours
    is in the metrics, as "recall". Returns k → purity@k of the training
    images; {} if too few labels are known. Several processes divide an exact search, and the first one writes; None in
    the others.
    """
    check_counts(settings, store.info)
    check_data(read_card(pretrained / CARD)[1], store.info, pretrained)
    stored = open_features(featured, store, pretrained)
    network = load_network(pretrained, store.info).to(device).eval() if settings.layer == "head" else None
    purity, compared = {}, {}
    checkpoint = Checkpoint.of_stage(
        "mine-neighbors",
        settings=[settings, str(device)],
        inputs=[store.root / "store.json", stored.card, weights_path(pretrained)],
        every_seconds=checkpoint_seconds,
    )
    measured: dict[Split, dict[str, float]] = {"train": {}, "held_out": {}}
    counts: dict[Split, int] = {"train": settings.k, "held_out": settings.held_out_k}

    def search(split: Split) -> Neighbors:
        features = stored.tensor(split, device)
        compared[split] = features if network is None else head_output(network, features)
        saved = SavedSearch(checkpoint.folder and checkpoint.folder / split, checkpoint_seconds)
        with progress(f"neighbours in {split}", len(features), "images") as bar:
            return nearest_neighbors(
                compared[split],
                k=counts[split],
                settings=settings,
                device=device,
                advance=bar.advance,
                saved=NOT_SAVED if world.rank() else saved,
                measured=measured[split],
                shared=world.size() > 1,
            )

    if world.rank():  # process 0 alone writes
        with checkpoint:
            for split in counts:
                search(split)
        return None
    with atomic_folder(out) as folder, checkpoint:
        for split in counts:
            indices, similarities = search(split)
            (folder / split).mkdir()
            write_array(folder / split / "indices.npy", indices)
            write_array(folder / split / "similarities.npy", similarities)
            purity[split] = purities(indices, store.labels(split))
        metrics = {
            split: {f"purity@{k}": p for k, p in by_k.items()} | measured[split] for split, by_k in purity.items()
        }
        if purity["train"] and purity["held_out"]:
            votes = vote_size(store.info.train, len(set(store.labels("train").tolist()) - {UNKNOWN}))
            indices, similarities = nearest_in(
                compared["held_out"], compared["train"], k=votes, settings=settings, device=device
            )
            label = store.labels("train")[indices]
            metrics["held_out"]["knn_acc"] = knn_accuracy(similarities, label, store.labels("held_out"))
        write_json(folder / "metrics.json", metrics)
        card = card_for(
            "mine-neighbors", store.info, settings, parent=sha256(weights_path(pretrained)), inputs=[stored.card]
        )
        write_json(folder / "card.json", asdict(card))
        write_csv(folder / "purity.csv", [{"k": k, "purity": p} for k, p in purity["train"].items()])
    checkpoint.remove()
    return purity["train"]
