"""Image stores, models and stored features written by hand, for tests that need no whole project."""

import json
from dataclasses import asdict

import numpy as np

from sslpipe.data.store import SPLITS, Store, StoreInfo
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.network import BackboneSettings, build_network


def write_store(folder, images, fingerprint="f" * 64):
    """A store of images, split → uint8 [N, C, H, W], without labels; splits that are not given are empty."""
    first = next(iter(images.values()))
    count = {split: len(images.get(split, ())) for split in SPLITS}
    channels, size = first.shape[1:3]
    statistics = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    info = StoreInfo(size=size, channels=channels, protocol="split", fingerprint=fingerprint, **statistics, **count)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "store.json").write_text(json.dumps(asdict(info)))
    for split, array in images.items():
        (folder / split).mkdir()
        np.save(folder / split / "images.npy", array)
    return Store(folder)


def write_model(folder, store, **backbone):
    """A new network for the images of a store, tiny_resnet by default, as pretrain writes it."""
    network = build_network(BackboneSettings(**(backbone or {"name": "tiny_resnet"})), store.info)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, network, card_for("pretrain", store.info, {}, parent=None))
    return network.eval()


def write_stored_features(folder, store, model, features):
    """Features by split, [N, D], as the stage features writes them."""
    dimension = next(iter(features.values())).shape[1]
    for split in SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
        array = features.get(split, np.empty((0, dimension)))
        np.save(folder / split / "features.npy", array.astype(np.float16))
    card = card_for("features", store.info, {}, parent=None)
    about = {"backbone": backbone_fingerprint(model), "dimension": dimension, "parts": [dimension]}
    (folder / "card.json").write_text(json.dumps({**asdict(card), **about}))
