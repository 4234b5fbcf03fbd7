"""Labels that no person gave: the groups of those images whose neighbours agree with their group.

So a method with few labels learns without any (SPICE, Niu et al. 2022, arXiv:2103.09382). Its classes are the groups.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import UNKNOWN, Store
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, Range
from sslpipe.io.text import counted, listed
from sslpipe.metrics.agreement import reliable_images
from sslpipe.nets.inference import head_logits, infer
from sslpipe.nets.network import Network
from sslpipe.running.features import find_features
from sslpipe.running.starts import Entry
from sslpipe.running.stored_inputs import mined_files, read_mined

NEIGHBORS = 100
"""Neighbours that are counted if as many are mined (the public code of SPICE)."""


@dataclass(frozen=True, kw_only=True)
class ReliableSettings:
    """Which images have reliable labels."""

    agreement: Fraction = 0.95
    """Share of an image's neighbours that must be in its group (SPICE's public code: 0.9 for STL-10, 0.99 for
    CIFAR-10). Larger: fewer images, of surer groups."""
    neighbors: Count | None = None
    """Mined neighbours of each image that are counted, the nearest ones; null: 100 (SPICE's public code), or
    mine_neighbors.k if fewer are mined. More: wider surroundings of an image decide."""
    share: Annotated[float, Range(above=0, high=1)] = 1.0
    """Largest share of a group's images that have reliable labels, the most confident ones. Larger: more labels, the
    later ones of less certain images."""


@dataclass(frozen=True, kw_only=True)
class SemisupEntry(Entry):
    """One method that runs: an entry of semisup.methods."""

    labels: Literal["given", "reliable"] = "given"
    """What the method learns from. given: the labelled images. reliable: no label; the groups of the model to start
    from, of those images whose neighbours agree (SPICE, arXiv:2103.09382). The model then predicts clusters."""
    reliable: ReliableSettings = ReliableSettings()
    """Which images have reliable labels, with `labels: reliable`."""


@dataclass(frozen=True)
class ReliableLabels:
    """Reliable labels, and what identifies them."""

    labelled: LabelledImages
    files: Sequence[Path]
    """Files that they were made from."""
    neighbors: NDArray[Any]
    """[N, k], the mined neighbours of the training images."""
    metadata: dict[str, Any]
    """Numbers of images and groups, and the settings, for model.json."""


def reliable_labels(
    where: str,
    settings: ReliableSettings,
    network: Network,
    folder: Path,
    images: Images,
    store: Store,
    *,
    featured: Path,
    mined: Path,
) -> ReliableLabels:
    """Return the training images whose groups, by a model, serve as labels; prints lines that say which they are.

    where: the params key of the method's entry. network: that of `folder`, on the device of the images. featured,
    mined: folders of the stages features, which is used if it has the features of the network, and mine-neighbors.
    Groups without a reliable image are left out, and the others are numbered anew. Raises UserError for neighbours
    that do not fit, for more neighbours than are mined, and for reliable images in fewer than two groups.
    """
    mined_neighbors, _ = read_mined(mined, store)
    count = settings.neighbors or min(NEIGHBORS, mined_neighbors.shape[1])
    if count > mined_neighbors.shape[1]:
        raise UserError(
            f"{where}.reliable.neighbors: {count} asked, {mined_neighbors.shape[1]} mined; raise mine_neighbors.k"
        )
    stored, training = find_features(featured, store, folder), network.training
    logits = infer(network.eval(), images) if stored is None else head_logits(network, stored.split("train"))
    network.train(training)
    confidence, group = (each.cpu().numpy() for each in logits.softmax(dim=1).max(dim=1))
    index = reliable_images(
        group, confidence, mined_neighbors[:, :count], agreement=settings.agreement, share=settings.share
    )
    kept = np.unique(group[index])
    _check_groups(where, settings, group, kept)
    info(
        f"{where}: labels of {len(index)} of {counted(len(group), 'image')} in {len(kept)} of {logits.shape[1]} groups "
        f"of {folder}, with at least {settings.agreement:g} of {count} neighbours in their group"
        f"{_purity(store, index, group[index])}; {where}.reliable.agreement and .share change them"
    )
    label = torch.from_numpy(np.searchsorted(kept, group[index])).to(images.device)
    names = tuple(f"cluster {each}" for each in range(len(kept)))
    labelled = LabelledImages(images, torch.from_numpy(index).to(images.device), label, names)
    files = [*mined_files(mined)[:1], *([] if stored is None else [stored.card])]
    found = {"images": len(index), "groups": len(kept), **asdict(settings), "neighbors": count}
    return ReliableLabels(labelled, files, mined_neighbors, found)


def _check_groups(where: str, settings: ReliableSettings, group: NDArray[np.int64], kept: NDArray[np.int64]) -> None:
    """Print a line for groups without a reliable image; raise UserError if fewer than two have one."""
    used = np.unique(group)
    if len(kept) < 2:
        raise UserError(
            f"{where}.reliable.agreement: with {settings.agreement:g}, {len(kept)} of {len(used)} groups have reliable "
            "images, expected at least 2; lower it"
        )
    lost = np.setdiff1d(used, kept)
    if len(lost):
        info(
            f"{where}: {len(lost)} of {len(used)} groups are left out, since none of their images is reliable "
            f"({listed(map(str, lost))}), so the model has {len(kept)} clusters; a lower {where}.reliable.agreement "
            "keeps more"
        )


def _purity(store: Store, index: NDArray[np.int64], group: NDArray[np.int64]) -> str:
    """Say which share of images has the most frequent class of their group, for show alone; "" without labels.

    index, group: [L], the images and their groups. Labels are no dependency of the stage, since nothing depends on
    them, and may be missing.
    """
    try:
        label = store.labels("train")[index]
    except UserError:
        return ""
    known = int((label != UNKNOWN).sum())
    if not known:
        return ""
    from sslpipe.metrics.clustering import many_to_one_accuracy  # scikit-learn takes a second to load

    share, _ = many_to_one_accuracy(group, label)
    return f"; purity {share:.3f}" + ("" if known == len(index) else f" of the {known} with a known class")
