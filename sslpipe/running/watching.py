"""What is measured of a training run while it goes on: kNN accuracy of its features, and its first views as images.

This is the one place where a stage that learns without labels opens the labels of the store. They reach the live folder
alone, not the method and no output, so that a run is the same with and without them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.data.samples import sampled
from sslpipe.data.store import UNKNOWN, Split, Store
from sslpipe.engine.live import Live, Log, Sheet
from sslpipe.engine.method import BaseMethod
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.params import find_module
from sslpipe.metrics.neighbors import knn_accuracy, vote_size
from sslpipe.nets.inference import infer
from sslpipe.running.inputs import Inputs

LIVE = "live"
"""Folder, beside the stages' outputs, with a folder for each run."""
COUNTS: Mapping[Split, int] = {"train": 2000, "held_out": 500}
"""Largest number of images with known labels that the kNN accuracy uses (own choice)."""
AFTER = 5.0
"""Seconds of training before which no kNN accuracy is measured: short runs need none (own choice)."""
SHARE = 0.02
"""Largest share of the training time that is spent on it (own choice)."""
FORWARD_SHARE = 1 / 3
"""Time of a forward pass, as a share of that of a training step on as many images, at most (the backward pass takes two
thirds), from which the time of the first measurement is estimated."""
SHEET = 64
"""Largest number of images in a sheet (own choice)."""

Logs = Mapping[str, Callable[[Path], Log]]


def live_folder(out: Path, stage: str) -> Path:
    """Return the live folder of a run with the output folder `out`, such as runs/live/semisup/fixmatch."""
    if out.parent.name == stage:  # runs/<stage>/<method>
        return out.parent.parent / LIVE / stage / out.name
    return out.parent / LIVE / out.name


def find_logs(names: Sequence[str] | None, *, where: str = "--log") -> Logs:
    """Return name → class `Log`. Raises UserError for an unknown name, and if its package is not installed."""
    return {name: find_module("sslpipe.engine.logs", name, where=where).Log for name in names or ()}


def open_live(method: Any, inputs: Inputs, out: Path, logs: Logs) -> Live:
    """Return the live folder of a training run, with the measurements that fit its method.

    method: on its device; a forward hook on it may be left until the first training step.
    """
    measure: dict[str, Any] = {}
    if isinstance(method, BaseMethod) and inputs.settings.fit is not None:
        if method.watched() is not None:
            measure["measure"] = KnnAccuracy(method, inputs.store, inputs.images.device)
        if logs and hasattr(method, "network"):
            measure["sheets"] = FirstViews(method, inputs.settings.fit.batch).take
    return Live(live_folder(out, inputs.stage), logs=logs, **measure)


class KnnAccuracy:
    """Accuracy of held-out images by a vote of their nearest training images, as a column of pace.csv.

    The classifier is `metrics.neighbors.knn_accuracy`, on samples of fixed seed of the images with known labels. It is
    measured only as often as SHARE allows, and changes nothing of the run: the network is in eval mode meanwhile, and
    random state is restored.
    """

    def __init__(self, method: BaseMethod, store: Store, device: torch.device) -> None:
        self.method, self.store, self.device = method, store, device
        self.spent = 0.0
        """Seconds spent on it in this process."""
        self._last: float | None = None
        """Seconds that the last one took."""
        self._samples: list[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None
        """Indices and labels of the images in each split of COUNTS."""
        self._off = False

    def __call__(self, seconds: float, rate: float) -> dict[str, float]:
        """Return {"knn_acc": accuracy}, or {} if there are no labels or it would take too long.

        seconds: of training in this process. rate: images per second of training.
        """
        count = sum(min(most, self.store.info.count(split)) for split, most in COUNTS.items())
        expected = FORWARD_SHARE * count / rate if self._last is None else self._last
        if self._off or seconds < AFTER or self.spent + expected > SHARE * (seconds - self.spent):
            return {}
        began = time.monotonic()
        try:
            return self._measured()
        except (UserError, torch.OutOfMemoryError) as error:  # labels that are not there, a full device
            self._off = True
            info(f"{LIVE}: no kNN accuracy is measured: {str(error).splitlines()[0]}")
            return {}
        finally:
            self._last = time.monotonic() - began
            self.spent += self._last

    def _measured(self) -> dict[str, float]:
        if self._samples is None:
            self._samples = [known_sample(self.store, split, count) for split, count in COUNTS.items()]
        (bank, bank_label), (query, label) = self._samples
        if not len(bank) or not len(query):
            self._off = True
            return {}
        network: Any = self.method.watched()
        with undisturbed(network):
            features = [self._features(network, "train", bank), self._features(network, "held_out", query)]
        votes = vote_size(len(bank), len(np.unique(bank_label)))
        similarity, nearest = (features[1] @ features[0].T).topk(votes, dim=1)
        votes_label = bank_label[nearest.cpu().numpy()]
        return {"knn_acc": knn_accuracy(similarity.cpu().numpy(), votes_label, label)}

    def _features(self, network: Any, split: Split, index: NDArray[np.int64]) -> Tensor:
        """Unit features [M, D] of the images with these indices."""
        images = Images(self.store.images(split)[index], self.device)
        return F.normalize(infer(network.features, images), dim=1)


def known_sample(store: Store, split: Split, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of at most `most` images of a split with known labels, a sample of fixed seed, and the labels."""
    label = np.asarray(store.labels(split))
    known = np.flatnonzero(label != UNKNOWN)
    index = known[sampled(len(known), most, 0)]
    return index, label[index]


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode; afterwards its modules have their modes again, and random state is as before."""
    modes = [(module, module.training) for module in network.modules()]
    weight = next(network.parameters())
    with torch.random.fork_rng([weight.device] if weight.is_cuda else []):
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


class FirstViews:
    """The images of the first training step as the backbone receives them, after augmentation, at most SHEET a pass.

    A hook on the backbone sees them, so that no random number is drawn for it; it is removed afterwards.
    """

    def __init__(self, method: Any, batch: int) -> None:
        """method: has a network, sslpipe.nets.network.Network. batch: images per step."""
        self._method, self._batch = method, batch
        self._step: int | None = None
        self._sheets: list[Sheet] = []
        self._hook = method.network.backbone.register_forward_pre_hook(self._see)

    def take(self) -> list[Sheet]:
        """Return the sheets that were not yet taken."""
        sheets, self._sheets = self._sheets, []
        return sheets

    def _see(self, backbone: nn.Module, given: tuple[Tensor, ...]) -> None:
        step = self._method.progress.step
        if self._step is not None and step != self._step:
            self._hook.remove()
        elif backbone.training:  # not for pseudo-labels, which are of the images as they are
            network, self._step = self._method.network, step
            images = side_by_side(given[0].detach(), self._batch) * network.std + network.mean
            self._sheets.append((f"views/{len(self._sheets) + 1}", images.float().clamp(0, 1), step))


def side_by_side(images: Tensor, batch: int) -> Tensor:
    """Return at most SHEET of the images [M, C, H, W] of a pass.

    Several views of each image of a batch, which come one batch after the other, are put side by side; of other passes
    the images are spread over all, so that each kind is shown.
    """
    views, rest = divmod(len(images), batch)
    if views and not rest:
        shown = max(1, SHEET // views)
        by_view = images.reshape(views, batch, *images.shape[1:])
        return by_view[:, :shown].transpose(0, 1).flatten(0, 1)[:SHEET]
    return images[torch.linspace(0, len(images) - 1, min(len(images), SHEET), device=images.device).long()]
