"""Mining the nearest neighbours of every image in feature space."""

from dataclasses import asdict
from pathlib import Path

import torch

from sslpipe.data.images import Images
from sslpipe.data.store import UNKNOWN, Split, Store
from sslpipe.io.console import progress
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_folder, sha256, write_array, write_csv, write_json
from sslpipe.metrics.neighbors import knn_accuracy, purities, vote_size
from sslpipe.neighbors.mining import MiningSettings, check_counts
from sslpipe.neighbors.search import nearest_in, nearest_neighbors
from sslpipe.nets.inference import head_output, infer
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_network, weights_path


def mine(settings: MiningSettings, store: Store, pretrained: Path, out: Path, device: torch.device) -> dict[int, float]:
    """Write the features and neighbours of the training and of the held-out images, and their metrics, to `out`.

    pretrained: folder of the model. Returns k → purity@k of the training images; {} if too few labels are known.
    """
    check_counts(settings, store.info)
    network = load_network(pretrained, store.info)
    network.to(device).eval()
    purity, compared = {}, {}
    with atomic_folder(out) as folder:
        counts: dict[Split, int] = {"train": settings.k, "held_out": settings.held_out_k}
        for split, count in counts.items():
            features = infer(network.features, Images(store.images(split), device), title=f"features of {split}")
            if not features.isfinite().all():
                raise UserError(
                    f"{weights_path(pretrained)}: features of {split} images are not finite; train it again"
                )
            compared[split] = features if settings.layer == "backbone" else head_output(network, features)
            with progress(f"neighbours in {split}", len(features), "images") as bar:
                indices, similarities = nearest_neighbors(
                    compared[split], k=count, settings=settings, device=device, advance=bar.advance
                )
            (folder / split).mkdir()
            write_array(folder / split / "features.npy", features.cpu().numpy())
            write_array(folder / split / "indices.npy", indices)
            write_array(folder / split / "similarities.npy", similarities)
            purity[split] = purities(indices, store.labels(split))
        metrics = {split: {f"purity@{k}": p for k, p in by_k.items()} for split, by_k in purity.items()}
        if purity["train"] and purity["held_out"]:
            votes = vote_size(store.info.train, len(set(store.labels("train").tolist()) - {UNKNOWN}))
            indices, similarities = nearest_in(
                compared["held_out"], compared["train"], k=votes, settings=settings, device=device
            )
            label = store.labels("train")[indices]
            metrics["held_out"]["knn_acc"] = knn_accuracy(similarities, label, store.labels("held_out"))
        write_json(folder / "metrics.json", metrics)
        card = card_for("mine-neighbors", store.info, settings, parent=sha256(weights_path(pretrained)))
        write_json(folder / "card.json", asdict(card))
        write_csv(folder / "purity.csv", [{"k": k, "purity": p} for k, p in purity["train"].items()])
    return purity["train"]
