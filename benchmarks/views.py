"""Views alone, images a second: this project's beside what one would write with torchvision or kornia.

PIL and tensors: torchvision's v2 transforms, image by image, in a DataLoader with a process a core. kornia: a batch at
once with parameters per image. All make float images in [0, 1]; none normalises. The policies are those of SimCLR for
CIFAR (crop, flip, jitter, grey) and SCAN's strong one (flip, four random operations, Cutout), for which the others
have the same fourteen operations under the name RandAugment, with ranges of their own.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.measure import interleave
from benchmarks.report import Options, Table
from benchmarks.steps import images
from sslpipe.io.own_process import available_cores
from sslpipe.views.policies import Views, ViewSettings

BATCH = 256


class Transformed(Dataset[Tensor]):
    """uint8 images [N, C, H, W], each transformed when it is asked for."""

    def __init__(self, array: NDArray[np.uint8], transform: Callable[[Any], Tensor], *, pil: bool) -> None:
        self.array, self.transform, self.pil = array, transform, pil

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: int) -> Tensor:
        image: Any = self.array[place]
        image = Image.fromarray(image.transpose(1, 2, 0)) if self.pil else torch.from_numpy(image)
        return self.transform(image)


def torchvision_transform(policy: str, size: int, *, pil: bool) -> Callable[[Any], Tensor]:
    """The policy out of torchvision's parts."""
    finish = [v2.ToImage()] if pil else []
    finish += [v2.ToDtype(torch.float32, scale=True)]
    if policy == "simclr":
        jitter = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
        crop = v2.RandomResizedCrop(size, scale=(0.2, 1.0))
        return v2.Compose([crop, v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(0.2), *finish])
    cutout = v2.RandomErasing(p=1.0, scale=(0.001, 0.25), ratio=(1.0, 1.0))
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandAugment(num_ops=4), *finish, cutout])


def kornia_transform(policy: str, size: int) -> Callable[[Tensor], Tensor]:
    """The policy out of kornia's parts."""
    import kornia.augmentation as K

    if policy == "simclr":
        crop = K.RandomResizedCrop((size, size), scale=(0.2, 1.0))
        jitter = K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)
        return K.AugmentationSequential(crop, K.RandomHorizontalFlip(), jitter, K.RandomGrayscale(p=0.2))
    erase = K.RandomErasing(scale=(0.001, 0.25), ratio=(1.0, 1.0), p=1.0)
    return K.AugmentationSequential(K.RandomHorizontalFlip(), K.auto.RandAugment(4, 10), erase)


def implementations(policy: str, size: int, count: int, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """Each makes one view of all images, batch by batch, and returns the last batch."""
    store = images(count, 3, size, device)
    own, generator = Views(ViewSettings(policy=policy), [0.5] * 3), torch.Generator(device)
    workers = available_cores()

    def ours() -> Tensor:
        for start in range(0, count, BATCH):
            views = own(store[torch.arange(start, start + BATCH, device=device)], generator)
        return views

    def loaded(loader: "DataLoader[Tensor]") -> Callable[[], Tensor]:
        def work() -> Tensor:
            for views in loader:
                last = views.to(device, non_blocking=True)
            return last

        return work

    found = {"sslpipe": ours}
    for name, pil in (("PIL in a DataLoader", True), ("v2 tensors in a DataLoader", False)):
        data = Transformed(store.array, torchvision_transform(policy, size, pil=pil), pil=pil)
        loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
        found[name] = loaded(loader)
    try:
        transform = kornia_transform(policy, size)
    except ImportError:
        return found

    def by_kornia() -> Tensor:
        for start in range(0, count, BATCH):
            views = transform(store[torch.arange(start, start + BATCH, device=device)].float() / 255)
        return views

    return {**found, "kornia": by_kornia}


def check(made: dict[str, Callable[[], Tensor]], shape: tuple[int, ...]) -> None:
    """All make images of that shape in [0, 1], of about the same brightness."""
    means = {}
    for name, work in made.items():
        views = work()
        assert views.shape == shape, (name, views.shape)
        low, high = views.aminmax()
        assert low >= -1e-5, name
        assert high <= 1 + 1e-5, name
        if name != "kornia":  # draws its operations once a batch, so that one batch is dark and the next one bright
            means[name] = views.mean().item()
    assert max(means.values()) - min(means.values()) < 0.12, means


def measure(options: Options) -> list[Table]:
    rows = []
    for policy in ("simclr", "strong"):
        for size, count in ((32, BATCH), (96, BATCH)) if options.quick else ((32, 2048), (96, 512)):
            made = implementations(policy, size, count, options.device)
            check(made, (BATCH, 3, size, size))
            turns = interleave(made, rounds=1 if options.quick else 5)
            rows += [[policy, size, name, turns.rate(name, count), turns.ratio(name, "sslpipe")] for name in made]
    columns = ("policy", "side", "", "images a second", "time over sslpipe's")
    note = f"{torch.get_num_threads()} threads, {available_cores()} processes in a DataLoader, {options.device.type}."
    return [Table("Views", columns, rows, note)]
