"""The images that the report shows: all of the store, or a sample of very many."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.store import SPLITS, UNKNOWN, Split, Store
from sslpipe.nets.inference import infer


@dataclass(frozen=True)
class ShownImages:
    """N images of a store, in the order train, held_out, test, and in the store's order within a split."""

    store: Store
    index: dict[Split, NDArray[np.int64]]
    """Their indices within each split, ascending."""

    def __len__(self) -> int:
        return sum(map(len, self.index.values()))

    @cached_property
    def split(self) -> NDArray[np.uint8]:
        """[N], 0 for train, 1 for held_out, 2 for test."""
        return np.repeat(np.arange(3, dtype=np.uint8), [len(self.index[split]) for split in SPLITS])

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """[N], UNKNOWN (-1) if it is not known."""
        return np.concatenate([np.asarray(self.store.labels(split))[self.index[split]] for split in SPLITS])

    @property
    def known(self) -> NDArray[np.bool_]:
        """[N], whether the label is known."""
        known: NDArray[np.bool_] = self.label != UNKNOWN
        return known

    @cached_property
    def given(self) -> NDArray[np.bool_]:
        """[N], whether the label was given for training."""
        labelled = self.store.labelled()[0]
        train = np.isin(self.index["train"], labelled)
        return np.concatenate([train, np.zeros(len(self) - len(train), bool)])

    @property
    def scored(self) -> NDArray[np.bool_]:
        """[N], whether evaluate scores the image: those of test, or with protocol full of train and held_out."""
        return np.isin(self.split, [SPLITS.index(split) for split in self.store.scored_splits])

    @cached_property
    def names(self) -> list[str]:
        """The name of each image in its source."""
        names: list[str] = []
        for split in SPLITS:
            of_split = self.store.files(split) if len(self.index[split]) else []
            names += [of_split[i] for i in self.index[split].tolist()]
        return names

    def take(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images with these indices among the N, [L], in this order: uint8 [L, C, H, W]."""
        info = self.store.info
        result = np.empty((len(wanted), info.channels, info.size, info.size), np.uint8)
        start = 0
        for split in SPLITS:
            index = self.index[split]
            inside = np.flatnonzero((wanted >= start) & (wanted < start + len(index)))
            if len(inside):
                result[inside] = self.store.images(split)[index[wanted[inside] - start]]
            start += len(index)
        return result

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the images in order, in chunks [size, C, H, W], the last of which may be smaller."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def forward(self, function: Callable[[Tensor], Tensor], device: torch.device, title: str) -> Tensor:
        """Return a function's output for all images, float32 [N, …] on the device; see `infer`. title: "" for none."""
        parts = []
        for split in SPLITS:
            if len(index := self.index[split]):
                array = self.store.images(split)
                images = Images(array if len(index) == len(array) else array[index], device)
                parts.append(infer(function, images, title=title and f"{title}, {split}"))
        return torch.cat(parts)


def choose_shown(store: Store, most: int, seed: int) -> ShownImages:
    """Return all images of a store, or a uniform sample of `most` if there are more."""
    counts = [store.info.count(split) for split in SPLITS]
    total = sum(counts)
    chosen = np.arange(total)
    if total > most:
        chosen = np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
    starts = np.cumsum([0, *counts])
    index = {
        split: chosen[(chosen >= start) & (chosen < stop)] - start
        for split, start, stop in zip(SPLITS, starts, starts[1:], strict=False)
    }
    return ShownImages(store, index)
