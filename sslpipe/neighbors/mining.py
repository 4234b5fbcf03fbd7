"""Settings of the neighbour search and of the mine-neighbors stage."""

from dataclasses import dataclass
from typing import Literal

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Settings of the neighbour search.

    The default never chooses ivf or hnsw: they miss neighbours, and save time only for many images.
    """

    backend: Literal["auto", "torch", "faiss"] = "auto"
    """auto: faiss for the indices ivf and hnsw, torch for all others (faster than faiss on the CPU, see
    benchmarks/mining.py)."""
    index: Literal["auto", "exact", "reduced", "ivf", "hnsw"] = "auto"
    """exact: all images are compared. reduced: candidates are searched in 256 principal components and then compared in
    all dimensions; a line gives the share of exact neighbours found for a sample. ivf: images are divided into `lists`
    groups, and only the groups nearest to an image are searched. hnsw: a graph of images is followed to the nearest
    (Malkov and Yashunin 2016, arXiv:1603.09320). Both measure the share that they find, see `recall`, and compare all
    images where that is no dearer. auto: on a CPU, for more than 50,000 images of at least 1,024 dimensions, reduced,
    or exact where that finds less than 99.9 %; else exact."""
    recall: Fraction = 0.99
    """Least share of their exact neighbours that ivf and hnsw must find for 500 images, and for 500 others, whose share
    is in metrics.json (own choice); ivf searches the fewest groups, and hnsw the fewest images, that find it. More: a
    more exact search, slower; 1: all of them."""
    lists: Count | None = None
    """Number of groups of the ivf index; null: 4·√N (faiss' guidelines), with at least 39 images per group. More:
    smaller groups, so a faster but less exact search with as many `probes`."""
    probes: Count | None = None
    """Number of groups of the ivf index searched per image; null: as many as `recall` needs. More: a more exact search,
    slower."""


@dataclass(frozen=True, kw_only=True)
class MiningSettings(SearchSettings):
    """The block `mine_neighbors`: number of neighbours, the compared features and the search."""

    k: Count = 20
    """Neighbours of each training image. SCAN (Van Gansbeke et al. 2020, arXiv:2005.12320): the public code mines 20 on
    small data sets and 50 on ImageNet, the paper clusters with 5. More: more links for `cluster`, more of them wrong,
    slower."""
    held_out_k: Count = 5
    """Neighbours of each held-out image among the held-out images (SCAN's public code). More: a measure over more
    pairs, of which more are wrong."""
    layer: Literal["backbone", "head"] = "backbone"
    """Output that is compared: the features of the backbone, or the output of the pretext head for them."""


def check_counts(settings: MiningSettings, info: StoreInfo) -> None:
    """Raise UserError if a split has no more images than the number of neighbours per image."""
    for key, k, count, split, hint in (
        ("k", settings.k, info.train, "training", ""),
        ("held_out_k", settings.held_out_k, info.held_out, "held-out", "; raise prepare.held_out"),
    ):
        if k >= count:
            raise UserError(
                f"mine_neighbors.{key}: {k} is more than the {max(count - 1, 0)} other {split} images{hint}"
            )
