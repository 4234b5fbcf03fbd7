"""Infinite streams of batches, unlabelled, labelled or both; a batch depends only on the seed and the step.

So a run can resume at any step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.images import Images, StepImages, on_device
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.memory import fits, free_memory
from sslpipe.data.seeds import RandomStream, mix, seed_of_step
from sslpipe.io.errors import UserError

AHEAD = 2
"""Number of batches that are read ahead of the one in use (own choice)."""
LABELLED_BYTES = 2 * 2**30
"""Maximum size of the labelled images that are kept on the device if not all images fit: 1 % of ImageNet's at 224 px,
12,811, are 1.9 GB (own choice)."""


@dataclass(frozen=True)
class Batch:
    """A batch of images without labels; methods with few labels get a `Pair` with a labelled batch."""

    image: Tensor
    """uint8 [B / N, C, H, W], on the device: this process's images, of N processes; all with one. [0, C, H, W] in a
    step that needs no images."""
    index: Tensor
    """int64 [B], the indices of all images in their split, on the device."""
    neighbor: Tensor | None = None
    """int64 [B], the index of one neighbour of each image, on the device; None without `Needs.neighbors`."""
    neighbor_image: Tensor | None = None
    """uint8 [B / N, C, H, W], the images of `neighbor`, as `image`; None without `Needs.neighbors`."""

    def __len__(self) -> int:
        """B, the number of images of all processes."""
        return len(self.index)


def every_step(step: int) -> bool:
    """Return True for every step."""
    return True


@dataclass(frozen=True)
class Needs:
    """What a method needs of its batches besides the indices, so that nothing else is read and all of it ahead."""

    images: Callable[[int], bool] = every_step
    """Step (0-based) → whether it needs the images of its batch, and those of the neighbours."""
    neighbors: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """(indices of a batch, int64 [B], generator) → the index of one neighbour of each, int64 [B], all on the CPU."""


class Batches:
    """Random batches of a fixed size, without replacement within an epoch; the last, smaller batch is dropped."""

    def __init__(
        self,
        images: Images,
        size: int,
        *,
        seed: int,
        where: str = "batch",
        needs: Needs = Needs(),
    ) -> None:
        """size: number of images per batch. where: the params key of `size`, for the error if it is too large."""
        if size > len(images):
            raise UserError(f"{where}: {size} is more than the {len(images)} training images")
        self.images = images
        self.size = size
        self.seed = seed
        self.needs = needs
        self.steps_per_epoch = len(images) // size
        self._step_images = StepImages(images)
        self._orders: dict[int, Tensor] = {}
        """Epoch → its order [N] on the CPU, for the last two."""

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
        return self.images.device

    def at(self, step: int, generator: torch.Generator | None = None) -> Batch:
        """Return the batch of a step (0-based) without waiting for the device.

        generator: on the CPU, seeded by `seed_of_step`, from which the neighbours are drawn first of all; None: a new
        one.
        """
        places = self._places(step, generator)
        sent = on_device(places, self.device)
        image = self._images_at(step, places, sent) if self.needs.images(step) else self.images.none()
        if self.needs.neighbors is None:
            return Batch(image=image, index=sent)
        (index, neighbor), (image, neighbor_image) = sent.chunk(2), image.tensor_split(2)
        return Batch(image=image, index=index, neighbor=neighbor, neighbor_image=neighbor_image)

    def _images_at(self, step: int, places: Tensor, sent: Tensor) -> Tensor:
        """Return this process's images of a step, of all that `_places` returns."""
        coming = [later for later in range(step + 1, step + 1 + AHEAD) if self.needs.images(later)]
        return self._step_images.at(
            step, lambda n: world.own(places if n == step else self._places(n)), world.own(sent), coming
        )

    def _places(self, step: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the indices of a step's images, int64 [B] on the CPU, or [2B] with those of the neighbours."""
        epoch, start = divmod(step, self.steps_per_epoch)
        if epoch not in self._orders:
            drawn = torch.Generator().manual_seed(mix(self.seed, RandomStream.EPOCH_ORDER, epoch))
            order = torch.randperm(len(self.images), generator=drawn)
            self._orders = {epoch: order} | dict(list(self._orders.items())[:1])
        index = self._orders[epoch][start * self.size : (start + 1) * self.size]
        if self.needs.neighbors is None:
            return index
        generator = generator or torch.Generator().manual_seed(seed_of_step(self.seed, step))
        return torch.cat([index, self.needs.neighbors(index, generator)])


@dataclass(frozen=True)
class LabelledBatch:
    """A batch of labelled images, which has an image twice if one pass over them ends in it and the next begins."""

    image: Tensor
    """uint8 [B / N, C, H, W], on the device: this process's images, of N processes; all with one."""
    index: Tensor
    """int64 [B], the indices of all images among the L labelled images, on the device."""
    label: Tensor
    """int64 [B], their classes, on the device."""

    def __len__(self) -> int:
        """B, the number of images of all processes."""
        return len(self.index)


class LabelledBatches:
    """Infinite stream of labelled batches, cut from consecutive random orders of the L images without dropping any."""

    def __init__(self, labelled: LabelledImages, size: int, *, seed: int) -> None:
        """size: number of images per batch, at least 1; if it is more than L, a batch has images several times."""
        self.labelled = labelled
        self.size = size
        self.seed = seed
        self._orders: dict[int, Tensor] = {}
        """Pass → its order [L] on the CPU, for the passes in the last batches."""

    def at(self, step: int) -> LabelledBatch:
        """Return the batch of a step (0-based) without waiting for the device."""
        places = self._places(step)
        sent = on_device(places, self.labelled.images.device)
        images, index, index_on_device = self._source
        image = images.at(
            step,
            lambda n: index[world.own(places if n == step else self._places(n))],
            index_on_device[world.own(sent)],
            range(step + 1, step + 1 + AHEAD),
        )
        return LabelledBatch(image=image, index=sent, label=self.labelled.label[sent])

    @cached_property
    def _source(self) -> tuple[StepImages, Tensor, Tensor]:
        """The images that batches are cut from; the labelled ones' indices in it, [L] on the CPU and on the device."""
        labelled, images = self.labelled, self.labelled.images
        size = len(labelled) * images.array.nbytes // len(images)
        if images.is_loaded or size > LABELLED_BYTES or not fits(size, images.device, free_memory(images.device)):
            return StepImages(images), labelled.index.cpu(), labelled.index
        every = torch.arange(len(labelled))
        return StepImages(images.subset(labelled.index)), every, every.to(images.device)

    def _places(self, step: int) -> Tensor:
        """Return the indices of a step's images among the labelled ones, int64 [B] on the CPU."""
        start = step * self.size
        first, skipped = divmod(start, len(self.labelled))
        passes = range(first, (start + self.size - 1) // len(self.labelled) + 1)
        for number in passes:
            if number not in self._orders:
                self._orders[number] = self._draw(number)
        wanted = range(passes[0] - AHEAD * len(passes), passes[-1] + AHEAD * len(passes) + 1)
        self._orders = {number: order for number, order in self._orders.items() if number in wanted}
        return torch.cat([self._orders[number] for number in passes])[skipped : skipped + self.size]

    def _draw(self, number: int) -> Tensor:
        """Return the random order of a pass."""
        generator = torch.Generator().manual_seed(mix(self.seed, RandomStream.LABELLED_ORDER, number))
        return torch.randperm(len(self.labelled), generator=generator)


@dataclass(frozen=True)
class Pair:
    """A labelled and an unlabelled batch, the input of a semi-supervised method."""

    labelled: LabelledBatch
    unlabelled: Batch


@dataclass(frozen=True)
class PairedBatches:
    """Stream of pairs of labelled and unlabelled batches; an epoch is a pass over the unlabelled images."""

    unlabelled: Batches
    labelled: LabelledBatches

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
        return self.unlabelled.device

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in a pass over the unlabelled images."""
        return self.unlabelled.steps_per_epoch

    def at(self, step: int, generator: torch.Generator | None = None) -> Pair:
        """Return the pair of a step (0-based); generator: see `Batches.at`."""
        return Pair(unlabelled=self.unlabelled.at(step, generator), labelled=self.labelled.at(step))


Stream = Batches | PairedBatches
"""A stream of batches, as the training loop uses it; which one depends on the method."""
