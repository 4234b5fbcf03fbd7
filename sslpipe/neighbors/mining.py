"""Settings of the mine-neighbors stage."""

from dataclasses import dataclass
from typing import Literal

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count
from sslpipe.neighbors.search import SearchSettings


@dataclass(frozen=True, kw_only=True)
class MiningSettings(SearchSettings):
    """How many neighbours are mined, where, and how they are searched."""

    k: Count = 20
    """Of each training image (SCAN's public code: 20 on small sets, 50 on ImageNet; the paper clusters with 5)."""
    held_out_k: Count = 5
    """Of each held-out image, among the held-out ones (SCAN's public code)."""
    layer: Literal["backbone", "head"] = "backbone"
    """Whose output is compared: the backbone's features or the pretext head's. Stored are the features either way."""


def check_counts(settings: MiningSettings, info: StoreInfo) -> None:
    """Raise UserError where a split has too few images for the neighbours that are asked for."""
    for key, k, count, hint in (
        ("k", settings.k, info.train, ""),
        ("held_out_k", settings.held_out_k, info.held_out, "; raise prepare.held_out"),
    ):
        if k >= count:
            raise UserError(f"mine_neighbors.{key}: {k} asked, {max(count - 1, 0)} other images there{hint}")
